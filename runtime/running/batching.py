"""Which requests share an encoder call: same size, encoder width and precision; tasks, top_k and decoder widths mix."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..imaging.preprocess import Placement
from ..planning.planner import Plan
from ..request import Request


@dataclass
class Prepared:
    """A request whose plan is made and whose picture is fitted."""

    index: int
    request: Request
    plan: Plan
    plane_CHW: np.ndarray
    placement: Placement
    timings_ms: dict[str, float]


@dataclass(frozen=True)
class Row:
    """One row of the encoder's batch: an image, worked on for some tasks (one each where routers differ by task)."""

    image: int
    tasks: tuple[str, ...]
    top_k: int


@dataclass(frozen=True)
class Batch:
    """Requests of one encoder call; `row_of` says which row holds the tokens of (image, task)."""

    items: list[Prepared]
    rows: list[Row]
    row_of: dict[tuple[int, str], int]


def make_batches(prepared: Iterable[Prepared], *, rows_per_task: bool, max_rows: int) -> list[Batch]:
    """Group requests into encoder calls of at most `max_rows` rows; a request is never split, however many it has."""
    groups: dict[object, list[list[Prepared]]] = {}
    for item in prepared:
        batches = groups.setdefault((item.plan.size_hw, item.plan.encoder_width, item.plan.precision), [[]])
        used = sum(_row_count(other, rows_per_task) for other in batches[-1])
        if batches[-1] and used + _row_count(item, rows_per_task) > max_rows:
            batches.append([])
        batches[-1].append(item)
    return [_make_batch(items, rows_per_task) for batches in groups.values() for items in batches]


def _row_count(item: Prepared, rows_per_task: bool) -> int:
    return len(item.plan.decoder_widths) if rows_per_task else 1


def _make_batch(items: list[Prepared], rows_per_task: bool) -> Batch:
    rows: list[Row] = []
    row_of: dict[tuple[int, str], int] = {}
    for image, item in enumerate(items):
        tasks = tuple(item.plan.decoder_widths)
        for shared in [(task,) for task in tasks] if rows_per_task else [tasks]:
            row_of.update({(image, task): len(rows) for task in shared})
            rows.append(Row(image, shared, item.plan.top_k))
    return Batch(items, rows, row_of)
