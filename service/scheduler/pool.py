"""The threads that decode images and encode answers, beside the event loop and beside the runners."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from ..lasting_threads import LastingExecutor
from .errors import Refused, Unavailable

_Value = TypeVar("_Value")


class Pool:
    """A few threads with a bounded backlog. To be used from one event loop.

    Args:
        backlog_limit: calls at work or waiting; more are refused.
    """

    def __init__(self, threads: int, backlog_limit: int) -> None:
        self._executor = LastingExecutor(threads, "slimpath-pool")
        self._limit = backlog_limit
        self._closed = False
        self.backlog = 0

    async def run(self, function: Callable[..., _Value], *args: Any) -> _Value:
        """`function(*args)` in one of the threads.

        Raises:
            Refused: the backlog is full.
            Unavailable: the pool is closed. And whatever the function raises.
        """
        if self.backlog >= self._limit:
            raise Refused(f"{self.backlog} images and answers wait to be decoded and encoded", retry_after_s=1.0)
        return await self.run_anyway(function, *args)

    async def run_anyway(self, function: Callable[..., _Value], *args: Any) -> _Value:
        """`run` for what takes no longer the more of it there is, whatever the backlog.

        Raises:
            Unavailable: the pool is closed. And whatever the function raises.
        """
        if self._closed:
            raise Unavailable("the service is stopping")
        future = asyncio.get_running_loop().run_in_executor(self._executor, partial(function, *args))
        self.backlog += 1
        future.add_done_callback(self._done)
        return await future

    def _done(self, future: asyncio.Future[Any]) -> None:
        self.backlog -= 1
        if not future.cancelled():
            future.exception()  # seen: whoever waited may have been cancelled, and nobody else will ask

    def close(self) -> None:
        """Take no more calls; those at work end by themselves."""
        self._closed = True
        self._executor.shutdown(wait=False, cancel_futures=True)
