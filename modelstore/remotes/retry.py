"""Trying again: what failed in passing is tried a few times, ever more slowly.

The pause after the n-th failure in a row is drawn evenly from 0 to 0.1 s × 2^n ("full
jitter": Brooker, "Exponential Backoff And Jitter", 2015), so that many clients of a server that has
just come back do not all call in the same moment.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from modelstore.errors import RemoteError

TRIES = 6
"""The first one included; together the pauses take 3 s on average, and 6 s at most."""

_FIRST = 0.2
_LONGEST = 8.0
"""Seconds that we wait at most for a server that says how long it wants to be left alone."""

Result = TypeVar("Result")


class PassingError(RemoteError):
    """A remote failed in a way that may pass: a broken connection, a server that is busy or down.

    Attributes:
        wait: seconds that the server asked to wait, or 0.
    """

    def __init__(self, message: str, hint: str = "", wait: float = 0) -> None:
        super().__init__(message, hint)
        self.wait = wait


def retried(call: Callable[[], Result], tries: int = TRIES) -> Result:
    """Return what ``call`` returns, calling it again while it raises `PassingError`.

    Raises:
        PassingError: of the last of ``tries`` tries.
    """
    return next(resumed(lambda: iter((call(),)), tries))


def resumed(begin: Callable[[], Iterator[Result]], tries: int = TRIES) -> Iterator[Result]:
    """Yield from ``begin()``, calling it again when it ends in `PassingError`.

    Args:
        begin: goes on where the iterator before it stopped.
        tries: how often it is called in a row without yielding anything.

    Raises:
        PassingError: of the last try.
    """
    failures = 0
    while True:
        try:
            for item in begin():
                failures = 0
                yield item
            return
        except PassingError as error:  # noqa: PERF203  (the loop is for it)
            failures += 1
            if failures >= tries:
                raise
            _pause(failures, error)


def _pause(failures: int, error: PassingError) -> None:
    drawn = random.uniform(0, _FIRST * 2 ** (failures - 1))  # noqa: S311  (no secret)
    time.sleep(max(drawn, min(error.wait, _LONGEST)))
