"""The threads in which an engine answers an event loop's calls."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from ..errors import BackendError

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

_Answer = TypeVar("_Answer")


class CallThreads:
    """Started with the first call, closed with the engine."""

    def __init__(self) -> None:
        self._executor: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._closed = False

    async def run(self, call: Callable[[], _Answer]) -> _Answer:
        """`call()` in one of the threads, while the event loop goes on.

        Raises:
            BackendError: the engine is closed. And whatever the call raises.
        """
        import asyncio  # here: importing the engine is a tenth faster without it
        from concurrent.futures import ThreadPoolExecutor

        loop = asyncio.get_running_loop()
        with self._lock:
            if self._closed:
                raise BackendError("the engine is closed", hint="load it again")
            if self._executor is None:
                # Two: one decodes while the other computes; more would only wait for the same cores.
                self._executor = ThreadPoolExecutor(2, thread_name_prefix="slimpath")
            future = loop.run_in_executor(self._executor, call)
        return await future

    def close(self) -> None:
        """Take no more calls. A second time does nothing."""
        with self._lock:
            self._closed = True
            if self._executor is not None:
                self._executor.shutdown(wait=False)
