from __future__ import annotations

import unicodedata
from itertools import zip_longest
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.errors import BadNameError
from modelstore.names import (
    ACTIVE,
    RESERVED_REFS,
    Ref,
    Version,
    digest_prefix,
    is_version,
    next_version,
    parse_alias,
    parse_model,
    parse_path,
    parse_ref,
    parse_version,
    path_key,
    printable,
)

numbers = st.integers(0, 12) | st.integers(0, 999_999_999)
words = st.one_of(
    st.integers(0, 99).map(str),
    st.sampled_from(["alpha", "beta", "rc", "rc1", "1a", "-", "x-y", "0a"]),
)
pres = st.just("") | st.lists(words, min_size=1, max_size=3).map(lambda found: ".".join(found))


@st.composite
def version_texts(draw: st.DrawFn) -> str:
    """Every way to write a version."""
    patch = draw(st.none() | numbers)
    pre = draw(pres)
    return (
        draw(st.sampled_from(["v", ""]))
        + f"{draw(numbers)}.{draw(numbers)}"
        + ("" if patch is None else f".{patch}")
        + (f"-{pre}" if pre else "")
    )


versions = version_texts().map(parse_version)


def semver_compare(a: Version, b: Version) -> int:
    """Compare as clause 11 of semver 2.0.0 says, step by step."""
    for left, right in ((a.major, b.major), (a.minor, b.minor), (a.patch, b.patch)):
        if left != right:
            return -1 if left < right else 1
    if not a.pre or not b.pre:
        return bool(b.pre) - bool(a.pre)
    for one, other in zip_longest(a.pre.split("."), b.pre.split(".")):
        if one == other:
            continue
        if one is None or other is None:
            return -1 if one is None else 1
        if one.isdigit() and other.isdigit():
            return -1 if int(one) < int(other) else 1
        if one.isdigit() != other.isdigit():
            return -1 if one.isdigit() else 1
        return -1 if one < other else 1
    return 0


@given(versions, versions)
def test_versions_are_ordered_as_semver_orders(a: Version, b: Version) -> None:
    """Comparison, equality and hash agree with semver 2.0.0."""
    order = semver_compare(a, b)
    assert (a < b, a == b, a > b) == (order < 0, order == 0, order > 0)
    assert a != b or hash(a) == hash(b)


def test_the_example_of_the_semver_text_is_in_order() -> None:
    """The chain of clause 11 comes out of sorting."""
    chain = ["alpha", "alpha.1", "alpha.beta", "beta", "beta.2", "beta.11", "rc.1"]
    texts = [f"v1.0-{pre}" for pre in chain] + ["v1.0", "v1.0.1", "v1.2", "v1.10", "v2.0"]
    assert [str(v) for v in sorted(map(parse_version, reversed(texts)))] == texts


@given(version_texts())
def test_a_version_is_found_again_by_its_text(text: str) -> None:
    """Parsing what was printed gives the same version, and the v may be left out."""
    version = parse_version(text)
    assert str(version).startswith("v")
    assert parse_version(str(version)) == version
    assert is_version(text)


def test_a_patch_that_is_not_written_is_zero() -> None:
    """v1.1 and v1.1.0 are one version."""
    assert parse_version("v1.1") == parse_version("1.1.0")
    assert len({parse_version("v1.1"), parse_version("v1.1.0")}) == 1


@pytest.mark.parametrize(
    "text",
    ["", "v", "v1", "1", "v1.", "v1.1.1.1", "v01.0", "v1.00", "v1.1-", "v1.1-.", "v1.1-a..b",
     "v1.1-a.", "v1.1-01", "v1.0\n", " v1.0", "V1.0", "v1.0+cpu", "v-1.0", "v١.٠", "v1.0/..",
     "v1234567890.0", "v1.0-" + "x" * 33, "vv1.0", "v1.0-é", "latest"],
)  # fmt: skip
def test_what_is_no_version_is_refused(text: str) -> None:
    """Leading zeros, empty words, other digits and line ends make no version."""
    assert not is_version(text)
    with pytest.raises(BadNameError, match="is not a version"):
        parse_version(text)


@given(
    st.lists(versions, max_size=6).flatmap(
        lambda taken: st.tuples(st.just(taken), st.sampled_from([None, *taken]))
    ),
    st.booleans(),
)
def test_the_next_version_is_never_taken(
    drawn: tuple[list[Version], Version | None], major: bool
) -> None:
    """It is a new number, higher than its parent's."""
    taken, after = drawn
    if any(999_999_999 in (v.major, v.minor) for v in taken):
        return
    new = next_version(taken, after=after, major=major)
    assert new not in taken
    assert after is None or new > after
    assert not major or not taken or new.major > max(v.major for v in taken)


@pytest.mark.parametrize(
    ("taken", "after", "major", "expected"),
    [
        ([], None, False, "v1.0"),
        ([], None, True, "v1.0"),
        (["v1.0"], "v1.0", False, "v1.1"),
        (["v1.0", "v1.9"], "v1.0", False, "v1.10"),
        (["v1.0", "v2.0"], "v1.0", False, "v1.1"),
        (["v1.0", "v2.0"], None, False, "v2.1"),
        (["v1.0", "v1.1"], "v1.0", True, "v2.0"),
        (["v1.0", "v1.1.7", "v1.2-rc.1"], "v1.0", False, "v1.3"),
    ],
)
def test_the_next_version_by_example(
    taken: list[str], after: str | None, major: bool, expected: str
) -> None:
    """The next minor of the parent's line, or the next major line."""
    parent = parse_version(after) if after else None
    assert str(next_version(map(parse_version, taken), after=parent, major=major)) == expected


@pytest.mark.parametrize("name", ["llama_1b", "a", "qwen3-8b", "x" * 64, "Llama.3.2", "deadbeef"])
def test_names_of_models(name: str) -> None:
    """Letters, digits, dots, dashes and underscores."""
    assert parse_model(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".mstore", "-x", "_x", "a/b", "a\\b", "a b", "a:b", "x" * 65, "con", "NUL.txt",
     "com1", "lpt¹", "a.", "é", "a\n", "a\0", "llama@v1", "CONIN$", "aux.gguf",
     "ACTIVE", "active", "latest", "Head", "greatest", "v1.0", "1.0", "v1.2.3-rc"],
)  # fmt: skip
def test_what_cannot_be_a_model(name: str) -> None:
    """Nothing that leaves the store, is a device, or could be read as a version or reserved word."""
    with pytest.raises(BadNameError, match="cannot be the name of a model"):
        parse_model(name)


@given(
    st.text(st.characters(codec="ascii"), max_size=10) | st.from_regex(r"\A[a-zA-Z][\w.-]{0,9}\Z")
)
def test_an_alias_is_never_a_version_digest_or_reserved_word(text: str) -> None:
    """What parse_alias lets through means nothing else, and is a ref."""
    try:
        alias = parse_alias(text)
    except BadNameError:
        return
    assert not is_version(alias)
    assert digest_prefix(alias) is None
    assert alias.lower() not in RESERVED_REFS
    assert parse_ref(alias) == Ref(None, alias)


@pytest.mark.parametrize(
    "text", ["v1.0", "1.0", "v1.0.0-rc", "v01.0", "ACTIVE", "head", "Latest", "deadbeef", "abc123",
     "", "-", "a@b", "a~1", "prod\n", "a b", "é", "1prod", "x" * 65]
)  # fmt: skip
def test_what_cannot_be_an_alias(text: str) -> None:
    """Anything with another meaning is refused."""
    with pytest.raises(BadNameError, match="cannot be an alias"):
        parse_alias(text)


steps = st.lists(st.tuples(st.sampled_from("~^@"), st.integers(0, 999_999_999)), max_size=3)
bases = st.one_of(
    st.sampled_from([ACTIVE, "HEAD", "latest", "greatest", "prod", "a1b2c3", "b3:a1b2c3d4"]),
    versions.map(str),
)
models = st.none() | st.sampled_from(["llama_1b", "qwen3-8b", "a.b"]).map(parse_model)


@given(st.builds(Ref, models, bases, steps.map(tuple)))
def test_a_ref_is_parsed_from_what_it_prints(ref: Ref) -> None:
    """Refs survive being printed."""
    assert parse_ref(str(ref)) == ref


@given(st.text(st.sampled_from("av1.@{}~^-/: \n0"), max_size=12) | st.text(max_size=8))
def test_any_text_is_a_ref_or_a_bad_name(text: str) -> None:
    """Whatever is typed, the answer is a ref that prints itself again, or a BadNameError."""
    try:
        ref = parse_ref(text)
    except BadNameError:
        return
    assert parse_ref(str(ref)) == ref


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("ACTIVE", Ref(None, ACTIVE)),
        ("-", Ref(None, ACTIVE, (("@", 1),))),
        ("m@-", Ref("m", ACTIVE, (("@", 1),))),
        ("m@", Ref("m", ACTIVE)),
        ("~", Ref(None, ACTIVE, (("~", 1),))),
        ("~2^2", Ref(None, ACTIVE, (("~", 2), ("^", 2)))),
        ("@{2}~1", Ref(None, ACTIVE, (("@", 2), ("~", 1)))),
        ("m@@{1}", Ref("m", ACTIVE, (("@", 1),))),
        ("m@v1.1^", Ref("m", "v1.1", (("^", 1),))),
    ],
)
def test_what_is_left_out_is_active(text: str, ref: Ref) -> None:
    """Shorthands mean ACTIVE, of the model that is named."""
    assert parse_ref(text) == ref


@pytest.mark.parametrize(
    "text",
    ["", "@", "@v1.0", "a@b@c", "m@v1.0 ", "v1.0\n", "a/b", "..", "../m@v1.0", "m@a/b", "~x",
     "v1.0~1x", "@{x}", "@{1", "@{}", "~1234567890", "m@a\\b", "m@*", "m@\x1b[2J", ".mstore@v1.0"],
)  # fmt: skip
def test_what_is_no_ref(text: str) -> None:
    """The grammar is closed: paths, globs and control characters are no refs."""
    if text == "..":
        assert parse_ref(text) == Ref(None, "..")  # names nothing, and never becomes a path
        return
    with pytest.raises(BadNameError):
        parse_ref(text)


@pytest.mark.parametrize(
    ("text", "prefix"),
    [("a1b2c3", "a1b2c3"), ("b3:a1b2c3", "a1b2c3"), ("f" * 64, "f" * 64), ("a1b2c", None),
     ("A1B2C3", None), ("f" * 65, None), ("a1b2c3\n", None), ("sha256:a1b2c3", None), ("", None)],
)  # fmt: skip
def test_digest_prefixes(text: str, prefix: str | None) -> None:
    """6 to 64 lower-case hex digits, with or without the algorithm."""
    assert digest_prefix(text) == prefix


HOSTILE = [
    "", ".", "..", "/", "/etc/passwd", "../x", "a/../../x", "a/..", "a//b", "a/", "./a", "a/./b",
    "..\\x", "a\\b", "\\\\server\\share\\x", "\\\\?\\C:\\x", "C:x", "C:/x", "C:\\x", "//server/share/x",
    "a:stream", "a::$DATA", "con", "CON", "con.txt", "con .txt", "nul", "a/NUL", "aux.safetensors",
    "COM1", "com¹.bin", "lpt9.", "CONIN$", "conout$.x", "a.", "a ", "a./b", "a /b", " ", "...", "a\0b",
    "a\nb", "a\x1b[2Jb", "a\x7f", "a\u202eb", "a\u200bb", "a\u2028b", "a\ufeff", "a\ud800", "a*", "a?",
    'a"b', "<a", "a>", "a|b", ".mstore", ".mstore/blobs/00/x", ".MSTORE/x", ".mſtore/x", ".git/config",
    "a/.git/hooks/pre-commit", ".GIT", "git~1/config", ".g\u200cit/config",
    "x" * 256, "é" * 128, "/".join("a" * 33), "/".join(["x" * 200] * 6),
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_hostile_paths_are_refused(text: str) -> None:
    """Nothing that could leave the directory, or that some system cannot write or would obey."""
    with pytest.raises(BadNameError, match="cannot be a file of a version"):
        parse_path(text)


@pytest.mark.parametrize(
    "text", ["config.json", "a/b/c.bin", ".gitattributes", ".github/x", "é中😀.txt", "a b", "a..b",
     "-x", "~", "console.txt", "com10", "x" * 255, "/".join("a" * 32), "a/.mstores", "Con-fig"]
)  # fmt: skip
def test_ordinary_paths_are_accepted(text: str) -> None:
    """Names that people and hubs use."""
    assert parse_path(text) == text


@given(st.text(max_size=12) | st.text(st.sampled_from("./\\:a C~ \0"), max_size=12))
def test_an_accepted_path_stays_inside(text: str) -> None:
    """On POSIX and on Windows, joined to a root it names something below that root."""
    try:
        path = parse_path(text)
    except BadNameError:
        return
    for kind, root in ((PurePosixPath, "/s/m/v1.0"), (PureWindowsPath, "C:\\s\\m\\v1.0")):
        joined = kind(root) / path
        assert joined.parts[: len(kind(root).parts)] == kind(root).parts
        assert joined.parts[len(kind(root).parts) :] == tuple(path.split("/"))
        assert ".." not in joined.parts


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6))
def test_path_key_forgets_case_and_composition(text: str) -> None:
    """Two spellings that some file system takes for one have one key."""
    key = path_key(text)
    assert path_key(key) == key
    assert path_key(text.casefold()) == key
    for form in ("NFC", "NFD"):
        assert path_key(unicodedata.normalize(form, text)) == key


def test_printable_shows_what_a_terminal_would_obey() -> None:
    """Escapes, line breaks and direction marks become visible."""
    assert printable("a\x1b[2J\n\u202eb\ud800é") == "a\\u001b[2J\\u000a\\u202eb\\ud800é"


def test_names_hold_in_a_real_directory(tmp_path: Path) -> None:
    """The longest accepted path can be written."""
    path = "/".join(["x" * 200] * 5)
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / parse_path(path)).write_bytes(b"")
    assert (tmp_path / path).is_file()
