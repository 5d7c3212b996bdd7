"""How long the torture goes on: a minute with the other tests, or all of it with `make torture`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

LONG = os.environ.get("MSTORE_TORTURE") == "1"
"""Whether everything is tried. The name begins as mstore's settings do; none of them is this."""

SHARED_MEMORY = Path("/dev/shm")


def points(count: int, short: int) -> Iterator[int]:
    """Yield 1 to ``count``: all of them, or about ``short`` that lie evenly."""
    stride = 1 if LONG else max(1, count // short)
    yield from range(1, count + 1, stride)
