"""Configurations on many samples: sums of every metric, then values with intervals.

Axes: I images, S sums of a metric.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from ..runtime import Bundle
from ..runtime.bundles.graph_spec import FULL_PRECISION
from ..runtime.imaging.postprocess import to_image
from ..runtime.imaging.preprocess import Placement, place
from .baselines import Baselines
from .bootstrap import Bootstrap
from .eval_data import JudgedData
from .eval_report import Comparison, EvalRow
from .eval_runner import Configuration, Runner, flops
from .metrics import Metric
from .tasks import TASK_KINDS

__all__ = ["Evidence", "at_labels", "compare", "make_row", "measure"]


@dataclass(frozen=True)
class Evidence:
    """Every image's sums [I, S]: of each configuration, and by task of the constant and of the per-pixel baseline."""

    metrics: dict[str, Metric]
    sums: dict[Configuration, np.ndarray]
    constant: dict[str, np.ndarray]
    pixel_mean: dict[str, np.ndarray]


def at_labels(task: str, value: np.ndarray, placement: Placement) -> np.ndarray:
    """An answer at the size of its label: padding cropped, resized to the picture."""
    if placement.image_hw == placement.size_hw:
        return value
    return to_image(TASK_KINDS[task], value, placement)  # type: ignore[arg-type]  # kinds are the runtime's


def measure(
    runner: Runner, data: JudgedData, baselines: Baselines, workers: int, advance: Callable[[int], None]
) -> Evidence:
    """Run every configuration and both baselines on every sample."""
    metrics, samples_of = data.metrics, data.samples
    fit = runner.bundle.manifest.preprocessing.fit
    step = runner.images_per_call
    batches = [range(first, min(first + step, len(samples_of))) for first in range(0, len(samples_of), step)]

    def sums_of(task: str, value: np.ndarray, sample: Mapping[str, Any], placement: Placement) -> np.ndarray:
        return metrics[task].sums(at_labels(task, value, placement), np.asarray(sample[task]))

    def work(batch: range) -> tuple[dict[Configuration, list[np.ndarray]], list[dict[str, list[np.ndarray]]]]:
        samples = [samples_of[number] for number in batch]
        places = [place(sample["image"].shape[:2], runner.size_hw, fit) for sample in samples]
        found = {
            answer.configuration: [
                sums_of(answer.configuration.task, *each) for each in zip(answer.values, samples, places, strict=True)
            ]
            for answer in runner.answers([sample["image"] for sample in samples])
        }
        plain = [
            {
                task: [sums_of(task, answers[task], *each) for each in zip(samples, places, strict=True)]
                for task in metrics
            }
            for answers in (baselines.constant, baselines.pixel_mean)
        ]
        advance(len(batch))
        return found, plain

    # One thread per core, each with sessions of one thread: two such runs do more images a second than one of two.
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with ThreadPoolExecutor(workers, thread_name_prefix="slimpath-eval") as pool:
            parts = list(pool.map(work, batches))
    finally:
        cv2.setNumThreads(threads)
    sums = {chosen: np.array([row for found, _ in parts for row in found[chosen]]) for chosen in runner.chosen}
    constant, pixel_mean = (
        {task: np.array([row for _, plain in parts for row in plain[which][task]]) for task in metrics}
        for which in (0, 1)
    )
    return Evidence(metrics, sums, constant, pixel_mean)


def make_row(
    bundle: Bundle,
    size_hw: tuple[int, int],
    chosen: Configuration,
    diagonal: bool,
    evidence: Evidence,
    bootstrap: Bootstrap,
    latency_ms: float | None = None,
) -> EvalRow:
    """One task under one configuration, with its intervals."""
    sums = evidence.sums
    metric, sums_IS = evidence.metrics[chosen.task], sums[chosen]
    open_IS = sums.get(replace(chosen, every_expert=True))
    fp32_IS = sums.get(replace(chosen, precision=FULL_PRECISION)) if chosen.precision != FULL_PRECISION else None
    trivial_IS, pixel_mean_IS = evidence.constant[chosen.task], evidence.pixel_mean[chosen.task]
    return EvalRow(
        configuration=chosen,
        metric=metric.name,
        higher_is_better=metric.higher_is_better,
        diagonal=diagonal,
        gflops=flops(bundle, chosen, size_hw) / 1e9,
        accuracy=bootstrap.interval(metric, sums_IS),
        details=metric.details(sums_IS.sum(axis=0)),
        trivial=bootstrap.interval(metric, trivial_IS).value,
        pixel_mean=bootstrap.interval(metric, pixel_mean_IS).value,
        improvement=bootstrap.improvement(metric, sums_IS, trivial_IS),
        pixel_mean_improvement=bootstrap.improvement(metric, sums_IS, pixel_mean_IS),
        all_experts=None if open_IS is None else bootstrap.interval(metric, open_IS),
        paths_gain=None if open_IS is None else bootstrap.difference(metric, sums_IS, open_IS),
        fp32=None if fp32_IS is None else bootstrap.interval(metric, fp32_IS),
        precision_gain=None if fp32_IS is None else bootstrap.difference(metric, sums_IS, fp32_IS),
        latency_ms=latency_ms,
    )


def compare(diagonal: Sequence[Configuration], evidence: Evidence, bootstrap: Bootstrap) -> Iterator[Comparison]:
    """Every wider configuration of the diagonal against every narrower one of its task."""
    for wide in diagonal:
        for narrow in diagonal:
            if narrow.task == wide.task and narrow.encoder_width < wide.encoder_width:
                gain = bootstrap.difference(evidence.metrics[wide.task], evidence.sums[wide], evidence.sums[narrow])
                yield Comparison(wide.task, narrow.encoder_width, wide.encoder_width, gain)
