"""Pictures of an evaluation: accuracy against cost, and each task's best and worst samples.

Axes: I images.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..runtime.imaging.pictures import png_bytes
from ..runtime.imaging.pictures_layout import Row, sheet, side_by_side, table
from ..runtime.imaging.preprocess import place
from .eval_measure import at_labels
from .eval_plot import plot_report
from .eval_report import EvalRow
from .eval_runner import Runner
from .evaluate import Evaluation
from .files import write_whole
from .sample_cells import CELL_PX, in_words, sample_cells

__all__ = ["SHOWN", "ranked", "write_pictures"]

SHOWN = 4
"""Samples at either end."""
_WIDTHS_PX = (CELL_PX, 170)  # of a cell, and of what is written beside a row


def write_pictures(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write the pictures into a folder that may exist; needs the samples.

    Returns:
        accuracy-flops.png, accuracy-latency.png where latencies were measured, and samples-TASK.png of each task
        of which the metric says something about a sample.
    """
    folder.mkdir(parents=True, exist_ok=True)
    report = evaluation.report
    made = [plot_report(report, folder / "accuracy-flops.png")]
    if all(row.latency_ms is not None for row in report.rows):
        made.append(plot_report(report, folder / "accuracy-latency.png", cost="latency"))
    for task in report.tasks:
        drawn = _sample_sheet(evaluation, report.widest(task))
        if drawn is not None:
            path = folder / f"samples-{task}.png"
            write_whole(path, png_bytes(drawn))
            made.append(path)
    return made


def ranked(evaluation: Evaluation, row: EvalRow) -> tuple[list[int], np.ndarray]:
    """Numbers of the samples from best to worst under a configuration, and the metric of every sample [I].

    Samples without a label, or of which the metric says nothing, are left out of the order.
    """
    metric, sums_IS = evaluation.evidence.metrics[row.configuration.task], evaluation.evidence.sums[row.configuration]
    with np.errstate(invalid="ignore", divide="ignore"):
        values_I = np.asarray(metric.value(sums_IS), np.float64)
    constant_IS = evaluation.evidence.constant[row.configuration.task]
    told = [number for number in range(len(values_I)) if np.isfinite(values_I[number]) and constant_IS[number].any()]
    order = sorted(told, key=lambda number: values_I[number], reverse=row.higher_is_better)
    return order, values_I


def _sample_sheet(evaluation: Evaluation, row: EvalRow) -> np.ndarray | None:
    """The best samples beside the worst; columns: picture, truth, answer. None where none has a place in the order."""
    task = row.configuration.task
    order, values_I = ranked(evaluation, row)
    if not order:
        return None
    half = min(SHOWN, math.ceil(len(order) / 2))
    ends = {"best": order[:half], "worst": order[half:][-half:][::-1]}
    with Runner(
        evaluation.bundle, [row.configuration], backend=evaluation.backend, size_hw=evaluation.report.size_hw
    ) as runner:
        tables = [
            _table(which, [_sample_row(evaluation, runner, row, number, values_I[number]) for number in numbers])
            for which, numbers in ends.items()
            if numbers
        ]
    arrow = "higher" if row.higher_is_better else "lower"
    title = f"{task}: best and worst of {len(order)} by {row.metric} ({arrow} is better)"
    where = f"{evaluation.report.bundle}, width {row.configuration.encoder_width:g}; {evaluation.report.source}"
    return sheet(side_by_side(tables, gap=36), title, where)


def _table(which: str, rows: list[Row]) -> np.ndarray:
    titles = ["picture", "ground truth", "answer"][: len(rows[0].cells)]
    return table([replace(row, heading=f"{which} {place}") for place, row in enumerate(rows, 1)], titles, *_WIDTHS_PX)


def _sample_row(evaluation: Evaluation, runner: Runner, row: EvalRow, number: int, value: float) -> Row:
    spec = next(spec for spec in evaluation.bundle.manifest.tasks if spec.name == row.configuration.task)
    sample = evaluation.data.samples[number]
    answer = next(iter(runner.answers([sample["image"]]))).values[0]
    placement = place(sample["image"].shape[:2], runner.size_hw, evaluation.bundle.manifest.preprocessing.fit)
    cells = sample_cells(spec, sample["image"], sample[spec.name], at_labels(spec.name, answer, placement))
    lines = (f"{row.metric} {value:.3g}", f"sample {number}", *in_words(spec, sample[spec.name], answer))
    return Row("", lines, tuple(cells))
