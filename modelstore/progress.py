"""How long work tells its caller where it is: a callable, passed in."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with a stage ("hash", "encode", "write"), the bytes done so far, and the bytes in all."""


def silent(stage: str, done: int, total: int) -> None:
    """Tell nobody."""
