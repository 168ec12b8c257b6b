"""How long an engine call will take: what the profile says, corrected by what calls took.

    seconds of one request = prior * exp(level + bias of its plan)
    seconds of a batch     = sum of its members alone * gain of (encoder, number of images)

`prior` is the profile's latency. Without a profile it is what the plan's FLOPs and its tasks' pixels take at some pace,
which the first measured call corrects. `level` follows the device, quickly: heat, other work on the same cores. A
`bias` follows one plan. `gain` is below 1 where a batch is cheaper than its members one by one; on a CPU with a thread
per call it is not.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from .ladder import Rung

FLOPS_PER_S = 100e9  # whatever it is: the first call corrects it
# Writing and finishing a task's output: the bundled model takes 3 ms a task at 224 x 224 beside 8 ms per GFLOP.
TASK_FLOPS_PER_PIXEL = 8e3
LEVEL_RATE = 0.1
BIAS_RATE = 0.1
GAIN_RATE = 0.2
OUTLIER = 0.7  # natural logarithm, twice: a single call that far off moves the level no further than this
MARGIN_STEP = 0.02
MARGINS = (1.02, 1.6)
MAX_KEYS = 4096
POSSIBLE_S = (1e-6, 3600.0)  # of a call; beyond, it was the clock

# rung, images -> cost of the batch over that of its members alone, None where it is unknown
BatchPrior = Callable[[Rung, int], float | None]


@dataclass
class _Bias:
    value: float = 0.0
    visits: int = 0


class Costs:
    """Predictions in seconds, learnt from every call. Not for several threads at once.

    Args:
        batch_prior: gains of batches that were not measured yet; None: nothing is gained.
    """

    def __init__(self, batch_prior: BatchPrior | None = None) -> None:
        self._batch_prior = batch_prior
        self._level = 0.0
        self._calls = 0
        self._biases: OrderedDict[Hashable, _Bias] = OrderedDict()
        self._gains: OrderedDict[tuple[Hashable, int], float] = OrderedDict()
        self._margin = math.log(1.1)
        self._alone: dict[Hashable, float] = {}  # of this level: forgotten with each observation

    @property
    def calls(self) -> int:
        """That were measured."""
        return self._calls

    @property
    def margin(self) -> float:
        """95th percentile over median of what calls take: what a deadline has to leave room for."""
        return min(max(math.exp(self._margin), MARGINS[0]), MARGINS[1])

    def alone_s(self, rung: Rung) -> float:
        """Of a call with this plan alone."""
        found = self._alone.get(rung.key)
        if found is None:
            bias = self._biases.get(rung.key)
            found = _prior_s(rung) * math.exp(self._level + (0.0 if bias is None else bias.value))
            self._alone[rung.key] = found
        return found

    def batch_s(self, rungs: Sequence[Rung]) -> float:
        """Of one call for all of them; they share an encoder call where they are of one group."""
        return sum(self.alone_s(rung) for rung in rungs) * self.gain(rungs[0], len(rungs))

    def gain(self, rung: Rung, images: int) -> float:
        """Cost of a batch over that of its members one by one."""
        if images <= 1:
            return 1.0
        found = self._gains.get((rung.group, images))
        if found is None and self._batch_prior is not None:
            found = self._batch_prior(rung, images)
        return self._gain_elsewhere(rung.group, images) if found is None else found

    def observe(self, rungs: Sequence[Rung], seconds: float) -> None:
        """Learn from a call that succeeded."""
        if not (rungs and POSSIBLE_S[0] < seconds < POSSIBLE_S[1]):
            return
        if len(rungs) == 1:
            self._observe_alone(rungs[0], seconds)
        elif len({rung.group for rung in rungs}) == 1:
            self._observe_batch(rungs, seconds)

    def _gain_elsewhere(self, group: Hashable, images: int) -> float:
        """That of the next smaller batch that was measured, of this encoder or else of the others on the average."""
        for fewer in range(images, 1, -1):
            if (group, fewer) in self._gains:
                return self._gains[group, fewer]
            others = [gain for (_, size), gain in self._gains.items() if size == fewer]
            if others:
                return sum(others) / len(others)
        return 1.0

    def _observe_alone(self, rung: Rung, seconds: float) -> None:
        bias = self._biases.get(rung.key)
        if bias is None:
            bias = self._biases[rung.key] = _Bias()
            if len(self._biases) > MAX_KEYS:
                self._biases.popitem(last=False)
        ratio = math.log(seconds / _prior_s(rung))
        if self._calls == 0:
            self._level = ratio
        residual = ratio - self._level - bias.value
        self._calls += 1
        if bias.visits == 0:
            # A plan's first call tells about the plan; how far the device is off is known from the others.
            bias.value = ratio - self._level
        else:
            bounded = min(max(residual, -OUTLIER), OUTLIER)
            self._margin += MARGIN_STEP * (0.95 if residual > self._margin else -0.05)
            self._margin = min(max(self._margin, 0.0), math.log(MARGINS[1]))
            self._level += LEVEL_RATE * bounded
            bias.value += BIAS_RATE * bounded
        bias.visits += 1
        self._alone.clear()

    def _observe_batch(self, rungs: Sequence[Rung], seconds: float) -> None:
        key = (rungs[0].group, len(rungs))
        measured = seconds / sum(self.alone_s(rung) for rung in rungs)
        known = self._gains.get(key)
        self._gains[key] = measured if known is None else known + GAIN_RATE * (measured - known)
        if len(self._gains) > MAX_KEYS:
            self._gains.popitem(last=False)


def _prior_s(rung: Rung) -> float:
    plan = rung.plan
    if plan.latency_ms is not None:
        return max(plan.latency_ms, 1e-3) / 1e3
    pixels = plan.size_hw[0] * plan.size_hw[1] * len(plan.decoder_widths)
    return (plan.flops + TASK_FLOPS_PER_PIXEL * pixels) / FLOPS_PER_S
