"""Small things that come at once are taken together: the disk is waited for once for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST = 64
"""Items that are taken together."""

Call = Callable[[Sequence[Item]], Sequence[Result]]


class Grouped(Generic[Item, Result]):
    """Takes items, all that have come while those before them were taken.

    Args:
        run: has a function called in a thread.
        call: takes items, all or none, and returns what came of each. Where it fails each is taken
            by itself, so that one that is wrong is in nobody's way.
    """

    def __init__(
        self,
        run: Callable[[Callable[[], Sequence[Result]]], Awaitable[Sequence[Result]]],
        call: Call[Item, Result],
    ) -> None:
        self._run = run
        self._call = call
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._task: asyncio.Task[None] | None = None

    async def take(self, item: Item) -> Result:
        """Return what came of ``item``."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((item, future))
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._work())
        return await future

    async def _work(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            try:
                await self._take(group)
            except Exception:
                for one in group:
                    await self._alone(one)

    async def _alone(self, one: tuple[Item, asyncio.Future[Result]]) -> None:
        try:
            await self._take([one])
        except Exception as error:
            if not one[1].done():
                one[1].set_exception(error)

    async def _take(self, group: Sequence[tuple[Item, asyncio.Future[Result]]]) -> None:
        items = [item for item, _ in group]
        results = await self._run(lambda: self._call(items))
        for (_, future), result in zip(group, results, strict=True):
            if not future.done():  # else who asked has gone
                future.set_result(result)
