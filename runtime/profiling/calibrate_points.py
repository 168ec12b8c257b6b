"""Which graph runs there are to measure, and in which order: each next one tells most about those still unmeasured.

"Tells most" is being furthest from everything measured so far, in the distance that the profile interpolates by. So the
first few points are the corners (widest and narrowest, one row and all, top_k 1 and full); the middle comes last.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from ..bundles.graph_spec import GraphSpec
from ..bundles.manifest import Manifest
from .profile_model import Spot, spot_distances
from .profile_spots import encoder_spot, head_spot

BATCH_IMAGES = 4  # batches are measured at this many pictures; others are interpolated


@dataclass(frozen=True)
class RunPoint:
    """One way to run one graph. `top_k` is 0 without experts; a head's `images` are its rows."""

    graph: GraphSpec
    images: int
    rows: int
    top_k: int

    @property
    def key(self) -> tuple[str, int, int, int]:
        """By which a profile looks it up."""
        return self.graph.file, self.images, self.rows, self.top_k

    def __str__(self) -> str:
        what = "encoder" if self.graph.task is None else self.graph.task
        more = f", {self.rows} rows" if self.rows > 1 else ""
        experts = f", top_k {self.top_k}" if self.top_k else ""
        return f"{what} {self.graph.width:g} at {self.graph.size_hw[0]}x{self.graph.size_hw[1]}{more}{experts}"


def list_points(
    manifest: Manifest,
    precisions: Collection[str] | None = None,
    top_ks: Callable[[float], Sequence[int]] | None = None,
) -> list[RunPoint]:
    """Every point, the most informative first; encoders and heads in turn, single pictures before batches.

    Args:
        precisions: of the graphs; None for all.
        top_ks: those of an encoder width, see `Planner.top_ks`; None for all.
    """
    graphs = [graph for graph in manifest.graphs if precisions is None or graph.precision in precisions]
    encoders = [graph for graph in graphs if graph.kind == "encoder"]
    heads = [graph for graph in graphs if graph.kind == "head"]
    counts = range(1, len(manifest.tasks) + 1) if manifest.rows_per_task else (1,)
    known = range(1, manifest.encoder.top_k + 1) if manifest.is_moe else (0,)
    of_width = {graph.width: known if top_ks is None else top_ks(graph.width) for graph in encoders}
    encoders = [graph for graph in encoders if of_width[graph.width]]
    single = [
        RunPoint(graph, 1, rows, top_k) for graph in encoders for rows in counts for top_k in of_width[graph.width]
    ]
    batch = [RunPoint(graph, BATCH_IMAGES, BATCH_IMAGES, max(of_width[graph.width])) for graph in encoders]
    channels = {task.name: task.channels for task in manifest.tasks}
    in_turn = [
        point
        for pair in zip_longest(
            _furthest_first(single, [_encoder_spot(point) for point in single], _first(single)),
            _heads_in_order([RunPoint(graph, 1, 1, 0) for graph in heads], channels),
        )
        for point in pair
        if point is not None
    ]
    batched_heads = [RunPoint(graph, BATCH_IMAGES, BATCH_IMAGES, 0) for graph in heads]
    return [
        *in_turn,
        *_furthest_first(batch, [_encoder_spot(point) for point in batch], _first(batch)),
        *_heads_in_order(batched_heads, channels),
    ]


def _first(points: Sequence[RunPoint]) -> int:
    """Where to begin: the widest at the bundle's first size, with most experts, one row."""
    size_hw = points[0].graph.size_hw
    ranked = [(p.graph.size_hw == size_hw, p.graph.width, p.top_k, -p.rows) for p in points]
    return ranked.index(max(ranked))


def _encoder_spot(point: RunPoint) -> Spot:
    return encoder_spot(point.graph, images=point.images, rows=point.rows, top_k=point.top_k)


def _heads_in_order(points: list[RunPoint], channels: dict[str, int]) -> list[RunPoint]:
    spots = [head_spot(p.graph, rows=p.rows, channels=channels[p.graph.task or ""]) for p in points]
    return _furthest_first(points, spots, _first(points))


def _furthest_first(points: Sequence[RunPoint], spots: Sequence[Spot], first: int) -> list[RunPoint]:
    """The points, each the furthest from those before it; the first of equals."""
    numbers_ND = np.array([spot.numbers for spot in spots], float)
    labels_NL = np.array([spot.labels for spot in spots], dtype=str).reshape(len(spots), -1)
    nearest_N = np.full(len(points), np.inf)
    order, here = [], first
    for _ in points:
        order.append(points[here])
        nearest_N = np.minimum(nearest_N, spot_distances(numbers_ND, labels_NL, spots[here]))
        nearest_N[here] = -1.0
        here = int(np.argmax(nearest_N))
    return order
