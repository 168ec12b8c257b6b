"""Inputs on which backends are compared: images that route clearly, and a rendered room.

Axes: I images, B rows, N tokens, E experts, K ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..backends.base import Session
from ..bundles import graph_names as names
from ..bundles.bundle import Bundle
from ..bundles.graph_spec import GraphSpec
from ..errors import BackendError
from ..running.adapters import Adapters
from ..running.routing import Routers
from .agreement import ROOM_IMAGES, room_planes

MIN_GAP = 2e-5
MAX_SEEDS = 400


@dataclass(frozen=True)
class Case:
    """Inputs of an encoder whose routing is clear, and the reference's answers."""

    feeds: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    tasks: tuple[str, ...]
    seed: int
    min_gap: float | None


def clear_case(
    bundle: Bundle, graph: GraphSpec, session: Session, routing: Sequence[str], top_ks: Sequence[int] = ()
) -> Case:
    """A row of every task, top_k going round, each on an image that routes clearly for it.

    Args:
        session: of the reference, with what experts are ranked by as the further outputs `routing`.
        top_ks: those that go round; all if empty.
    """
    known = list(top_ks) or list(range(1, bundle.manifest.encoder.top_k + 1) if bundle.manifest.is_moe else (1,))
    tasks = bundle.manifest.task_names
    top_k_B = np.array([known[row % len(known)] for row in range(len(tasks))], np.int64)
    routers = Routers(bundle).stack(tasks) if bundle.manifest.is_moe else None
    adapters = Adapters(bundle).stack(graph, tasks) if graph.adapter_rows else None
    image_of_row: dict[int, int] = {}
    planes: list[np.ndarray] = []
    gaps = np.full(len(tasks), np.inf)
    for seed in range(MAX_SEEDS):
        left = [row for row in range(len(tasks)) if row not in image_of_row]
        if not left:
            break
        plane_3HW = example_plane(graph.size_hw, seed)
        index_B = np.zeros(len(left), np.int64)
        outputs = session.run(_feeds(session, plane_3HW[None], index_B, left, top_k_B, routers, adapters))
        gap_B = routing_gap([outputs[name] for name in routing], top_k_B[left])
        taken = [(row, gap) for row, gap in zip(left, gap_B) if gap >= MIN_GAP]
        for row, gap in taken:
            image_of_row[row], gaps[row] = len(planes), gap
        planes += [plane_3HW] if taken else []
    else:
        raise BackendError(f"{graph.file}: none of {MAX_SEEDS} images routes clearly (gap >= {MIN_GAP}) for every task")
    rows = list(range(len(tasks)))
    index_B = np.array([image_of_row[row] for row in rows], np.int64)
    feeds = _feeds(session, np.stack(planes), index_B, rows, top_k_B, routers, adapters)
    smallest = float(gaps.min())
    return Case(feeds, session.run(feeds), tasks, 0, smallest if np.isfinite(smallest) else None)


def routing_gap(scores: Sequence[np.ndarray], top_k_B: np.ndarray) -> np.ndarray:
    """Smallest log-probability gap of each row between its last visited and first unvisited expert, float64 [B].

    Args:
        scores: logits or probabilities [B, N, E] of each MoE block, whichever experts are ranked by; of logits,
            differences are those of log-probabilities. With no block, or all experts visited, the gap is infinite.
    """
    gap_B = np.full(len(top_k_B), np.inf)
    for score_BNE in scores:
        with np.errstate(divide="ignore", invalid="ignore"):
            probabilities = score_BNE.min() >= 0 and np.allclose(score_BNE.sum(axis=-1), 1, atol=1e-3)
            logits_BNE = score_BNE.astype(np.float64)
            ordered = np.sort(np.log(logits_BNE) if probabilities else logits_BNE, axis=-1)[..., ::-1]
            for row, top_k in enumerate(top_k_B):
                if top_k < ordered.shape[-1]:
                    gap = ordered[row, :, top_k - 1] - ordered[row, :, top_k]
                    gap_B[row] = min(gap_B[row], float(np.where(np.isnan(gap), 0.0, gap).min()))  # -inf - -inf
    return gap_B


def example_plane(size_hw: tuple[int, int], seed: int) -> np.ndarray:
    """A smooth random plane float32 [3, H, W] of about unit variance; no patch of it is flat."""
    import cv2

    rng = np.random.default_rng(seed)
    height, width = size_hw
    coarse = rng.standard_normal((max(2, height // 8), max(2, width // 8), 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    noise = rng.standard_normal((height, width, 3)).astype(np.float32)
    return np.ascontiguousarray((smooth + 0.2 * noise).transpose(2, 0, 1))


def head_feeds(session: Session, case: Case, task: str) -> dict[str, np.ndarray]:
    """A head's inputs: what the encoder made of the task's row."""
    row = case.tasks.index(task)
    image = int(case.feeds[names.IMAGE_INDEX][row])
    return take_rows(session, case.outputs, slice(row, row + 1), slice(image, image + 1))


def take_rows(session: Session, encoded: dict[str, np.ndarray], rows: slice, images: slice) -> dict[str, np.ndarray]:
    """A head's inputs from an encoder's outputs: the detail is per image, all else per row."""
    missing = [name for name in session.inputs if name not in encoded]
    if missing:
        raise BackendError(f"a head wants the input {missing[0]!r}; the encoder gives {', '.join(encoded)}")
    return {name: encoded[name][images if name == names.DETAIL else rows] for name in session.inputs}


def room_feeds(
    bundle: Bundle, encoder: GraphSpec, session: Session, *, images: int = ROOM_IMAGES, top_ks: Sequence[int] = ()
) -> dict[str, np.ndarray]:
    """An encoder's inputs: a row of every task for each of the room's pictures, task by task, at the largest top_k.

    Args:
        top_ks: of which the largest is meant; all if empty.
    """
    planes_ICHW = room_planes(bundle.manifest.preprocessing, encoder.size_hw)[:images]
    tasks = bundle.manifest.task_names if bundle.manifest.rows_per_task else bundle.manifest.task_names[:1]
    rows = [task for task in tasks for _ in range(images)]
    top_k_B = np.full(len(rows), max(top_ks, default=bundle.manifest.encoder.top_k), np.int64)
    routers = Routers(bundle).stack(rows) if bundle.manifest.is_moe else None
    adapters = Adapters(bundle).stack(encoder, rows) if encoder.adapter_rows else None
    index_B = np.tile(np.arange(images, dtype=np.int64), len(tasks))
    return _feeds(session, planes_ICHW, index_B, list(range(len(rows))), top_k_B, routers, adapters)


def room_rows(bundle: Bundle, task: str, *, images: int = ROOM_IMAGES) -> tuple[int, int]:
    """Where the rows of a task lie in the answer to `room_feeds`: from, to."""
    place = bundle.manifest.task_names.index(task)
    return (place * images, (place + 1) * images) if bundle.manifest.rows_per_task else (0, images)


def visited_experts(score_BNE: np.ndarray, top_k: int) -> np.ndarray:
    """The experts that each token visits, sorted, [B, N, K]."""
    return np.sort(np.argsort(-score_BNE, axis=-1, kind="stable")[..., :top_k], axis=-1)


def _feeds(
    session: Session,
    planes_ICHW: np.ndarray,
    index_B: np.ndarray,
    rows: Sequence[int],
    top_k_B: np.ndarray,
    routers: tuple[np.ndarray, np.ndarray] | None,
    adapters: np.ndarray | None,
) -> dict[str, np.ndarray]:
    feeds = {names.IMAGE: planes_ICHW, names.IMAGE_INDEX: index_B}
    if adapters is not None:
        feeds[names.ADAPTER] = adapters[list(rows)]
    if routers is not None:
        chosen = list(rows)
        feeds |= {names.TOP_K: top_k_B[chosen], names.ROUTER: routers[0][chosen], names.ROUTER_BIAS: routers[1][chosen]}
    missing = [name for name in session.inputs if name not in feeds]
    if missing:
        raise BackendError(f"the graph wants the input {missing[0]!r}, which the parity check does not make")
    return {name: feeds[name] for name in session.inputs}
