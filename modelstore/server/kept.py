"""What was worked out once and stays true: values by digest, the newest used, bounded in size."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Kept(Generic[Value]):
    """Values by a key that never means anything else, such as a digest.

    Args:
        most: of all sizes together; the value used longest ago goes first.
        size: of a value, in the unit of ``most``.
    """

    def __init__(self, most: int, size: Callable[[Value], int]) -> None:
        self._most = most
        self._size = size
        self._lock = threading.Lock()
        self._values: OrderedDict[str, Value] = OrderedDict()
        self._total = 0

    def get(self, key: str, make: Callable[[], Value]) -> Value:
        """Return the value of ``key``, made by ``make`` where it is not kept."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()
        with self._lock:
            if key not in self._values:
                self._values[key] = value
                self._total += self._size(value)
            while self._total > self._most:
                self._total -= self._size(self._values.popitem(last=False)[1])
        return value
