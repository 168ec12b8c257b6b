"""What an engine holds: its sessions, and of the mapped weights what each task's path has in memory.

The path of a task: its routers, its head, and the encoder without the experts that its routers cannot reach, all at
their widest (see `residency`). Resident means: in the page tables of this process; the system may drop such pages and
read them again. What packed sessions hold is a copy, and counts as theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..backends.base import Tier
from ..bundles.bundle import Bundle
from ..running.sessions import Loaded, SessionPool
from .memory import PAGE_BYTES, memory_use, touched_pages
from .memory_model import MemoryModel, private_mb
from .residency import Range, WeightMap


@dataclass(frozen=True)
class SessionMemory:
    """One loaded graph, in MB (1e6 bytes).

    Args:
        weights_mb: what it refers to in the weights file.
        private_mb: what it holds beside the mapped weights; as the library says, or as expected.
        measured: whether the library said it.
    """

    graph: str
    task: str | None
    size_hw: tuple[int, int]
    width: float
    tier: Tier
    uses: int
    weights_mb: float
    private_mb: float
    measured: bool


@dataclass(frozen=True)
class TaskMemory:
    """The path of one task through the weights file, in MB; None where the system does not say what is resident.

    Args:
        path_mb: weights that the task can reach.
        resident_mb: of these, what is mapped and in memory.
        experts_reachable: by its routers, over all blocks.
        experts_resident: with more than half of their bytes in memory.
    """

    path_mb: float
    resident_mb: float | None
    experts: int
    experts_reachable: int
    experts_resident: int | None


@dataclass(frozen=True)
class MemoryReport:
    """An engine's memory, in MB (1e6 bytes); None where the system does not say.

    Args:
        process_mb: proportional set size of the whole process.
        anonymous_mb: of it, what no file backs.
        expected_mb: of the process, by the model that a limit is kept with.
        weights_mb: the weights file.
        weights_resident_mb: of it, mapped and in memory; each page counted once.
    """

    process_mb: float | None
    anonymous_mb: float | None
    expected_mb: float
    limit_mb: float | None
    weights_mb: float
    weights_resident_mb: float | None
    sessions: tuple[SessionMemory, ...]
    tasks: dict[str, TaskMemory]

    def to_json(self) -> dict[str, Any]:
        """Plain lists, dicts, numbers and texts, ready for `json.dumps`."""
        return asdict(self)

    def __str__(self) -> str:
        packed = sum(session.tier == "packed" for session in self.sessions)
        limit = "no limit" if self.limit_mb is None else f"limit {_mb(self.limit_mb)}"
        lines = [
            f"process {_mb(self.process_mb)}, {limit}; "
            f"{len(self.sessions)} graphs loaded, {packed} of them packed; "
            f"weights {_mb(self.weights_resident_mb)} resident of {_mb(self.weights_mb)}"
        ]
        for task, path in self.tasks.items():
            experts = f", experts {path.experts_resident} of {path.experts_reachable}" if path.experts else ""
            lines.append(f"{task}: {_mb(path.resident_mb)} of {_mb(path.path_mb)}{experts}")
        return "\n".join(lines)


class MemoryReporter:
    """Makes reports on one engine; where the weights of the widest configuration lie is worked out once."""

    def __init__(self, bundle: Bundle, model: MemoryModel, limit_mb: float | None) -> None:
        self._bundle = bundle
        self._model = model
        self._limit_mb = limit_mb
        self._map: WeightMap | None = None

    def report(self, pool: SessionPool) -> MemoryReport:
        """What a pool's sessions hold, and what the process does. Some milliseconds, the first time some tens."""
        sessions = pool.loaded()
        use, weights = memory_use(), self._bundle.manifest.weights
        try:
            touched = touched_pages(self._bundle.weights.path)
        except (OSError, ValueError):
            touched = None
        return MemoryReport(
            process_mb=None if use is None else use.pss / 1e6,
            anonymous_mb=None if use is None else use.anonymous / 1e6,
            expected_mb=self._model.total_mb(((one.graph, one.tier) for one in sessions), pool.most_rows),
            limit_mb=self._limit_mb,
            weights_mb=weights.bytes / 1e6,
            weights_resident_mb=None if touched is None else float(touched.sum()) * PAGE_BYTES / 1e6,
            sessions=tuple(_session_memory(one) for one in sessions),
            tasks={task: self._path(task, touched) for task in self._bundle.manifest.task_names},
        )

    def _path(self, task: str, touched: np.ndarray | None) -> TaskMemory:
        if self._map is None:
            self._map = WeightMap(self._bundle)
        foreign = self._map.foreign([task])
        mine = [ranges for expert, ranges in self._map.experts.items() if expert not in foreign]
        path = self._map.ranges([task])
        return TaskMemory(
            path_mb=sum(length for _, length in path) / 1e6,
            resident_mb=None if touched is None else _resident(touched, path) / 1e6,
            experts=len(self._map.experts),
            experts_reachable=len(mine),
            experts_resident=None if touched is None else sum(_mostly(touched, ranges) for ranges in mine),
        )


def _session_memory(loaded: Loaded) -> SessionMemory:
    graph, said = loaded.graph, loaded.session.memory_bytes()
    return SessionMemory(
        graph=graph.file,
        task=graph.task,
        size_hw=graph.size_hw,
        width=graph.width,
        tier=loaded.tier,
        uses=loaded.uses,
        weights_mb=graph.weight_bytes / 1e6,
        private_mb=private_mb(graph, loaded.tier) if said is None else said / 1e6,
        measured=said is not None,
    )


def _resident(touched: np.ndarray, ranges: Iterable[Range]) -> float:
    """Bytes of the ranges in touched pages; a range that begins or ends inside a page counts by its share of pages."""
    total = 0.0
    for offset, length in ranges:
        pages = touched[offset // PAGE_BYTES : -(-(offset + length) // PAGE_BYTES)]
        total += length * float(pages.mean()) if len(pages) else 0.0
    return total


def _mostly(touched: np.ndarray, ranges: Sequence[Range]) -> bool:
    return _resident(touched, ranges) > sum(length for _, length in ranges) / 2


def _mb(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f} MB"
