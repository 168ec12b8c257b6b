"""Which bytes of the weights a task needs, and which of them this process has in its page tables.

Expected, from the bundle alone: every byte that the graphs refer to, but of the experts only those that the task's
routers can reach. Actual, from /proc: the pages of the weights file that are mapped. In the mapped tier nothing else of
it is in memory; in the packed tier the library reads all of it once and keeps a copy of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..bundles.bundle import Bundle
from ..bundles.graph_spec import GraphSpec
from ..bundles.manifest import Manifest
from ..bundles.onnx_guard import check_external_data
from ..errors import TaskError
from .memory import touched_bytes, touched_pages

#: Expert tensors of block and number, as export names them; a suffix may tell precisions apart.
EXPERT_TENSOR = re.compile(r"encoder\.blocks\.(\d+)\.experts\.[a-z_]+\.(\d+)(?:\.\w+)*")

Expert = tuple[int, int]  # block of the encoder, number in it
Range = tuple[int, int]  # offset and length in the weights file, in bytes


@dataclass(frozen=True)
class TaskBytes:
    """What one task needs of the weights, in bytes: `routers` includes its adapters, if it has any.

    `kept` counts the experts that it can reach, block by block.
    """

    task: str
    shared: int
    experts: int
    routers: int
    head: int
    kept: tuple[int, ...]

    @property
    def total(self) -> int:
        return self.shared + self.experts + self.routers + self.head


@dataclass(frozen=True)
class TouchedBytes:
    """What this process has mapped of the weights, in bytes.

    The kernel maps up to 64 kB around a page that is read, or the whole of a large page, so this is an upper bound of
    what was read. `foreign` is the part of `experts` that no asked-for task can reach.
    """

    total: int
    experts: int
    foreign: int


@dataclass(frozen=True)
class Residency:
    """Expected and actual bytes of some tasks; see `WeightMap.residency`."""

    tasks: dict[str, TaskBytes]
    together: int
    all_experts: int
    weights_file: int
    touched: TouchedBytes | None

    def to_json(self) -> dict[str, Any]:
        """Numbers by name; `touched` is null where the system does not tell."""
        tasks = {name: {**asdict(needs), "total": needs.total} for name, needs in self.tasks.items()}
        return {**asdict(self), "tasks": tasks}


def reachable_experts(manifest: Manifest, task: str) -> tuple[tuple[int, ...], ...]:
    """Numbers of the experts that a task can reach, block by block; all of them where no path was measured.

    Raises:
        TaskError: the bundle has no such task.
    """
    if task not in manifest.task_names:
        raise TaskError(f"unknown task {task!r}", hint=f"this bundle has {', '.join(manifest.task_names)}")
    encoder = manifest.encoder
    router = encoder.routers.get(task)
    if router is not None and router.paths is not None:
        return tuple(block.kept for block in router.paths.blocks)
    return (tuple(range(encoder.experts)),) * len(encoder.moe_blocks)


class WeightMap:
    """Where the weights of one encoder and its heads lie in the file: shared, of each expert, of each task.

    Args:
        size_hw: the bundle's first size by default.
        width: of the encoder; the widest by default.
        decoder_widths: by task; the widest by default.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        size_hw: tuple[int, int] | None = None,
        width: float | None = None,
        decoder_widths: dict[str, float] | None = None,
        precision: str = "fp32",
    ) -> None:
        manifest = bundle.manifest
        size_hw = size_hw or manifest.sizes[0]
        self._bundle = bundle
        self.shared: list[Range] = []
        self.experts: dict[Expert, list[Range]] = {}
        self.heads: dict[str, list[Range]] = {}
        self.routers: dict[str, list[Range]] = {}
        encoder = bundle.graph("encoder", size_hw, width or max(manifest.widths), precision=precision)
        names = {entry.offset: name for name, entry in bundle.weights.header.tensors.items() if entry.nbytes}
        for offset, length in self._references(encoder):
            found = EXPERT_TENSOR.fullmatch(names.get(offset, ""))
            part = self.shared if found is None else self.experts.setdefault((int(found[1]), int(found[2])), [])
            part.append((offset, length))
        for task in manifest.task_names:
            widths = [graph.width for graph in manifest.graphs if (graph.task, graph.size_hw) == (task, size_hw)]
            chosen = (decoder_widths or {}).get(task, max(widths))
            self.heads[task] = self._references(bundle.graph("head", size_hw, chosen, task, precision=precision))
            self.routers[task] = self._routers(task)

    def task(self, task: str) -> TaskBytes:
        """What a request for this task alone needs.

        Raises:
            TaskError: the bundle has no such task.
        """
        reached = reachable_experts(self._bundle.manifest, task)
        experts = _sum(self._of_experts(self._reached([task])))
        routers, head = _sum(self.routers[task]), _sum(self.heads[task])
        return TaskBytes(task, _sum(self.shared), experts, routers, head, tuple(map(len, reached)))

    def ranges(self, tasks: Sequence[str]) -> list[Range]:
        """Every byte that a request for these tasks may read, as ranges that do not overlap."""
        own = [entry for task in tasks for entry in (*self.routers[task], *self.heads[task])]
        return merged([*self.shared, *self._of_experts(self._reached(tasks)), *own])

    def foreign(self, tasks: Sequence[str]) -> dict[Expert, list[Range]]:
        """The experts that none of these tasks can reach, and where they lie."""
        reached = self._reached(tasks)
        return {expert: ranges for expert, ranges in self.experts.items() if expert not in reached}

    def residency(self, tasks: Sequence[str] | None = None) -> Residency:
        """What the tasks need, alone and together, and what this process has of it.

        Args:
            tasks: the bundle's by default.

        Raises:
            TaskError: the bundle has no such task.
        """
        tasks = list(self._bundle.manifest.task_names if tasks is None else tasks)
        needs = {task: self.task(task) for task in tasks}
        file_bytes = self._bundle.manifest.weights.bytes
        return Residency(
            needs, _sum(self.ranges(tasks)), _sum(self._of_experts(self.experts)), file_bytes, self.touched(tasks)
        )

    def touched(self, tasks: Sequence[str]) -> TouchedBytes | None:
        """What this process has mapped of the weights file; None where the system does not tell."""
        weights = self._bundle.weights
        try:
            pages = touched_pages(weights.path)
        except (OSError, ValueError):
            return None
        foreign = self._of_experts(self.foreign(tasks))
        parts = ([(0, weights.bytes)], self._of_experts(self.experts), foreign)
        return TouchedBytes(*(touched_bytes(pages, merged(part)) for part in parts))

    def _reached(self, tasks: Sequence[str]) -> set[Expert]:
        blocks = self._bundle.manifest.encoder.moe_blocks
        return {
            (block, expert)
            for task in tasks
            for block, kept in zip(blocks, reachable_experts(self._bundle.manifest, task))
            for expert in kept
        }

    def _of_experts(self, experts: Iterable[Expert]) -> list[Range]:
        return [entry for expert in experts for entry in self.experts.get(expert, ())]

    def _references(self, graph: GraphSpec) -> list[Range]:
        weights = self._bundle.manifest.weights
        found = check_external_data(self._bundle.graph_bytes(graph), weights.file, weights.bytes)
        return sorted({(tensor.offset, tensor.length) for tensor in found if tensor.length})

    def _routers(self, task: str) -> list[Range]:
        encoder = self._bundle.manifest.encoder
        router = encoder.routers.get(task)
        names = [*encoder.adapters.get(task, ())]
        names += [] if router is None else [name for name in (*router.weights, *router.biases) if name is not None]
        entries = [self._bundle.weights.header.tensors[name] for name in names]
        return [(entry.offset, entry.nbytes) for entry in entries]


def merged(ranges: Iterable[Range]) -> list[Range]:
    """The same bytes, each once: sorted ranges that neither overlap nor touch."""
    found: list[Range] = []
    for offset, length in sorted(ranges):
        if found and offset <= found[-1][0] + found[-1][1]:
            start = found[-1][0]
            found[-1] = start, max(found[-1][0] + found[-1][1], offset + length) - start
        else:
            found.append((offset, length))
    return found


def _sum(ranges: Iterable[Range]) -> int:
    return sum(length for _, length in merged(ranges))
