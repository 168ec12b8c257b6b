"""How much work comes in at present: in seconds of computing per second, if all of it were answered as asked for."""

from __future__ import annotations

import math

MEMORY_S = 2.0  # long against a burst, short against a change of load
EVENTS_TO_TRUST = 10


class Arrivals:
    """An exponentially fading sum of offered work, accepted or not. Not for several threads at once."""

    def __init__(self, memory_s: float = MEMORY_S) -> None:
        self._memory_s = memory_s
        self._work_per_s = 0.0
        self._events = 0.0
        self._last_s = -math.inf

    def add(self, now_s: float, work_s: float) -> None:
        """A request that would take `work_s` as asked for."""
        self._fade(now_s)
        self._work_per_s += work_s / self._memory_s
        self._events += 1

    def load(self, now_s: float) -> float:
        """Seconds of computing asked for per second; 1 is what one runner can do. 0 until enough was seen to tell."""
        self._fade(now_s)
        return self._work_per_s if self._events >= EVENTS_TO_TRUST else 0.0

    def _fade(self, now_s: float) -> None:
        if now_s > self._last_s:
            left = math.exp((self._last_s - now_s) / self._memory_s)
            self._work_per_s *= left
            self._events *= left
            self._last_s = now_s
