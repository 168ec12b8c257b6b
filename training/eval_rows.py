"""What an evaluation holds of one task under one configuration, and of two widths side by side."""

from __future__ import annotations

from dataclasses import dataclass

from .bootstrap import Interval
from .eval_runner import Configuration

__all__ = ["MIN_IMPROVEMENT", "Comparison", "EvalRow", "Kept"]

MIN_IMPROVEMENT = 0.2


@dataclass(frozen=True)
class EvalRow:
    """One task under one configuration.

    `trivial` and `pixel_mean` are the baselines' values on the same scenes (see `baselines`); `improvement` is the
    relative gain over the trivial one, `pixel_mean_improvement` over the other; `gflops` the cost of one image with
    this task alone; `diagonal` is true where the decoder is as wide as the encoder and top_k is the largest.
    `all_experts` is the value with the experts that the bundle's expert paths leave out, and `paths_gain` how much
    better the bundle is without them, usually below 0; None where none are left out, and off the diagonal.
    `fp32` is the value of the same configuration in fp32, and `precision_gain` how much better this one is, usually
    below 0; None in fp32, and where fp32 was not measured beside.
    `latency_ms` is the median of a few calls of the engine with one picture and this task, where it was measured.
    """

    configuration: Configuration
    metric: str
    higher_is_better: bool
    diagonal: bool
    gflops: float
    accuracy: Interval
    details: dict[str, float]
    trivial: float
    pixel_mean: float
    improvement: Interval
    pixel_mean_improvement: Interval
    all_experts: Interval | None = None
    paths_gain: Interval | None = None
    fp32: Interval | None = None
    precision_gain: Interval | None = None
    latency_ms: float | None = None

    @property
    def beats_trivial(self) -> bool:
        """At least 20 % better than trivial, with the whole 95 % interval of the gain."""
        return self.improvement.low >= MIN_IMPROVEMENT


@dataclass(frozen=True)
class Comparison:
    """A wider configuration against a narrower one of the same task; `gain` above 0 is in favour of the wider."""

    task: str
    narrow: float
    wide: float
    gain: Interval

    @property
    def holds(self) -> bool:
        """Wider is not worse within noise: the interval does not lie wholly below 0."""
        return self.gain.high >= 0


@dataclass(frozen=True)
class Kept:
    """What a width keeps of the full width's gain over trivial: the mean share of all tasks, and each task's."""

    width: float
    mean: Interval
    tasks: dict[str, float]
