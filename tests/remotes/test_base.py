from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.errors import BadNameError, UsageError
from modelstore.names import parse_path
from modelstore.remotes.base import (
    MAX_KEY,
    MAX_SEGMENT,
    check_range,
    is_key,
    parse_key,
    parse_prefix,
)

letters = st.sampled_from("abcXYZ0189._-")
segments = st.text(letters, min_size=1, max_size=12)
texts = st.lists(segments, min_size=1, max_size=10).map("/".join)


@given(texts | st.text(max_size=20))
def test_a_key_is_the_path_of_a_file(text: str) -> None:
    """Whatever is a key could be the path of a file of a version, and hides nothing."""
    if is_key(text):
        assert parse_key(text) == parse_path(text) == parse_prefix(text)
        assert text.isascii()
        assert not any(segment.startswith(".") for segment in text.split("/"))


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "0",
        "a_b-c.d/E.json",
        "refs/llama_1b/12.json",
        "a/" * 7 + "a",
        "x" * MAX_SEGMENT,
        "com10",
    ],
)
def test_good_keys_are_taken(text: str) -> None:
    """Names as the store uses them, up to the limits, are keys."""
    assert parse_key(text) == text


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            ".",
            "..",
            "a/..",
            ".a",
            "a.",
            "_a",
            "-a",
            "a b",
            "a\n",
            "a\0",
        ),
        *("ä", "a:b", "a?b", "a%2eb", "con", "NUL.txt", "a/com1", "a/" * 8 + "a"),
        *("x" * (MAX_SEGMENT + 1), "/".join(["x" * 200] * 5)),
    ],
)
def test_bad_keys_are_refused(text: str) -> None:
    """What is no plain relative path on every system is no key."""
    with pytest.raises(BadNameError):
        parse_key(text)
    assert len(text) < MAX_KEY + 300


def test_ranges_have_bytes() -> None:
    """A range of nothing, or before the beginning, is refused."""
    check_range(0, 1)
    for start, stop in [(0, 0), (2, 1), (-1, 1)]:
        with pytest.raises(UsageError):
            check_range(start, stop)
