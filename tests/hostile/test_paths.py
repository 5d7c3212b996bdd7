"""Names that would lead out of a directory, or that two systems understand differently."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.errors import BadNameError, ConflictError, IntegrityError, StoreError
from modelstore.manifest import Manifest, decode, encode
from modelstore.names import collision, parse_model, parse_path
from modelstore.ops.checkout import checkout
from modelstore.ops.resolve import resolve
from modelstore.ops.tree import walk
from modelstore.store import Store
from tests.hostile.forged import file_of, plant

Look = Callable[[], dict[str, bytes]]

_UPWARDS = ["..", "../", "..\\", ".", "./", "...", ".. ", " ..", "..\0", "%2e%2e", "..%2f", "..;"]
_ROOTS = [
    *(
        "/",
        "//",
        "\\",
        "\\\\",
        "C:",
        "C:/",
        "c:\\",
        "Z:x",
        "//server/share/",
        "\\\\server\\share\\",
    ),
    *(
        "\\\\?\\C:\\",
        "\\\\.\\pipe\\",
        "//./COM1/",
        "/dev/",
        "/proc/self/",
        "~/../",
        "file:///",
        "a//",
    ),
]
_DEVICES = [
    *(
        "CON",
        "nul",
        "Aux",
        "PRN",
        "COM1",
        "com9",
        "COM¹",
        "LPT³",
        "lpt1",
        "CONIN$",
        "conout$",
        "COM0",
    ),
    *("NUL.txt", "aux.json", "con.", "con .txt", "COM².bin", "nul.tar.gz", "prn.safetensors"),
]
_ENDINGS = ["a.", "a ", "a. .", "a...", "a/b.", "a./b", "a /b", ".", " "]
_STREAMS = ["a:b", "a::$DATA", "a:stream:$DATA", "x/a:b", ":a", "a:"]
_SIGNS = ["a?b", "a*b", 'a"b', "a<b", "a>b", "a|b"]
_COMMANDS = [f"a{chr(n)}b" for n in (*range(32), 127, 128, 0x85, 0x9B, 0x9F)]
_BIDI = [f"a{c}b" for c in "\u202a\u202b\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"]
_UNSEEN = [f"a{c}b" for c in "\u00ad\u200b\u200c\u200d\u2060\ufeff\u2028\u2029\ufff9\U000e0041"]
_OURS = [
    *(".mstore", ".MSTORE", ".mstore/format.json", "a/.mstore/refs/x", "a/.Mstore", "MSTORE~1"),
    *(
        ".git",
        ".GIT/config",
        "a/.git/hooks/post-checkout",
        "GIT~1",
        "a/git~1/x",
        ".git./x",
        ".g\u200cit",
    ),
    *(".git ", ".git\\config", ".git::$INDEX_ALLOCATION/x", ".gıt/..", ".GiT/HEAD"),
]
_LONG = ["a" * 256, "é" * 128, "/".join("a" * 33), "/".join(["a" * 200] * 6), "a/" * 3000 + "a", ""]
TRAVERSAL = sorted(
    {
        *(f"{up}/{name}" for up, name in product(_UPWARDS[:7], ("precious", "x/y", "../precious"))),
        *(f"a/{up}/{up}/{up}/precious" for up in _UPWARDS[:7]),
        *(f"{'../' * n}precious" for n in range(1, 18)),
        *(f"a/{'../' * n}precious" for n in range(1, 18)),
        *(f"{'..' + chr(92)}" * n + "precious" for n in range(1, 18)),
        *(f"{root}{name}" for root, name in product(_ROOTS, ("etc/passwd", "precious", "../x"))),
        *(f"x/{root}precious" for root in _ROOTS[:10]),
        *(place + name for place, name in product(("", "a/", "a/b/"), _DEVICES)),
        *(
            _ENDINGS
            + _STREAMS
            + _SIGNS
            + _COMMANDS
            + _BIDI
            + _UNSEEN
            + _OURS
            + _LONG
            + _UPWARDS[:4]
        ),
        *(name.replace("/", "\\") for name in ("../precious", "a/../../precious", "a/b")),
    }
)


def test_the_corpus_is_large() -> None:
    """There are at least 300 names, and none of them is a path of a version."""
    assert len(TRAVERSAL) >= 300
    for name in TRAVERSAL:
        with pytest.raises(BadNameError):
            parse_path(name)


def test_crafted_manifests_write_nothing(store: Store, tmp_path: Path, surroundings: Look) -> None:
    """A manifest with such a name and a right digest is refused, here and elsewhere; 0 escape."""
    plant(store, {f"v1.{n}": Manifest((file_of(name),)) for n, name in enumerate(TRAVERSAL)})
    before = surroundings()
    for n in range(len(TRAVERSAL)):
        version = resolve(store, f"m@v1.{n}")
        for output in (None, tmp_path / "out"):
            with pytest.raises(IntegrityError, match="is malformed"):
                checkout(store, version, output=output, force=True)
    assert surroundings() == before
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "names",
    [
        ("Model.bin", "model.bin"),
        ("A/x", "a/y"),
        ("a/B/x", "a/b/y"),
        ("A", "a/y"),
        ("a", "a/y"),
        (unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")),
        (unicodedata.normalize("NFC", "é/x"), unicodedata.normalize("NFD", "é/y")),
        ("ß", "ss"),
        ("K", "\u212a"),
        ("ﬁ", "fi"),
    ],
)
def test_names_that_some_systems_confuse(store: Store, tmp_path: Path, names: tuple[str, str]):
    """Two such names are refused with both of them named: in a manifest, and in a directory."""
    assert collision(names) in (names, names[::-1])
    crafted = encode(Manifest(tuple(file_of(name) for name in sorted(names))))
    with pytest.raises(IntegrityError, match="cannot be told apart"):
        decode(crafted)
    try:
        for name in names:
            (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "in" / name).write_bytes(b"x")
    except OSError:
        return  # a file and a directory cannot have one name
    if len(list((tmp_path / "in").rglob("*"))) >= 2:  # or this file system is such a one
        with pytest.raises(ConflictError) as refused:
            walk(tmp_path / "in")
        assert all(repr(name) in refused.value.message for name in names)


@given(
    st.lists(st.sampled_from(["a", "A", "a/b", "A/b", "a/B", "b", "é", "e\u0301", "c/d/e", "c/D"]))
)
def test_a_collision_is_found_whatever_the_order(paths: list[str]) -> None:
    """Any two of the paths collide if and only if all of them do."""
    different = list(dict.fromkeys(paths))
    pairs = [collision([one, two]) for one, two in product(different, different) if one != two]
    assert (collision(different) is not None) == any(pairs)


def _is_path(name: str) -> bool:
    try:
        return bool(parse_path(name))
    except BadNameError:
        return False


def _refusal(root: Path) -> str:
    """Return why a directory is refused; "" where nothing in it would be content."""
    try:
        assert not walk(root).files
    except BadNameError as error:
        return error.message
    return ""


def test_names_of_any_bytes_in_a_directory(tmp_path: Path) -> None:
    """A directory with any of these names is refused, or is committed under just that name."""
    refused = 0
    for number, name in enumerate((*TRAVERSAL, os.fsdecode(b"\xff\xfe"), os.fsdecode(b"a\x80"))):
        root = tmp_path / str(number)
        path = root / name.replace("/", "_")
        try:
            root.mkdir()
            path.write_bytes(b"x")
        except (OSError, ValueError):
            continue
        taken = [parse_path(found) for found in os.listdir(root) if _is_path(found)]
        if taken:
            assert [file.path for file in walk(root).files] == taken
        else:
            message = _refusal(root)
            assert message.isprintable()
            refused += bool(message)
    if sys.platform == "linux":
        assert refused > 100


@pytest.mark.parametrize(
    "name", ["../m", "a/b", "CON", "a.", ".mstore", "-x", "a\nb", "m\u202e", "é"]
)
def test_names_of_models(name: str) -> None:
    """What would not be one directory everywhere is no model."""
    with pytest.raises(BadNameError):
        parse_model(name)


def test_the_longest_names_are_written(store: Store, tmp_path: Path) -> None:
    """255 bytes a segment and 1,024 in all are no trouble."""
    path = "/".join(["é" * 127, "b" * 255, "c" * 255, "d" * 255])
    plant(store, {"v1.0": Manifest((file_of(path),))})
    checkout(store, resolve(store, "m@v1.0"), output=tmp_path / "out")
    assert (tmp_path / "out" / path).read_bytes() == b"data"


def test_a_path_that_the_system_finds_too_long(store: Store, tmp_path: Path) -> None:
    """Where the directory is deep already, the error names the path and nothing is left."""
    deep = tmp_path.joinpath(*["d" * 250] * 13)
    plant(store, {"v1.0": Manifest((file_of("/".join(["e" * 250] * 4)),))})
    with pytest.raises(StoreError):
        checkout(store, resolve(store, "m@v1.0"), output=deep)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and "d" * 250 in path.parts]
