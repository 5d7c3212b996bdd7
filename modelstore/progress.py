"""How long work tells its caller where it is: a callable, passed in; and remarks, for who listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[str, int, int], None]
"""Called with a stage ("hash", "encode", "write"), the bytes done so far, and the bytes in all."""

Listener = Callable[[str], None]
"""Called with a remark, from whatever thread has one."""

_listeners: list[Listener] = []


def silent(stage: str, done: int, total: int) -> None:
    """Tell nobody."""


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Tell ``listener`` every remark that is made meanwhile."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def remark(text: str) -> None:
    """Tell whoever listens why something takes longer than usual."""
    for listener in tuple(_listeners):
        listener(text)
