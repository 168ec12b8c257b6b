"""The two memories of the controller: how far answers lie from their median, and what is peculiar to each plan.

Everything here is in natural logarithms of measured / predicted latency, so that twice and half are equally far.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import NamedTuple

QUANTILE = 0.95
SPREAD_COUNT = 200
PRIOR_COUNT = 20  # the profile's spread counts as much as so many answers
FRESH = 4  # answers after a change of plan that say something about the plan rather than the device
LARGEST_BIAS = 0.35  # what is further off than 40 % is the device
BIAS_MEMORY_S = 60.0
MAX_BIASES = 512


class Spread:
    """The 95th percentile of the last 200 answers around the level.

    Args:
        prior: that of an undisturbed device. It stands in, as 20 normally distributed answers, for what was not seen.
    """

    def __init__(self, prior: float) -> None:
        from statistics import NormalDist  # here: it brings `decimal`, which importing the engine need not pay for

        normal = NormalDist()
        shares = [(number + 0.5) / PRIOR_COUNT for number in range(PRIOR_COUNT)]
        self._prior = [prior * normal.inv_cdf(share) / normal.inv_cdf(QUANTILE) for share in shares]
        self.margin = prior
        self.clear()

    def clear(self) -> None:
        """Back to the prior; the margin follows with the next answer."""
        self._residuals: deque[float] = deque()
        self._ordered = list(self._prior)  # the prior and the residuals

    def add(self, residual: float) -> None:
        """One more answer, so far above (or below) the level."""
        self._residuals.append(residual)
        insort(self._ordered, residual)
        if len(self._residuals) > SPREAD_COUNT:
            del self._ordered[bisect_left(self._ordered, self._residuals.popleft())]
        place = QUANTILE * (len(self._ordered) - 1)
        low, high = self._ordered[int(place)], self._ordered[min(int(place) + 1, len(self._ordered) - 1)]
        self.margin = max(low + (place - int(place)) * (high - low), 0.0)


class _Bias(NamedTuple):
    """How far a plan's answers are from the device's level, from `visits` fresh answers."""

    value: float
    visits: int
    at_s: float


class PlanBiases:
    """What each plan's predictions are off by, beside what all are; forgotten with a time constant of a minute.

    Only the first answers after a change of plan teach it: when nothing changed but the device, it was the device.
    """

    def __init__(self) -> None:
        self._biases: OrderedDict[Hashable, _Bias] = OrderedDict()
        self._suspects: dict[Hashable, _Bias | None] = {}  # as they were before the answers that came late
        self._key: Hashable = None
        self._since_change = 0

    def get(self, key: Hashable, now_s: float) -> float:
        """The bias of a plan; 0 for one that was never seen."""
        bias = self._biases.get(key)
        return 0.0 if bias is None else bias.value * math.exp(-max(now_s - bias.at_s, 0.0) / BIAS_MEMORY_S)

    def learn(self, key: Hashable, residual: float, now_s: float, *, late: bool) -> None:
        """One answer of a plan, `residual` above what its bias and the level let expect; None names no plan."""
        self._since_change = self._since_change + 1 if key == self._key else 1
        self._key = key
        if not late:
            self._suspects.clear()
        if key is None or self._since_change > FRESH or abs(residual) > LARGEST_BIAS:
            return
        known = self._biases.get(key)
        if late:
            self._suspects.setdefault(key, known)
        visits = 0 if known is None else known.visits
        # 0.71, 0.42, 0.29, ...: one answer nearly settles it, later ones average out the noise.
        value = self.get(key, now_s) + residual * max(0.15, 1 / (visits + 1.4))
        self._biases[key] = _Bias(min(max(value, -LARGEST_BIAS), LARGEST_BIAS), visits + 1, now_s)
        self._biases.move_to_end(key)
        if len(self._biases) > MAX_BIASES:
            self._biases.popitem(last=False)

    def acquit(self) -> None:
        """It was the device: undo what the last late answers taught."""
        for key, bias in self._suspects.items():
            if bias is None:
                self._biases.pop(key, None)
            else:
                self._biases[key] = bias
        self._suspects.clear()
