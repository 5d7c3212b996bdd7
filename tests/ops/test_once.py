"""A call that several threads want is made once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from modelstore.ops.once import Once


def test_everybody_gets_the_first_ones_result() -> None:
    """Threads that ask at the same moment get what one call returned."""
    calls: list[int] = []

    def double(number: int) -> int:
        calls.append(number)
        time.sleep(0.01)
        return 2 * number

    once = Once(double)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(once, [1, 2] * 8)) == [2, 4] * 8
    assert sorted(calls) == [1, 2]


def test_an_error_is_everybodys() -> None:
    """A call that failed is not made again."""
    calls: list[int] = []

    def fail(number: int) -> None:
        calls.append(number)
        raise ValueError(number)

    once = Once(fail)
    for _ in range(2):
        with pytest.raises(ValueError, match="7"):
            once(7)
    assert calls == [7]
