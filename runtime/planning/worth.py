"""What a configuration is worth: the manifest's measured accuracies, on one scale for all tasks.

    quality = (value - trivial) / (value of the full configuration - trivial)
is 1 for the full configuration, 0 for an answer that ignores the image, and right for metrics of either direction.

Measurements have errors, and a difference smaller than the error is no reason to compute less. A configuration that
holds another one in every part (wider encoder, more experts, wider decoder) is therefore credited with the narrower
one's value where that lies inside its own confidence interval. What still measures alike is told apart by FLOPs: a
budget says what may be spent, and a hundred test images do not prove that the rest is of no use.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ..bundles.accuracy import Accuracy
from ..bundles.graph_spec import FULL_PRECISION
from ..bundles.manifest import Manifest

Size = tuple[int, int]
Point = tuple[float, int, float]  # encoder width, top_k, decoder width

# Of the worth of all FLOPs against a quality of 1: decides between equals, and nothing else.
TIE_BREAK = 1e-6


def quality(accuracy: Accuracy, full: Accuracy) -> float:
    """Where a value lies between the trivial answer (0) and the full configuration (1), whichever way is better.

    A task that the full configuration does no better than trivially has nothing to lose: 0 everywhere.
    """
    sign = 1.0 if full.higher_is_better else -1.0
    span = sign * (full.value - full.trivial)
    return sign * (accuracy.value - accuracy.trivial) / span if span > 0 else 0.0


def keeps_floor(accuracy: Accuracy, full: Accuracy, floor: float) -> bool:
    """Is a measured value at least `floor` of the full one, or as good as it?"""
    sign = 1.0 if full.higher_is_better else -1.0
    return quality(accuracy, full) >= floor - 1e-9 or sign * (accuracy.value - full.value) >= 0


class Accuracies:
    """The manifest's accuracies by task, size, precision and configuration."""

    def __init__(self, manifest: Manifest) -> None:
        self._measured: dict[tuple[str, Size, str], dict[Point, Accuracy]] = {}
        self._credited: dict[tuple[str, Size, str], dict[Point, Accuracy]] = {}
        for accuracy in manifest.accuracies:
            where = (accuracy.task, accuracy.size_hw or manifest.sizes[0], accuracy.precision)
            top_k = accuracy.top_k if manifest.is_moe else 0
            point = (accuracy.encoder_width, top_k, accuracy.decoder_width)
            self._measured.setdefault(where, {})[point] = accuracy
        self._full_point: dict[tuple[str, Size], Point] = {}
        top_k = manifest.encoder.top_k if manifest.is_moe else 0
        for size_hw in manifest.sizes:
            for task in manifest.task_names:
                decoders = [g.width for g in manifest.graphs if g.task == task and g.size_hw == size_hw]
                self._full_point[task, size_hw] = (max(manifest.widths), top_k, max(decoders))

    def measured(self, task: str, size_hw: Size, precision: str = FULL_PRECISION) -> Mapping[Point, Accuracy]:
        """What was measured, by (encoder width, top_k, decoder width)."""
        return self._measured.get((task, size_hw, precision), {})

    def full(self, task: str, size_hw: Size) -> Accuracy | None:
        """The measured value of the full configuration, None where there is none."""
        return self.measured(task, size_hw).get(self._full_point[task, size_hw])

    def qualities(self, task: str, size_hw: Size, precision: str, reference_hw: Size) -> dict[Point, float]:
        """The quality of every measured point, after crediting, against the full configuration at `reference_hw`.

        Empty if that one was not measured: there is then no scale.
        """
        if self.full(task, reference_hw) is None:
            return {}
        full = self._credit(task, reference_hw, FULL_PRECISION)[self._full_point[task, reference_hw]]
        return {point: quality(a, full) for point, a in self._credit(task, size_hw, precision).items()}

    def _credit(self, task: str, size_hw: Size, precision: str) -> Mapping[Point, Accuracy]:
        where = (task, size_hw, precision)
        if where not in self._credited:
            measured = self.measured(*where)
            self._credited[where] = {point: _credited(point, measured) for point in measured}
        return self._credited[where]


def _credited(point: Point, measured: Mapping[Point, Accuracy]) -> Accuracy:
    """A point's accuracy, with the best value that a narrower one has inside this one's interval."""
    own = measured[point]
    if own.ci_low is None or own.ci_high is None:
        return own
    best = max if own.higher_is_better else min
    inside = [
        other.value
        for held, other in measured.items()
        if all(a <= b for a, b in zip(held, point)) and own.ci_low <= other.value <= own.ci_high
    ]
    return msgspec.structs.replace(own, value=best([own.value, *inside]))
