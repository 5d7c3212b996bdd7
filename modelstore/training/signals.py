"""Signals while a model is trained: the first asks to stop in good order, the second ends it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
"""Ctrl-C, what a batch system sends, and what a terminal sends that is closed."""


class Request:
    """Whether somebody asked to stop."""

    def __init__(self) -> None:
        self.made = False

    def __call__(self) -> bool:
        """Return whether somebody did."""
        return self.made


@contextmanager
def asked() -> Iterator[Request]:
    """Take signals that ask to stop as a request, for the length of the block.

    After the first of them they do again what they did before, so that the second ends the block
    at once. Signals that are ignored stay so, as under nohup.
    """
    request = Request()
    if threading.current_thread() is not threading.main_thread():
        yield request  # only the main thread is told of signals
        return
    wanted = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    before: dict[int, Any] = {number: signal.getsignal(number) for number in wanted}
    taken = [number for number in wanted if before[number] not in (signal.SIG_IGN, None)]

    def give_back() -> None:
        for number in taken:
            signal.signal(number, before[number])

    def take(number: int, _: object) -> None:
        if request.made:  # both came before the first was looked at
            give_back()
            os.kill(os.getpid(), number)
        request.made = True
        give_back()

    for number in taken:
        signal.signal(number, take)
    try:
        yield request
    finally:
        give_back()
