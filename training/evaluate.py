"""`evaluate_bundle`: how good every configuration of a bundle is, on scenes that nothing was trained on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from ..runtime import Bundle, bundled_path
from ..runtime.backends import make_backend
from ..runtime.backends.base import graph_precisions
from ..runtime.bundles.manifest import FULL_PRECISION, Manifest
from ..runtime.cpus import usable_cpus
from ..runtime.planning.sizes import SizeRequest, parse_size
from .baselines import Baselines, fit_baselines
from .bootstrap import Bootstrap
from .data import SampleSource
from .errors import EvaluationError
from .eval_report import Comparison, EvalReport, EvalRow
from .eval_rooms import FIRST_EVALUATION_SEED, RoomRange, open_rooms
from .eval_runner import Configuration, Runner, configurations, flops, without_paths
from .eval_write import check_target, write_accuracies
from .metrics import Metric, metric_for
from .run_train import room_classes
from .synthrooms import RENDERER_VERSION

__all__ = ["evaluate_bundle"]

_ROOM_TASKS = ("semseg", "depth", "normals", "edge", "saliency", "scene")
_RESAMPLES = 2000
_SumsOf = dict[Configuration, np.ndarray]  # [I, S] each


def evaluate_bundle(
    bundle: Path | None = None,
    *,
    scenes: int = 500,
    first_seed: int = FIRST_EVALUATION_SEED,
    grid: bool = False,
    write: Path | None = None,
    samples_per_pixel: int = 4,
    progress: bool = True,
    cache: Path | None = None,
    workers: int | None = None,
    baseline_scenes: int = 200,
    baseline_first_seed: int = 0,
    backend: str = "onnxruntime",
    precision: str = "fp32",
    size: SizeRequest = None,
) -> EvalReport:
    """Measure a bundle at one size on SynthRooms, through the runtime, in the process that calls.

    Args:
        bundle: its folder; None for the bundled model.
        scenes: held-out scenes to measure on, from `first_seed` on.
        grid: measure every (encoder width, top_k, decoder width), not only every width.
        write: also write a new bundle there, with these accuracies in its manifest.
        samples_per_pixel: of the rendered pictures: 1, 4, 9.
        progress: show progress on stderr.
        cache: folder for rendered scenes; what lies there already is not rendered again.
        workers: threads, and processes that render; all usable CPUs by default.
        baseline_scenes: training scenes, from `baseline_first_seed` on, that the trivial answers are fitted on.
        backend, precision: what computes, as in `make_backend`; "auto" of either is resolved first. A precision of the
            bundle's graphs ("int8") means these, "all" every one of them, compared with fp32 on the same scenes.
        size: one of the bundle's; the first by default.

    Raises:
        BundleError: no usable bundle.
        BackendError: the backend cannot be had in that precision.
        SizeError: the bundle has no such size.
        EvaluationError: tasks that SynthRooms cannot judge, overlapping seeds, or `write` exists.
    """
    started = time.monotonic()
    opened = Bundle.open(bundled_path() if bundle is None else bundle)
    if write is not None:
        check_target(write)
    metrics, skipped = _metrics(opened.manifest)
    workers = workers or usable_cpus()
    # ONNX Runtime: a thread per worker, as two such runs do more images a second than one of two threads. The others
    # take one run at a time, so that run has all of them.
    of_graphs = _graph_precisions(opened.manifest, precision)
    computing = make_backend(
        backend,
        threads=1 if backend == "onnxruntime" else workers,
        precision=FULL_PRECISION if of_graphs else precision,
        bundle=opened,
    )
    of_graphs = of_graphs or (FULL_PRECISION,)
    for name in set(of_graphs) - set(graph_precisions(computing)):
        raise EvaluationError(f"{computing.name} does not run {name} graphs; use --backend onnxruntime")
    size_hw = parse_size(size, opened.manifest.sizes)
    wanted = RoomRange(first_seed, scenes, size_hw, samples_per_pixel)
    fitted_on = RoomRange(baseline_first_seed, baseline_scenes, size_hw, 1)
    wanted.check_apart(fitted_on)
    channels = {task.name: task.channels for task in opened.manifest.tasks if task.name in metrics}
    with open_rooms(fitted_on, cache, workers=workers, progress=progress) as rooms:
        baselines = fit_baselines(rooms, channels, size_hw)
    chosen = [
        configuration
        for name in of_graphs
        for configuration in configurations(opened.manifest, list(metrics), grid=grid, precision=name)
    ]
    diagonal = configurations(opened.manifest, list(metrics), grid=False, precision=of_graphs[0])
    run = [*chosen, *without_paths(opened.manifest, diagonal)]
    with (
        open_rooms(wanted, cache, workers=workers, progress=progress) as rooms,
        Runner(opened, run, backend=computing, size_hw=size_hw) as runner,
        _progress_bar(len(rooms), progress) as advance,
    ):
        sums, trivial, pixel_mean = _measure(runner, rooms, metrics, baselines, workers, advance)
    bootstrap = Bootstrap(len(next(iter(sums.values()))), resamples=_RESAMPLES)
    rows = [_row(opened, size_hw, c, c in diagonal, metrics, sums, trivial, pixel_mean, bootstrap) for c in chosen]
    report = EvalReport(
        bundle=opened.manifest.name,
        weights_sha256=opened.manifest.weights.sha256,
        renderer=RENDERER_VERSION,
        scenes=scenes,
        first_seed=first_seed,
        samples_per_pixel=samples_per_pixel,
        size_hw=size_hw,
        grid=grid,
        baseline_scenes=baseline_scenes,
        baseline_first_seed=baseline_first_seed,
        resamples=_RESAMPLES,
        backend=computing.name,
        precision=computing.precision if of_graphs[0] == FULL_PRECISION else of_graphs[0],
        skipped_tasks=skipped,
        rows=tuple(rows),
        comparisons=tuple(_compare(diagonal, metrics, sums, bootstrap)),
        seconds=time.monotonic() - started,
        written=write,
    )
    if write is not None:
        write_accuracies(opened, report.accuracies(), write)
    return report


def _graph_precisions(manifest: Manifest, precision: str) -> tuple[str, ...]:
    """Those of the bundle's graphs that are meant; none where a precision is the backend's own matter."""
    if precision == "all":
        return manifest.precisions
    return (precision,) if precision in manifest.precisions[1:] else ()


def _metrics(manifest: Manifest) -> tuple[dict[str, Metric], tuple[str, ...]]:
    """A metric for each task that SynthRooms labels, and the tasks that it does not."""
    classes = room_classes()
    metrics: dict[str, Metric] = {}
    for task in manifest.tasks:
        if task.name not in _ROOM_TASKS:
            continue
        if task.channels != classes.get(task.name, task.channels):
            raise EvaluationError(
                f"SynthRooms labels {classes[task.name]} classes of '{task.name}', this bundle has {task.channels}; "
                "evaluate a bundle trained on this version's rooms"
            )
        metrics[task.name] = metric_for(task.name, task.channels, task.classes)
    if not metrics:
        raise EvaluationError(
            f"SynthRooms labels {', '.join(_ROOM_TASKS)}; this bundle has only {', '.join(manifest.task_names)}"
        )
    return metrics, tuple(name for name in manifest.task_names if name not in metrics)


def _measure(
    runner: Runner,
    rooms: SampleSource,
    metrics: dict[str, Metric],
    baselines: Baselines,
    workers: int,
    advance: Callable[[int], None],
) -> tuple[_SumsOf, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Every image's sums: of each configuration, of the constant and of the per-pixel baseline."""
    step = runner.images_per_call
    batches = [range(first, min(first + step, len(rooms))) for first in range(0, len(rooms), step)]

    def work(batch: range) -> tuple[dict[Configuration, list[np.ndarray]], list[dict[str, list[np.ndarray]]]]:
        samples = [rooms[number] for number in batch]
        found = {
            answer.configuration: [
                metrics[answer.configuration.task].sums(value, np.asarray(sample[answer.configuration.task]))
                for value, sample in zip(answer.values, samples, strict=True)
            ]
            for answer in runner.answers([sample["image"] for sample in samples])
        }
        plain = [
            {
                task: [metric.sums(answers[task], np.asarray(sample[task])) for sample in samples]
                for task, metric in metrics.items()
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
    trivial, pixel_mean = (
        {task: np.array([row for _, plain in parts for row in plain[which][task]]) for task in metrics}
        for which in (0, 1)
    )
    return sums, trivial, pixel_mean


def _row(
    bundle: Bundle,
    size_hw: tuple[int, int],
    chosen: Configuration,
    diagonal: bool,
    metrics: dict[str, Metric],
    sums: _SumsOf,
    trivial: dict[str, np.ndarray],
    pixel_mean: dict[str, np.ndarray],
    bootstrap: Bootstrap,
) -> EvalRow:
    metric, sums_IS = metrics[chosen.task], sums[chosen]
    open_IS = sums.get(replace(chosen, every_expert=True))
    fp32_IS = sums.get(replace(chosen, precision=FULL_PRECISION)) if chosen.precision != FULL_PRECISION else None
    trivial_IS, pixel_mean_IS = trivial[chosen.task], pixel_mean[chosen.task]
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
    )


def _compare(
    diagonal: Sequence[Configuration], metrics: dict[str, Metric], sums: _SumsOf, bootstrap: Bootstrap
) -> Iterator[Comparison]:
    """Every wider configuration of the diagonal against every narrower one of its task."""
    for wide in diagonal:
        for narrow in diagonal:
            if narrow.task == wide.task and narrow.encoder_width < wide.encoder_width:
                gain = bootstrap.difference(metrics[wide.task], sums[wide], sums[narrow])
                yield Comparison(wide.task, narrow.encoder_width, wide.encoder_width, gain)


@contextmanager
def _progress_bar(total: int, shown: bool) -> Iterator[Callable[[int], None]]:
    """Yields a function that is told how many more scenes are done."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("evaluate"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as bar:
        task = bar.add_task("evaluate", total=total)
        yield lambda done: bar.advance(task, done)
