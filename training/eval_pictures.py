"""Pictures of an evaluation: accuracy against cost, and each task's best and worst samples.

Axes: I images.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime.imaging.pictures import class_name, display_image, png_bytes, task_cell
from ..runtime.imaging.pictures_colour import depth_range_m
from ..runtime.imaging.pictures_layout import Cell, Row, sheet, side_by_side, table
from ..runtime.imaging.preprocess import place
from ..runtime.tasks import TaskSpec
from .eval_measure import at_labels
from .eval_plot import plot_report
from .eval_report import EvalRow
from .eval_runner import Runner
from .evaluate import Evaluation
from .files import write_whole
from .tasks import IGNORED_CLASS

__all__ = ["SHOWN", "ranked", "write_pictures"]

SHOWN = 4
"""Samples at either end."""
_CELL_PX = 240
_WIDTHS_PX = (_CELL_PX, 170)  # of a cell, and of what is written beside a row


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
    cells = _cells(spec, sample["image"], sample[spec.name], at_labels(spec.name, answer, placement))
    lines = (f"{row.metric} {value:.3g}", f"sample {number}", *_labels(spec, sample[spec.name], answer))
    return Row("", lines, tuple(cells))


def _cells(spec: TaskSpec, image_HWC: np.ndarray, truth: Any, answer: np.ndarray) -> list[Cell]:
    """Picture, truth and answer in the same colours; the picture alone where the whole image has one label."""
    shown = display_image(image_HWC, 2 * _CELL_PX)
    if spec.kind == "image_classes":
        return [Cell(shown)]
    truth = np.asarray(truth)
    range_m = None
    if spec.kind == "depth":
        valid = truth[np.isfinite(truth) & (truth > 0)]
        range_m = depth_range_m(valid if valid.size else answer)
    if spec.kind == "probability":
        truth = np.where(truth == IGNORED_CLASS, 0, truth)
    if spec.kind == "classes":
        # What nobody labelled takes the answer's class, so that it cannot look like a mistake.
        truth = np.where(truth == IGNORED_CLASS, answer, truth)
    else:
        truth = truth.astype(np.float32)
    return [Cell(shown), *(_bare(task_cell(spec, values, shown, range_m=range_m)) for values in (truth, answer))]


def _bare(cell: Cell) -> Cell:
    """Without title and note, which the columns have; with its legend."""
    return replace(cell, title="", note="")


def _labels(spec: TaskSpec, truth: Any, answer: np.ndarray) -> list[str]:
    """Truth and answer in words, of tasks with one label per image."""
    if spec.kind != "image_classes":
        return []
    best = int(np.argmax(answer))
    return [f"is {class_name(spec, int(truth))}", f"answer {class_name(spec, best)} {answer[best]:.0%}"]
