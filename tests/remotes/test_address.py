from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.errors import RemoteError, StoreError, UsageError
from modelstore.remotes.address import parse_address
from modelstore.remotes.directory import DirectoryRemote
from modelstore.remotes.opening import open_remote
from modelstore.remotes.web import WebRemote


@pytest.mark.parametrize(
    ("text", "scheme", "place", "path", "options"),
    [
        ("/mnt/x", "file", "", "/mnt/x", {}),
        ("./x", "file", "", "x", {}),
        ("my backups", "file", "", "my backups", {}),
        ("file:///mnt/a%20b", "file", "", "/mnt/a b", {}),
        ("s3://bucket", "s3", "bucket", "", {}),
        ("S3://bucket/p/q/", "s3", "bucket", "p/q", {}),
        (
            "s3://b.c-d/p?endpoint=http://h:1&region=r",
            *("s3", "b.c-d", "p", {"endpoint": "http://h:1", "region": "r"}),
        ),
        ("gs://bucket/p", "gs", "bucket", "p", {}),
        ("az://container/p?account=me", "az", "container", "p", {"account": "me"}),
        ("https://host:8080/p/q", "https", "host:8080", "p/q", {}),
        ("http://[::1]:80", "http", "[::1]:80", "", {}),
    ],
)
def test_addresses(text: str, scheme: str, place: str, path: str, options: dict[str, str]) -> None:
    """Every kind of address is taken apart."""
    found = parse_address(text)
    assert (found.scheme, found.place, found.path) == (scheme, place, path)
    assert dict(found.options) == options


@pytest.mark.parametrize(
    "text",
    [
        "s3://AKIA:hush@bucket/p",
        "s3://hush@bucket",
        "s3://bucket/p?endpoint=http://me:hush@host",
        "s3://bucket?secret_access_key=hush",
        "s3://bucket?X-Amz-Signature=hush",
        "https://me:hush@host/p",
        "https://host/p?token=hush",
        "https://host/p?sv=2021&se=2027&sig=hush",
        "az://container?sas_key=hush",
        "gs://bucket?token=hush",
    ],
)
def test_credentials_are_refused_and_not_repeated(text: str) -> None:
    """An address with credentials is refused with what to do instead, and does not come back."""
    with pytest.raises(UsageError, match="credentials") as caught:
        parse_address(text)
    assert "hush" not in caught.value.message + caught.value.hint
    assert "set " in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        *("", "  ", "\0", "s3://", "s3://B_D", "s3:bucket", "s3://b/../c", "s3://bucket/a\nb"),
        *(
            "ftp://host/x",
            "memory://",
            "http://",
            "https:///p",
            "file://host/x",
            "http://host:port/",
        ),
        *("s3://bucket?colour=red", "s3://bucket?endpoint=host", "gs://bucket?endpoint=http://h"),
        *("s3://bucket?region=a&region=b", "https://host/p?page=2", "s3://bucket#x", "http://[::1"),
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    """Unknown kinds, options and names are refused in one sentence."""
    with pytest.raises(UsageError):
        parse_address(text)


@pytest.mark.parametrize("text", ["ssh://me@host/x", "sftp://host/x"])
def test_ssh_is_refused_with_what_to_use_instead(text: str) -> None:
    """Mstore does not speak ssh; the hint says how to have such a directory all the same."""
    with pytest.raises(UsageError, match="does not speak") as caught:
        parse_address(text)
    assert "sshfs" in caught.value.hint


@given(st.text(max_size=60) | st.from_regex(r"(s3|az|gs|http|file)://[ -~]{0,30}", fullmatch=True))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    """Nothing that can be typed fails otherwise."""
    try:
        found = parse_address(text)
    except StoreError:
        return
    assert found.shown


def test_remotes_are_opened_by_address(tmp_path: Path) -> None:
    """An address gives a remote of its kind, and one that is not there an error."""
    directory = open_remote(str(tmp_path), {})
    assert isinstance(directory, DirectoryRemote)
    assert directory.shown == str(tmp_path)
    assert isinstance(open_remote(tmp_path.as_uri(), {}), DirectoryRemote)
    with pytest.raises(RemoteError):
        open_remote(str(tmp_path / "missing"), {})
    web = open_remote("http://127.0.0.1:9/x/", {"MSTORE_TOKEN": "hush"})
    assert isinstance(web, WebRemote)
    assert web.shown == "http://127.0.0.1:9/x"
    web.close()
    for text, shown in [
        ("s3://bucket/p?endpoint=http://127.0.0.1:9", "s3://bucket/p"),
        ("az://container?account=me", "az://container"),
    ]:
        environment = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        assert open_remote(text, environment).shown == shown
