"""How good a new task is: every width, through the runtime, on pictures that nothing was trained on.

Axes: I images, S sums of a metric, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ...runtime.bundles.accuracy import Accuracy
from ...runtime.bundles.bundle import Bundle
from ...runtime.tasks import TaskSpec
from ..baselines import fit_baselines
from ..bootstrap import Bootstrap, Interval
from ..eval_runner import Configuration, Runner, configurations
from ..metrics import Metric, metric_for
from ..placed import Placed, Subset
from ..sources import SampleSource
from .kinds import LIKE

__all__ = ["TaskRow", "measure_task", "to_accuracies"]

_BASELINE_SAMPLES = 200


@dataclass(frozen=True)
class TaskRow:
    """One configuration, measured. `constant` and `pixel_mean` are what the metric gives two answers that ignore the
    picture, see `baselines`; `gain` is the relative improvement over the better of the two."""

    encoder_width: float
    top_k: int
    decoder_width: float
    metric: str
    higher_is_better: bool
    accuracy: Interval
    constant: float
    pixel_mean: float
    gain: Interval
    samples: int


def measure_task(
    bundle: Bundle,
    spec: TaskSpec,
    held: SampleSource,
    trained: SampleSource,
    *,
    grid: bool = False,
    advance: Callable[[int], None] = lambda done: None,
) -> list[TaskRow]:
    """Measure a task at the bundle's first size.

    Args:
        bundle: with the task's pack.
        held: what to judge on.
        trained: what the trivial answers are fitted on: its first samples.
        grid: every (encoder width, top_k, decoder width), not only every width.
        advance: told how many more samples are done.
    """
    manifest, label = bundle.manifest, LIKE[spec.kind]
    size_hw = manifest.sizes[0]
    judged = Placed(held, (label,), size_hw, manifest.preprocessing)
    few = Subset(trained, range(min(_BASELINE_SAMPLES, len(trained))))
    known = Placed(few, (label,), size_hw, manifest.preprocessing)
    metric = metric_for(label, spec.channels, spec.classes)
    trivial = fit_baselines(known, {label: spec.channels}, size_hw)
    chosen = configurations(manifest, [spec.name], grid=grid)
    sums: dict[Configuration, list[np.ndarray]] = {configuration: [] for configuration in chosen}
    plain: tuple[list[np.ndarray], list[np.ndarray]] = [], []
    with Runner(bundle, chosen) as runner:
        step = runner.images_per_call
        for first in range(0, len(judged), step):
            samples = [judged[number] for number in range(first, min(first + step, len(judged)))]
            truths = [np.asarray(sample[label]) for sample in samples]
            for answer in runner.answers([sample["image"] for sample in samples]):
                found = zip(answer.values, truths, strict=True)
                sums[answer.configuration] += [metric.sums(value, truth) for value, truth in found]
            for kept, answers in zip(plain, (trivial.constant, trivial.pixel_mean), strict=True):
                kept += [metric.sums(answers[label], truth) for truth in truths]
            advance(len(samples))
    return [_row(chosen, metric, np.array(sums[chosen]), *map(np.array, plain)) for chosen in sums]


def _row(
    chosen: Configuration, metric: Metric, sums_IS: np.ndarray, constant_IS: np.ndarray, pixel_mean_IS: np.ndarray
) -> TaskRow:
    bootstrap = Bootstrap(len(sums_IS))
    constant, pixel_mean = (bootstrap.interval(metric, rows).value for rows in (constant_IS, pixel_mean_IS))
    better = pixel_mean_IS if (pixel_mean > constant) == metric.higher_is_better else constant_IS
    return TaskRow(
        encoder_width=chosen.encoder_width,
        top_k=chosen.top_k,
        decoder_width=chosen.decoder_width,
        metric=metric.name,
        higher_is_better=metric.higher_is_better,
        accuracy=bootstrap.interval(metric, sums_IS),
        constant=constant,
        pixel_mean=pixel_mean,
        gain=bootstrap.improvement(metric, sums_IS, better),
        samples=len(sums_IS),
    )


def to_accuracies(task: str, rows: Sequence[TaskRow], source: str, size_hw: tuple[int, int]) -> tuple[Accuracy, ...]:
    """The rows as a pack holds them, the constant answer as the trivial one, as `slimpath eval` has it."""
    return tuple(
        Accuracy(
            task=task,
            encoder_width=row.encoder_width,
            top_k=row.top_k,
            decoder_width=row.decoder_width,
            metric=row.metric,
            higher_is_better=row.higher_is_better,
            value=row.accuracy.value,
            ci_low=row.accuracy.low,
            ci_high=row.accuracy.high,
            trivial=row.constant,
            samples=row.samples,
            source=source,
            size_hw=size_hw,
        )
        for row in rows
    )
