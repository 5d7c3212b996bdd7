from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore import canonical as module
from modelstore.canonical import canonical, line, parse, parse_mapping
from modelstore.errors import IntegrityError, UsageError

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
values = st.recursive(
    st.integers(-(10**30), 10**30) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)


@given(values)
def test_canonical_json_is_read_back(value: Any) -> None:
    """Parsing canonical JSON gives the value, and writing it again gives the bytes."""
    data = canonical(value)
    assert parse(data, "x") == value
    assert canonical(parse(data, "x")) == data


@given(st.dictionaries(text, values, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_matter(value: dict[str, Any], chance: random.Random) -> None:
    """Two equal values have one canonical form, whose keys are sorted."""
    items = list(value.items())
    chance.shuffle(items)
    assert canonical(dict(items)) == canonical(value)
    assert list(parse(canonical(dict(items)), "x")) == sorted(value)


@given(values)
def test_a_line_is_one_line_and_keeps_the_order(value: Any) -> None:
    """`line` never breaks the line, whatever the strings hold, and reads back."""
    assert "\n" not in line(value)
    assert parse(line(value).encode(), "x") == value
    assert line({"b": 1, "a": 2}) == '{"b": 1, "a": 2}'


def test_canonical_json_by_example() -> None:
    """No spaces, no escapes that need not be, keys by code point."""
    assert canonical({"é": [1, "a"], "Z": {}, "a": -5}) == '{"Z":{},"a":-5,"é":[1,"a"]}'.encode()


HOSTILE = {
    "duplicate keys": b'{"a": 1, "a": 2}',
    "deep duplicate keys": b'[{"b": {"a": 1, "a": 1}}]',
    "duplicate keys by escape": b'{"a": 1, "\\u0061": 2}',
    "NaN": b"[NaN]",
    "infinity": b"[-Infinity]",
    "a float that overflows": b"[1e999]",
    "a bottomless list": b"[" * 200_000 + b"]" * 200_000,
    "a bottomless object": b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
    "a number of many digits": b"[" + b"9" * 5000 + b"]",
    "a number of 33 digits": b"1" * 33,
    "half a surrogate pair": b'["\\ud800"]',
    "half a surrogate pair as key": b'{"\\uDFFF": 1}',
    "not UTF-8": b'["\xff"]',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "nothing": b"",
    "cut": b'{"a": [1, 2',
    "two values": b"{} {}",
    "a trailing comma": b"[1,]",
    "single quotes": b"{'a': 1}",
    "a raw line break": b'["\n"]',
}


@pytest.mark.parametrize("what", HOSTILE)
def test_json_that_only_an_attacker_or_a_crash_writes_is_refused(what: str) -> None:
    """The one error is IntegrityError, which names the file."""
    with pytest.raises(IntegrityError, match="the file is not valid JSON"):
        parse(HOSTILE[what], "the file")


def test_a_surrogate_pair_is_one_character() -> None:
    """Escapes that make a whole character are as good as the character."""
    assert parse(b'"\\ud83d\\ude00 \\\\ud800"', "x") == "😀 \\ud800"


def test_a_huge_file_is_refused_before_it_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a limit on the bytes of JSON."""
    monkeypatch.setattr(module, "MAX_SIZE", 10)
    with pytest.raises(IntegrityError, match="larger than"):
        parse(b'"aaaaaaaaaa"', "x")


@pytest.mark.parametrize("data", [b"[]", b"1", b'"a"', b"null"])
def test_a_mapping_is_an_object(data: bytes) -> None:
    """Other values are refused where an object is due."""
    with pytest.raises(IntegrityError, match="is not a JSON object"):
        parse_mapping(data, "x")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_not_written(value: float) -> None:
    """What could not be read is not written."""
    for write in (canonical, line):
        with pytest.raises(ValueError, match="JSON compliant"):
            write([value])


def test_text_from_a_shell_that_is_not_utf8_is_a_usage_error() -> None:
    """Python hands over such bytes as half surrogate pairs."""
    with pytest.raises(UsageError, match="is not UTF-8"):
        canonical({"message": "caf\udce9"})


@given(st.binary(max_size=30) | values.map(lambda v: json.dumps(v).encode()[:-1]))
def test_any_bytes_are_json_or_an_integrity_error(data: bytes) -> None:
    """No other exception ever leaves the parser."""
    try:
        parse(memoryview(data), "x")
    except IntegrityError:
        return
