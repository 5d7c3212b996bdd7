"""What several threads want, and one of them does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")


class Once(Generic[Key, Result]):
    """A function that is called once for each key, by whoever asks first; others wait for that.

    An error is every asker's. No call may wait for one whose call waits for it.

    Args:
        function: what is called.
    """

    def __init__(self, function: Callable[[Key], Result]) -> None:
        self._function = function
        self._entering = threading.Lock()
        self._done: dict[Key, Future[Result]] = {}

    def __call__(self, key: Key) -> Result:
        """Return what the function returned for ``key``."""
        with self._entering:
            first = key not in self._done
            future = self._done.setdefault(key, Future())
        if first:
            try:
                future.set_result(self._function(key))
            except BaseException as error:
                future.set_exception(error)
        return future.result()
