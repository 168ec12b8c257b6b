"""Clients that do not take their answer: what waits for one is watched, and a client that stops taking it is cut off.

What a client has not taken lies in this process's memory, and keeps its place among the connections. Time alone cannot
tell a slow reader from a dead one: a large answer over a slow line takes minutes. So it is asked from time to time
whether the answer got shorter. What the system's own buffers hold (up to some megabytes) counts as taken.
"""

from __future__ import annotations

import asyncio
from typing import Any

PIECE_BYTES = 256 << 10


class AnswerWatch:
    """Ends a connection whose client has not taken `PIECE_BYTES`, or all that is left, within `seconds`.

    Args:
        transport: of the connection.
        seconds: between two looks.
    """

    def __init__(self, transport: Any, seconds: float) -> None:
        self._transport = transport
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None
        self._left = 0

    def start(self) -> None:
        """Look from now on, if anything waits; call it whenever the amount that waits changes for another reason."""
        self.stop()
        self._left = waiting_bytes(self._transport)
        if self._left:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._look)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        left = waiting_bytes(self._transport)
        if left and self._left - left < PIECE_BYTES:
            self._transport.abort()  # close() would wait until all of it is taken
        else:
            self.start()


def waiting_bytes(transport: Any) -> int:
    """Bytes of answers that the system has not taken yet."""
    count: int = transport.get_write_buffer_size()
    # asyncio's TLS (from Python 3.11 on) counts only what is not encrypted yet; the rest waits one layer below.
    below = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)
    return count if below is None else count + below.get_write_buffer_size()
