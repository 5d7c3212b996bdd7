"""JSON as the store writes and reads it: one way to write a value, and nothing odd let in.

Canonical JSON is RFC 8785 restricted to what needs no number formatting: keys sorted by code point,
no spaces, UTF-8, integers and strings only (a float travels as a string).
Reading is strict: no duplicate keys, no NaN, no bottomless nesting, no numbers of a thousand digits.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from modelstore.errors import IntegrityError, UsageError
from modelstore.hashing import Bytes

MAX_SIZE = 64 << 20
"""Bytes of JSON that are read at most."""

MAX_SEALED = 256 << 20
"""Bytes of sealed JSON; a registry of 100,000 versions has a quarter of that."""

MAX_VALUES = 3_000_000
"""Values of JSON that is not sealed: one takes up to 120 bytes, though it be written with three."""

_MAX_DIGITS = 32
_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")
_LINE = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


def canonical(value: object) -> bytes:
    """Return the canonical JSON of ``value``, made of dicts, lists, strings and integers.

    Raises:
        UsageError: a string in it is not UTF-8.
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return utf8(text)


def utf8(text: str) -> bytes:
    """Return ``text`` as UTF-8.

    Raises:
        UsageError: it cannot be; the shell hands over bytes that are not UTF-8 as such a string.
    """
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        around = text[max(0, error.start - 20) : error.end]
        raise UsageError(f"{around!r} is not UTF-8", "write it in UTF-8") from error


def line(value: object) -> str:
    """Return ``value`` as JSON on one line, in the order of its keys, for files that people read."""
    return _LINE.encode(value)


def excess_of(data: bytes, *, sealed: bool = False) -> str:
    """Return what is too much of JSON to be parsed, as in "is larger than 64 MiB"; "" if nothing."""
    most = MAX_SEALED if sealed else MAX_SIZE
    if len(data) > most:
        return f"is larger than {most >> 20} MiB"
    if not sealed and sum(map(data.count, (b",", b"{", b"["))) > MAX_VALUES:
        return f"holds more than {MAX_VALUES:,} values"
    return ""


def parse(data: Bytes, what: str, *, sealed: bool = False) -> Any:
    """Return the value that JSON ``data`` spells.

    Args:
        data: UTF-8.
        what: the file's name, for the message.
        sealed: its checksum is right, so nobody but us wrote it, or somebody who means to fool us.
            Of two equal keys the last then counts, which is as good as any they could have written.

    Raises:
        IntegrityError: it is not JSON, or is JSON that only an attacker writes.
    """
    data = bytes(data)
    excess = excess_of(data, sealed=sealed)
    if excess:
        raise IntegrityError(f"{what} {excess}")
    try:
        value = json.loads(
            data.decode("utf-8"),
            # a call for each of 50,000 objects, in a registry of 10,000 versions
            object_pairs_hook=None if sealed else _no_duplicates,
            parse_int=None if sealed else _short_int,
            parse_float=_finite_float,
            parse_constant=_no_constant,
        )
        if _HALF_PAIR.search(data):
            line(value).encode("utf-8")  # raises where an escape stands for half a character
    except (ValueError, RecursionError) as error:
        raise IntegrityError(
            f"{what} is not valid JSON: {error}", "put an intact copy back"
        ) from error
    return value


def parse_mapping(data: Bytes, what: str, *, sealed: bool = False) -> dict[str, Any]:
    """Return the object that JSON ``data`` spells; see `parse`."""
    value = parse(data, what, sealed=sealed)
    if not isinstance(value, dict):
        raise IntegrityError(f"{what} is not a JSON object", "put an intact copy back")
    return value


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return value


def _short_int(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"a number has more than {_MAX_DIGITS} digits")
    return int(digits)


def _finite_float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def _no_constant(word: str) -> float:
    raise ValueError(f"{word} is not JSON")
