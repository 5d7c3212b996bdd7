"""Comparisons of tensors, which may take minutes: made in the background, a few at once, and kept.

What was asked for and is waited for by nobody ends by itself.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from modelstore.ops.diff import Difference, diff
from modelstore.ops.resolve import Resolved
from modelstore.server.errors import Refused
from modelstore.store import Store

AT_ONCE = 2
"""Comparisons that are made at the same time."""

_MOST_WAITING = 6
_ABANDONED_SECONDS = 30.0
"""After so long without being asked for, a comparison that is not done ends."""

_MOST_TENSORS = 50_000
"""Of all comparisons that are kept; one takes some 600 bytes."""


class _EndedError(Exception):
    """Nobody waits for this any more."""


@dataclass(slots=True)
class Comparison:
    """One pair of versions.

    Attributes:
        difference: what comes of it.
        share: how much of it is done, from 0 to 1.
    """

    difference: Future[Difference] = field(default_factory=Future)
    share: float = 0.0
    asked: float = field(default_factory=time.monotonic)


class Comparisons:
    """The comparisons of a server, by the digests of both versions.

    Args:
        store: where the versions are.
        compare: for tests; what makes a difference of two versions.
    """

    def __init__(self, store: Store, compare: Callable[..., Difference] = diff) -> None:
        self._store = store
        self._compare = compare
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, str], Comparison] = OrderedDict()
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="mstore-compare")
        self._closed = False

    def of(self, before: Resolved, after: Resolved) -> Comparison:
        """Return the comparison of two versions, which begins unless it has.

        Raises:
            Refused: others are waiting for too many already.
        """
        key = (str(before.id), str(after.id))
        with self._lock:
            found = self._known.get(key)
            if found is None or _failed(found):
                self._forget_some()
                found = self._known[key] = Comparison()
                self._threads.submit(self._make, found, before, after)
            self._known.move_to_end(key)
            found.asked = time.monotonic()
            return found

    def close(self) -> None:
        """End what is being made."""
        self._closed = True
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _make(self, one: Comparison, before: Resolved, after: Resolved) -> None:
        def progress(_: str, done: int, total: int) -> None:
            one.share = done / total if total else 0.0
            if self._closed or time.monotonic() - one.asked > _ABANDONED_SECONDS:
                raise _EndedError

        try:
            progress("", 0, 0)
            one.difference.set_result(self._compare(self._store, before, after, progress=progress))
        except Exception as error:
            one.difference.set_exception(error)

    def _forget_some(self) -> None:
        waiting = sum(not one.difference.done() for one in self._known.values())
        if waiting >= AT_ONCE + _MOST_WAITING:
            raise Refused(503, "too many comparisons are being made; try again in a minute")
        while sum(map(_size, self._known.values())) > _MOST_TENSORS:
            done = next((key for key, one in self._known.items() if one.difference.done()), None)
            if done is None:
                return
            del self._known[done]


def _failed(one: Comparison) -> bool:
    """Tell whether a comparison is to be tried again: a damaged blob may have been mended."""
    return one.difference.done() and one.difference.exception() is not None


def _size(one: Comparison) -> int:
    if not one.difference.done() or one.difference.exception() is not None:
        return 0
    found = one.difference.result()
    return 1 + len(found.tensors) + found.same_tensors
