"""The sheets of `slimpath demo`: one per photograph (rows: widths, columns: tasks), and a contact sheet."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..runtime.imaging.pictures import class_name, display_image, task_cell, task_cells
from ..runtime.imaging.pictures_colour import depth_range_m
from ..runtime.imaging.pictures_layout import Cell, Row, cell_block, sheet, side_by_side, stack, table
from ..runtime.imaging.pictures_text import LegendEntry, bar_block, legend_block, text_block
from .output import human_flops, percent

if TYPE_CHECKING:
    from ..runtime import Result, TaskSpec

CELL_PX = 208
SIDE_PX = 240
GUTTER_PX = 132
CONTACT_CELL_PX = 176
CONTACT_GUTTER_PX = 150


@dataclass(frozen=True)
class Subject:
    """A picture to show and, where it is rendered, what is true of it.

    Args:
        image_HWC: uint8 RGB.
        truth: task -> array as in a Result at the size of the image; for an image-level task, the number of its class.
    """

    name: str
    image_HWC: np.ndarray
    truth: Mapping[str, np.ndarray]


def knob_sheet(subject: Subject, results: list[Result], title: str) -> np.ndarray:
    """What each width makes of one picture; the colours of depth mean the same metres in every row."""
    specs = _dense(results[0])
    rows = knob_rows(subject, results, specs)
    bare = [dataclasses.replace(row, cells=tuple(map(_bare, row.cells))) for row in rows]
    body = table(bare, list(specs), CELL_PX, GUTTER_PX)
    shown = Cell(display_image(subject.image_HWC, 2 * SIDE_PX), "rendered room" if subject.truth else "photograph")
    side = [cell_block(shown, SIDE_PX)]
    cells = [cell for row in rows for cell in row.cells]
    if legend := _merged_legend(cells):
        side += [text_block([("classes", True)], SIDE_PX), legend_block(legend, SIDE_PX, max_rows=12)]
    if bars := [cell.bar for cell in cells if cell.bar is not None]:
        side += [text_block([("depth", True)], SIDE_PX), bar_block(bars[0], SIDE_PX)]
    return sheet(side_by_side([stack(side), body], gap=28), title)


def knob_rows(subject: Subject, results: list[Result], specs: dict[str, TaskSpec]) -> list[Row]:
    """One row per result, under one of the ground truth where there is one. Legends and bars are in the cells."""
    range_m = _shared_range(subject, results, specs)
    image = display_image(subject.image_HWC, 2 * CELL_PX)
    rows: list[Row] = []
    if subject.truth:
        known = [_truth_cell(spec, subject.truth.get(name), image, range_m) for name, spec in specs.items()]
        rows.append(Row("ground truth", truth_labels(subject, results[0]), tuple(known)))
    for result in results:
        drawn = task_cells(result, image, range_m=range_m)
        rows.append(
            Row(f"width {result.plan.encoder_width:g}", cost_lines(result), tuple(drawn[name] for name in specs))
        )
    return rows


def contact_sheet(subjects: list[Subject], results: list[Result], title: str, subtitle: str) -> np.ndarray:
    """Every picture with all its tasks, one row each."""
    specs = _dense(results[0])
    rows: list[Row] = []
    for subject, result in zip(subjects, results, strict=True):
        image = display_image(subject.image_HWC, 2 * CONTACT_CELL_PX)
        drawn = task_cells(result, image)
        cells = [Cell(image), *(_bare(drawn[name]) for name in specs)]
        rows.append(Row(subject.name, label_lines(result), tuple(cells)))
    return sheet(table(rows, ["image", *specs], CONTACT_CELL_PX, CONTACT_GUTTER_PX), title, subtitle)


def cost_lines(result: Result) -> tuple[str, ...]:
    """What a result cost, and its labels, for the gutter of a row."""
    plan = result.plan
    return (
        human_flops(plan.flops),
        f"{percent(plan.share)} of full",
        f"{result.timings_ms['total']:.1f} ms",
        *label_lines(result),
    )


def label_lines(result: Result) -> tuple[str, ...]:
    """The label of every image-level task with its probability."""
    lines: list[str] = []
    for name, spec in result.specs.items():
        if name in result and spec.kind == "image_classes":
            label, probability = result.label(name)
            lines.append(f"{label.replace('_', ' ')} {percent(probability)}")
    return tuple(lines)


def truth_labels(subject: Subject, result: Result) -> tuple[str, ...]:
    """The true class of every image-level task."""
    kinds = [(name, spec) for name, spec in result.specs.items() if spec.kind == "image_classes"]
    return tuple(class_name(spec, int(subject.truth[name])) for name, spec in kinds if name in subject.truth)


def _dense(result: Result) -> dict[str, TaskSpec]:
    return {name: result.specs[name] for name in result if result.specs[name].kind != "image_classes"}


def _shared_range(subject: Subject, results: list[Result], specs: dict[str, TaskSpec]) -> tuple[float, float] | None:
    depth = next((name for name, spec in specs.items() if spec.kind == "depth"), None)
    if depth is None:
        return None
    return depth_range_m(np.asarray(subject.truth.get(depth, results[0][depth]), np.float32))


def _truth_cell(
    spec: TaskSpec, values: np.ndarray | None, image_HWC: np.ndarray, range_m: tuple[float, float] | None
) -> Cell:
    if values is None:
        return Cell(np.full_like(image_HWC, 245))
    values = values if spec.kind == "classes" else values.astype(np.float32)
    return task_cell(spec, values, image_HWC, range_m=range_m)


def _bare(cell: Cell) -> Cell:
    """The picture alone: titles, legends and bars stand elsewhere on the sheet."""
    return dataclasses.replace(cell, title="", note="", legend=(), bar=None)


def _merged_legend(cells: list[Cell]) -> tuple[LegendEntry, ...]:
    """One entry per class of all cells, the largest first."""
    best: dict[str, LegendEntry] = {}
    for entry in (entry for cell in cells for entry in cell.legend):
        if entry.label not in best or entry.share > best[entry.label].share:
            best[entry.label] = entry
    return tuple(sorted(best.values(), key=lambda entry: -entry.share))
