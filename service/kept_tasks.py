"""Coroutines that go on although whoever asked for them has gone."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any


class KeptTasks:
    """Of one event loop. What they raise is not reported as lost: whoever waited has it, or the log."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """It begins with the loop's next turn."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)  # the loop itself only refers to it weakly
        task.add_done_callback(self._done)
        return task

    async def finish(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait for it; if the caller is cancelled it goes on. Raises what it raises."""
        await asyncio.shield(self.start(work))

    def cancel(self) -> None:
        """All that have not ended."""
        for task in list(self._tasks):
            task.cancel()

    def __iter__(self) -> Iterator[asyncio.Task[None]]:
        return iter(list(self._tasks))

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()
