"""Which graphs for GPUs answer which rows: each has one top_k and one batch.

Axes: I images, B rows.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import BackendError, BundleError

if TYPE_CHECKING:
    from ..bundles.bundle import Bundle
    from ..bundles.gpu_spec import GpuGraphSpec, GpuSpec


@dataclass(frozen=True)
class Chunk:
    """Rows that one run answers: `images` are those of the call that it sees, `local` the place of each row's."""

    spec: GpuGraphSpec
    rows: tuple[int, ...]
    images: tuple[int, ...]
    local: tuple[int, ...]


def gpu_part(bundle: Bundle) -> GpuSpec:
    """What the bundle has for GPUs.

    Raises:
        BackendError: nothing: a backend that cannot serve a bundle is an error of the backend.
    """
    from ..bundles.gpu_graphs import gpu_spec

    try:
        return gpu_spec(bundle)
    except BundleError as error:
        raise BackendError(error.message, hint=error.hint) from error


def family(bundle: Bundle, graph: bytes, precision: str) -> list[GpuGraphSpec]:
    """The GPU graphs that together take the place of a CPU graph: every top_k and every batch, cheapest first.

    Args:
        graph: the bytes of the CPU graph.

    Raises:
        BackendError: the bundle does not have that graph, or nothing for GPUs in that precision.
    """
    spec = gpu_part(bundle)
    digest = hashlib.sha256(graph).hexdigest()
    replaced = next((one for one in bundle.manifest.graphs if one.sha256 == digest), None)
    if replaced is None:
        raise BackendError(
            f"{bundle.path}: this graph is not one of the bundle's, so none for GPUs stands for it",
            hint="use --backend onnxruntime for edited graphs",
        )
    wanted = (replaced.kind, replaced.size_hw, replaced.width, replaced.task, precision)
    found = [one for one in spec.graphs if (one.kind, one.size_hw, one.width, one.task, one.precision) == wanted]
    if not found:
        raise BackendError(
            f"{bundle.path}: has no GPU graph in {precision} for {replaced.file}",
            hint=f"it has {', '.join(spec.precisions)}",
        )
    return sorted(found, key=lambda one: (one.top_k, one.flops, one.rows))


class OpenBundles:
    """Bundles by folder, each opened once: backends are given a graph and the folder that it is from."""

    def __init__(self) -> None:
        self._opened: dict[Path, Bundle] = {}
        self._lock = threading.Lock()

    def of(self, folder: Path) -> Bundle:
        """The bundle in a folder.

        Raises:
            BundleError: it is none, or damaged.
        """
        from ..bundles.bundle import Bundle

        with self._lock:
            if folder not in self._opened:
                self._opened[folder] = Bundle.open(folder)
            return self._opened[folder]


def split(specs: Sequence[GpuGraphSpec], top_k_B: Sequence[int], image_of_row: Sequence[int]) -> list[Chunk]:
    """Give every row to a run: rows of one top_k together, as many as the largest batch takes, in their order.

    Args:
        specs: of one family, those that can be run.
        top_k_B: of each row; 0 for heads and encoders without experts.
        image_of_row: of each row; of heads, the row itself.

    Raises:
        BackendError: no graph of a row's top_k.
    """
    chunks: list[Chunk] = []
    for top_k in dict.fromkeys(top_k_B):
        able = [one for one in specs if one.top_k == top_k]
        if not able:
            known = sorted({one.top_k for one in specs})
            raise BackendError(
                f"there is no engine of top_k {top_k} at this width; there are {', '.join(map(str, known))}",
                hint="pin one of the bundle's GPU configurations, or export it with more",
            )
        waiting = [row for row, wanted in enumerate(top_k_B) if wanted == top_k]
        while waiting:
            taken = _as_many_as_fit(able, waiting, image_of_row)
            chunks.append(taken)
            waiting = waiting[len(taken.rows) :]
    return chunks


def _as_many_as_fit(able: Sequence[GpuGraphSpec], waiting: Sequence[int], image_of_row: Sequence[int]) -> Chunk:
    """The first rows that one run can answer, and the cheapest graph that does."""
    best: Chunk | None = None
    for count in range(1, len(waiting) + 1):
        rows = tuple(waiting[:count])
        images = tuple(dict.fromkeys(image_of_row[row] for row in rows))
        fitting = [one for one in able if one.rows >= count and one.images >= len(images)]
        if not fitting:
            break
        local = tuple(images.index(image_of_row[row]) for row in rows)
        best = Chunk(min(fitting, key=lambda one: (one.flops, one.rows)), rows, images, local)
    if best is None:
        raise BackendError("no engine takes even one row")  # an export always has one
    return best


def take(array: np.ndarray, rows: Sequence[int], count: int) -> np.ndarray:
    """array[rows], the first of them repeated until there are `count`; the array itself where that is all of it."""
    chosen = [*rows, *[rows[0]] * (count - len(rows))]
    return array if chosen == list(range(len(array))) else array[chosen]
