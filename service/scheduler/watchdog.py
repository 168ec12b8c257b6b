"""Sees engine calls that do not end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

CHECKS_PER_LIMIT = 8
LATE = 2.0  # times its interval: then it was not only the calls that stood still, but this process


class Watchdog:
    """A thread that looks several times per limit.

    Args:
        limit_s: after which a call counts as hung.
        look: does the looking; is told for how many seconds the whole process stood still since the last look (stopped,
            suspended, starved), which is no call's fault. May not raise.
        clock: in seconds.
    """

    def __init__(
        self, limit_s: float, look: Callable[[float], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._every_s = min(limit_s / CHECKS_PER_LIMIT, 1.0)
        self._look = look
        self._clock = clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="slimpath-watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """A second call does nothing."""
        self._stop.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(5.0)

    def _run(self) -> None:
        last_s = self._clock()
        while not self._stop.wait(self._every_s):
            now_s = self._clock()
            gap_s, last_s = now_s - last_s, now_s
            self._look(gap_s - self._every_s if gap_s > LATE * self._every_s else 0.0)
