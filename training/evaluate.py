"""`evaluate_bundle`: how good every configuration of a bundle is, on pictures that nothing was trained on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime import Bundle
from ..runtime.backends import make_backend
from ..runtime.backends.base import Backend, graph_precisions
from ..runtime.bundles.graph_spec import FULL_PRECISION
from ..runtime.bundles.manifest import Manifest
from ..runtime.cpus import usable_cpus
from ..runtime.planning.sizes import SizeRequest
from .baselines import fit_baselines
from .bootstrap import Bootstrap
from .errors import EvaluationError
from .eval_data import FileData, JudgedData, judged_files, judged_rooms
from .eval_kept import kept_shares
from .eval_latency import measure_latencies
from .eval_measure import Evidence, compare, make_row, measure
from .eval_open import configurations_at, open_evaluated
from .eval_report import EvalReport
from .eval_rooms import FIRST_EVALUATION_SEED, RoomRange
from .eval_runner import Configuration, Runner, configurations, without_paths
from .eval_write import check_target, write_accuracies
from .journal import counting_bar
from .metrics import Metric
from .synthrooms import VERSIONS

__all__ = ["Evaluation", "Intended", "evaluate_bundle", "run_evaluation"]

_RESAMPLES = 2000


@dataclass(frozen=True)
class Evaluation:
    """A report, and what it was made of: for figures that need every image's share, and for pictures."""

    report: EvalReport
    evidence: Evidence
    bootstrap: Bootstrap
    bundle: Bundle
    backend: Backend
    data: JudgedData


@dataclass(frozen=True)
class Intended:
    """What will be measured: graphs of these precisions, on a source as reports name it, by a metric of every task."""

    precisions: tuple[str, ...]
    source: str
    metrics: Mapping[str, Metric]


Check = Callable[[Intended], None]
Look = Callable[[Evaluation], None]


def evaluate_bundle(bundle: Path | None = None, **options: Any) -> EvalReport:
    """The report of `run_evaluation`, whose options these are."""
    return run_evaluation(bundle, **options).report


def run_evaluation(
    bundle: Path | None = None,
    *,
    scenes: int = 500,
    first_seed: int = FIRST_EVALUATION_SEED,
    files: FileData | None = None,
    tasks: Sequence[str] | None = None,
    grid: bool = False,
    at: Sequence[str] = (),
    write: Path | None = None,
    samples_per_pixel: int = 4,
    progress: bool = True,
    cache: Path | None = None,
    workers: int | None = None,
    baseline_scenes: int = 200,
    baseline_first_seed: int = 0,
    world: str = "rooms",
    backend: str = "onnxruntime",
    precision: str = "fp32",
    size: SizeRequest = None,
    latency: bool = False,
    checks: Sequence[Check] = (),
    looks: Sequence[Look] = (),
) -> Evaluation:
    """Measure a bundle at one size through the runtime, in the process that calls: on SynthRooms, or on files.

    Args:
        bundle: its folder, or a checkpoint, which is exported for as long as this takes; None for the bundled model.
        scenes: held-out scenes to measure on, from `first_seed` on.
        files: measure on these instead of rendered scenes.
        tasks: those to measure; all that the data labels by default.
        grid: measure every (encoder width, top_k, decoder width), not only every width.
        at: measure these configurations only, such as "width=0.5,top_k=2"; see `configurations_at`.
        write: also write a new bundle there, with these accuracies in its manifest.
        samples_per_pixel: of the rendered pictures: 1, 4, 9.
        progress: show progress on stderr.
        cache: folder for rendered scenes; what lies there already is not rendered again.
        workers: threads, and processes that render; all usable CPUs by default.
        world: of the rendered scenes: rooms alone, or wide, what photographs show too.
        baseline_scenes: training scenes, from `baseline_first_seed` on, that the trivial answers are fitted on.
        backend, precision: what computes, as in `make_backend`; "auto" of either is resolved first. A precision of the
            bundle's graphs ("int8") means these, "all" every one of them, compared with fp32 on the same scenes.
        size: one of the bundle's; the first by default.
        latency: also measure how long each configuration takes here.
        checks: called before anything is rendered or measured; what they raise ends it there.
        looks: called with the evaluation while its pictures can still be read.

    Raises:
        BundleError: no usable bundle.
        BackendError: the backend cannot be had in that precision.
        SizeError: the bundle has no such size.
        DataError: files are missing, damaged or do not fit together.
        EvaluationError: tasks that the data cannot judge, overlapping seeds, `write` exists, or a choice of
            configurations that contradicts itself.
    """
    started = time.monotonic()
    if write is not None:
        check_target(write)
    if at and (grid or precision == "all"):
        raise EvaluationError("chosen configurations (--at) are measured instead of --grid and --precision all")
    workers = workers or usable_cpus()
    with ExitStack() as stack:
        opened, size_hw = stack.enter_context(open_evaluated(bundle, size))
        of_graphs, computing = _computing(opened, backend, precision, workers)

        def agree(source: str, metrics: Mapping[str, Metric]) -> None:
            for check in checks:
                check(Intended(of_graphs, source, metrics))

        if files is not None:
            data = judged_files(opened.manifest, files, size_hw, tasks)
            agree(data.source, data.metrics)
        else:
            data = stack.enter_context(
                judged_rooms(
                    opened.manifest,
                    RoomRange(first_seed, scenes, size_hw, samples_per_pixel, world),
                    RoomRange(baseline_first_seed, baseline_scenes, size_hw, 1, world),
                    tasks=tasks,
                    cache=cache,
                    workers=workers,
                    progress=progress,
                    agree=agree,
                )
            )
        channels = {task.name: task.channels for task in opened.manifest.tasks if task.name in data.metrics}
        baselines = fit_baselines(data.known, channels, size_hw)
        diagonal, chosen = _configurations(opened.manifest, list(data.metrics), grid, at, of_graphs)
        run = [*chosen, *without_paths(opened.manifest, diagonal)]
        runner = stack.enter_context(Runner(opened, run, backend=computing, size_hw=size_hw))
        with counting_bar("evaluate", len(data.samples), progress) as advance:
            evidence = measure(runner, data, baselines, workers, advance)
        _check_labels(evidence)
        bootstrap = Bootstrap(len(data.samples), resamples=_RESAMPLES)
        times = measure_latencies(opened, chosen, computing, data.samples[0]["image"], size_hw) if latency else {}
        rendered = files is None
        report = EvalReport(
            bundle=opened.manifest.name,
            weights_sha256=opened.manifest.weights.sha256,
            source=data.source,
            fitted_on=data.fitted_on,
            layout=None if files is None else files.layout,
            renderer=VERSIONS[world] if rendered else "",
            scenes=len(data.samples),
            first_seed=first_seed if rendered else None,
            samples_per_pixel=samples_per_pixel if rendered else None,
            size_hw=size_hw,
            grid=grid,
            at=tuple(at),
            baseline_scenes=len(data.known),
            baseline_first_seed=baseline_first_seed if rendered else None,
            resamples=_RESAMPLES,
            backend=computing.name,
            precision=computing.precision if of_graphs[0] == FULL_PRECISION else of_graphs[0],
            skipped_tasks=data.skipped,
            rows=tuple(make_row(opened, size_hw, c, c in diagonal, evidence, bootstrap, times.get(c)) for c in chosen),
            comparisons=tuple(compare(diagonal, evidence, bootstrap)),
            kept=tuple(kept_shares(diagonal, evidence, bootstrap)),
            seconds=time.monotonic() - started,
            written=write,
        )
        if write is not None:
            write_accuracies(opened, report.accuracies(), write)
        evaluation = Evaluation(report, evidence, bootstrap, opened, computing, data)
        for look in looks:
            look(evaluation)
    return evaluation


def _computing(bundle: Bundle, backend: str, precision: str, workers: int) -> tuple[tuple[str, ...], Backend]:
    """The precisions of graphs to measure, fp32 first, and what computes."""
    of_graphs: tuple[str, ...] = ()
    if precision == "all":
        of_graphs = bundle.manifest.precisions
    elif precision in bundle.manifest.precisions[1:]:
        of_graphs = (precision,)
    # ONNX Runtime: a thread per worker, as two such runs do more images a second than one of two threads. The others
    # take one run at a time, so that run has all of them.
    computing = make_backend(
        backend,
        threads=1 if backend == "onnxruntime" else workers,
        precision=FULL_PRECISION if of_graphs else precision,
        bundle=bundle,
    )
    of_graphs = of_graphs or (FULL_PRECISION,)
    for name in set(of_graphs) - set(graph_precisions(computing)):
        raise EvaluationError(f"{computing.name} does not run {name} graphs; use --backend onnxruntime")
    return of_graphs, computing


def _configurations(
    manifest: Manifest, tasks: Sequence[str], grid: bool, at: Sequence[str], of_graphs: Sequence[str]
) -> tuple[list[Configuration], list[Configuration]]:
    """The diagonal, as far as it is measured, and all that is."""
    diagonal = configurations(manifest, tasks, grid=False, precision=of_graphs[0])
    if at:
        chosen = configurations_at(manifest, tasks, at)
        return [one for one in diagonal if one in chosen], chosen
    every = [c for name in of_graphs for c in configurations(manifest, tasks, grid=grid, precision=name)]
    return diagonal, every


def _check_labels(evidence: Evidence) -> None:
    """Refuse a set in which nothing has a label: no value could be told from chance.

    Raises:
        EvaluationError: naming the task.
    """
    for task, metric in evidence.metrics.items():
        constant_IS = evidence.constant[task]
        # F-measures of nothing are 0, and no NaN; but the constant answers of edges and saliency mark every pixel.
        if not (constant_IS.any() and np.isfinite(metric.value(constant_IS.sum(axis=0)))):
            raise EvaluationError(f"no pixel has a label of '{task}'; leave it out with --tasks")
