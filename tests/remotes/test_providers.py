from __future__ import annotations

from pathlib import Path

import pytest

from modelstore.errors import RemoteError
from modelstore.remotes.address import parse_address
from modelstore.remotes.providers import cloud_remote, s3_settings

CREDENTIALS = """
[default]
aws_access_key_id = file-id
aws_secret_access_key = file-secret

[other]
aws_access_key_id = other-id
aws_secret_access_key = other-%secret
aws_session_token = other-token
"""

CONFIG = """
[default]
region = eu-west-1

[profile other]
region = eu-north-1
endpoint_url = https://other.example
"""


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """Return an environment whose home has Amazon's files."""
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(CREDENTIALS)
    (tmp_path / ".aws" / "config").write_text(CONFIG)
    return {"HOME": str(tmp_path)}


def test_credentials_come_from_the_files(home: dict[str, str]) -> None:
    """The default profile is used where the environment has nothing."""
    assert s3_settings({}, home) == {
        "access_key_id": "file-id",
        "secret_access_key": "file-secret",
        "region": "eu-west-1",
    }


@pytest.mark.parametrize("how", ["option", "variable"])
def test_a_profile_is_named(home: dict[str, str], how: str) -> None:
    """The address or AWS_PROFILE names another profile, whatever else the environment has."""
    options = {"profile": "other"} if how == "option" else {}
    variables = {"AWS_ACCESS_KEY_ID": "x"} if how == "option" else {"AWS_PROFILE": "other"}
    assert s3_settings(options, home | variables) == {
        "access_key_id": "other-id",
        "secret_access_key": "other-%secret",
        "session_token": "other-token",
        "region": "eu-north-1",
        "endpoint": "https://other.example",
    }


def test_the_address_goes_first(home: dict[str, str]) -> None:
    """The address goes before the environment, and that before the files; never half of a pair."""
    environment = home | {
        "AWS_ACCESS_KEY_ID": "env-id",
        "AWS_SECRET_ACCESS_KEY": "env-secret",
        "AWS_REGION": "env-region",
        "AWS_ENDPOINT_URL": "https://env.example",
    }
    options = {"endpoint": "https://address.example"}
    assert s3_settings(options, environment) == {
        "access_key_id": "env-id",
        "secret_access_key": "env-secret",
        "region": "env-region",
        "endpoint": "https://address.example",
    }


def test_nothing_is_known_without_any(tmp_path: Path) -> None:
    """Without files and variables only the default region is set."""
    assert s3_settings({}, {"HOME": str(tmp_path)}) == {"region": "us-east-1"}
    assert s3_settings({}, {}) == {"region": "us-east-1"}


def test_a_broken_file_is_named_and_not_quoted(home: dict[str, str]) -> None:
    """A file that cannot be parsed is named; its content is not shown."""
    Path(home["HOME"], ".aws", "credentials").write_text("aws_secret_access_key = hush\n")
    with pytest.raises(RemoteError, match="credentials") as caught:
        s3_settings({}, home)
    assert "hush" not in caught.value.message


def test_settings_that_do_not_fit_are_told() -> None:
    """What obstore refuses to begin with is an error of ours, which quotes no setting."""
    address = parse_address("az://container")
    with pytest.raises(RemoteError, match="do not fit together"):
        cloud_remote(address, {"AZURE_STORAGE_ACCOUNT_KEY": "hush"})
