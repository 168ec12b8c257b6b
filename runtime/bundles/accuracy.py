"""What a manifest says of accuracy: the points that were measured."""

from __future__ import annotations

import math

import msgspec

from .graph_spec import FULL_PRECISION
from .manifest_checks import require, require_precision


class Accuracy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One measured point. `trivial` is what the metric gives an answer that ignores the image.

    `size_hw` is None for the bundle's first size. `all_experts` is the value with every expert reachable, where the
    bundle's expert paths leave some out and it was measured beside.
    """

    task: str
    encoder_width: float
    top_k: int
    decoder_width: float
    metric: str
    higher_is_better: bool
    value: float
    ci_low: float | None
    ci_high: float | None
    trivial: float
    samples: int
    source: str
    precision: str = FULL_PRECISION
    size_hw: tuple[int, int] | None = None
    all_experts: float | None = None


def check_accuracies(
    accuracies: tuple[Accuracy, ...], *, sizes: tuple[tuple[int, int], ...], tasks: tuple[str, ...]
) -> None:
    """Numbers, of tasks and sizes that the manifest has.

    Raises:
        ManifestError: naming the point and its field.
    """
    for number, accuracy in enumerate(accuracies):
        where = f"accuracies[{number}]"
        require(accuracy.task in tasks, f"{where}.task", f"one of {tasks}", accuracy.task)
        size_hw = accuracy.size_hw
        require(size_hw is None or size_hw in sizes, f"{where}.size_hw", f"null or one of {sizes}", size_hw)
        require_precision(f"{where}.precision", accuracy.precision)
        for field in ("value", "trivial", "all_experts"):
            value = getattr(accuracy, field)
            require(value is None or math.isfinite(value), f"{where}.{field}", "finite", value)
