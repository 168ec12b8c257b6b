"""Ending a running request from outside: its time is over, or its client has gone. For Python 3.10 too."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Literal

Reason = Literal["late", "gone"]


class Interrupt:
    """`async with Interrupt(seconds) as it:` cancels the task inside after so many seconds, or on `it.fire("gone")`.

    Afterwards `it.reason` says why; the cancellation ends here, so that the code below the block goes on. One that came
    from elsewhere passes through.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.reason: Reason | None = None
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Interrupt:
        self._task = asyncio.current_task()
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self.fire, "late")
        return self

    def fire(self, reason: Reason) -> None:
        """Cancel the task, once."""
        if self._task is not None and self.reason is None:
            self.reason = reason
            self._task.cancel()

    def stop_clock(self) -> None:
        """Only `fire` ends it from now on."""
        if self._timer is not None:
            self._timer.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        task, self._task = self._task, None
        if self._timer is not None:
            self._timer.cancel()
        if self.reason is None:
            return False
        if kind is asyncio.CancelledError:
            getattr(task, "uncancel", int)()  # Python 3.11 counts cancellations
            return True
        if kind is None:
            # It was cancelled in the very step in which it ended: what was sent to it must not hit a later await.
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                getattr(task, "uncancel", int)()
            self.reason = None
        return False


async def watch_for_disconnect(receive: Callable[[], Awaitable[Any]], on_gone: Callable[[], None]) -> None:
    """Wait until the client hangs up. Call it when the body was read: whatever else comes is no request."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            on_gone()
            return
