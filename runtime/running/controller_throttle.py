"""What the controller knows before any answer is late: that the device holds its clocks back, and by how much.

    begins      the level rises at once, to what it was before times the brake's factor; answers then correct it
    ends        the level that was true under the brake is kept as a floor for some seconds, then let go
    again       ... for twice as long each time, at most two minutes, if it comes back within a minute of the floor

Without the floor heat would make a swing: cool, wide, hot, braked, narrow, cool. Raising to a level rather than by a
factor makes a brake that flickers count once.
"""

from __future__ import annotations

import math

BRAKED = 0.01  # natural logarithm: a factor below 1.01 is none
HOLD_S = (8.0, 120.0)
AGAIN_S = 60.0


class Throttle:
    """The brake's memory; everything is in natural logarithms of measured / predicted latency."""

    def __init__(self) -> None:
        self.factor = 1.0
        self._strongest = 0.0  # of this brake so far: a governor that goes up and down a step counts once
        self._before = 0.0  # the level when there was last no brake, however much was learnt since
        self._at_release: float | None = None  # a level that no answer has moved since the brake says nothing
        self._floor = -math.inf
        self._floor_until_s = -math.inf
        self._hold_s = HOLD_S[0]

    def tell(self, factor: float, level: float, now_s: float) -> float | None:
        """How much slower the clocks run now than they may.

        Args:
            factor: at least 1; 1 for no brake.
            level: what the controller believes.

        Returns:
            The level that has to be believed at least, where the brake is new or has become stronger; else None.
        """
        log = math.log(factor)
        braked, was_braked = log >= BRAKED, self.factor > 1.0
        if braked and not was_braked:
            again = now_s < self._floor_until_s + AGAIN_S
            self._hold_s = min(self._hold_s * 2, HOLD_S[1]) if again else HOLD_S[0]
            self._floor = self._floor_until_s = -math.inf
            self._strongest = 0.0
        elif was_braked and not braked:
            self._floor, self._floor_until_s, self._at_release = level, now_s + self._hold_s, level
        elif not braked and now_s >= self._floor_until_s and level != self._at_release:
            self._before = level
        self.factor = factor if braked else 1.0
        if not braked or log < self._strongest + BRAKED:
            return None
        self._strongest = log
        return self._before + log

    def floor(self, now_s: float) -> float:
        """The least that the level may be, minus infinity for anything."""
        if now_s >= self._floor_until_s:
            self._floor = -math.inf
        return self._floor
