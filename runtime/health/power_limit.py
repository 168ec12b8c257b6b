"""Keeps a stream below so many watts: the knob is turned down until the device draws no more than it may.

At a fixed rate a cheaper plan leaves the device idle for longer, so it draws less. What comes out is a *pressure*, at
least 1: plans are taken to cost so many times what they do, and the controller's factor is multiplied by it. Steps of
the knob are coarse, so there may be none that hits the limit exactly: a pressure that proved too low is not tried
again for half a minute, then for one, two, at most five.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from time import monotonic

STEP_S = 1.0
AVERAGE_S = 2.0  # time constant: longer than a frame, shorter than a power supply's patience
ROOM = 0.93  # of the limit: below it the knob may be turned up
RISE, FALL = (1.05, 1.3), 0.96
MOST = 20.0
PATIENCE_S = (30.0, 300.0)


class PowerLimit:
    """One per stream.

    Args:
        limit_w: of everything on the board's rails.
        clock: seconds, rising; used where `observe` is given no time.
    """

    def __init__(self, limit_w: float, *, clock: Callable[[], float] = monotonic) -> None:
        if not 0 < limit_w < math.inf:
            raise ValueError(f"a power limit must be above 0 W, got {limit_w}")
        self.limit_w = limit_w
        self.pressure = 1.0
        self._clock = clock
        self._mean_w: float | None = None
        self._last_s = self._stepped_s = -math.inf
        self._floor, self._floor_until_s = 1.0, -math.inf
        self._patience_s = PATIENCE_S[0]

    @property
    def mean_w(self) -> float | None:
        """Of the last seconds; None before the first reading."""
        return self._mean_w

    def observe(self, power_w: float, now_s: float | None = None) -> float:
        """One reading; returns the pressure."""
        now = self._clock() if now_s is None else now_s
        if not math.isfinite(power_w) or power_w < 0 or now < self._last_s:
            return self.pressure
        if self._mean_w is None:
            self._mean_w, self._stepped_s = power_w, now
        else:
            keep = math.exp(-(now - self._last_s) / AVERAGE_S)
            self._mean_w = keep * self._mean_w + (1 - keep) * power_w
        self._last_s = now
        if now - self._stepped_s >= STEP_S:
            self._stepped_s = now
            self._step(self._mean_w, now)
        return self.pressure

    def _step(self, mean_w: float, now: float) -> None:
        if mean_w > self.limit_w:
            again = now < self._floor_until_s + self._patience_s
            raised = min(self.pressure * min(max(mean_w / self.limit_w, RISE[0]), RISE[1]), MOST)
            if raised > self._floor or now >= self._floor_until_s:
                # The first step of an overshoot decides how long it is remembered, not each of them.
                if now >= self._floor_until_s:
                    self._patience_s = min(self._patience_s * 2, PATIENCE_S[1]) if again else PATIENCE_S[0]
                self._floor = raised
            self._floor_until_s = now + self._patience_s
            self.pressure = raised
        elif mean_w < self.limit_w * ROOM:
            floor = self._floor if now < self._floor_until_s else 1.0
            self.pressure = max(self.pressure * FALL, floor, 1.0)
