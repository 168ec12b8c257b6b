"""What sessions are expected to hold, in MB (1e6 bytes), so that a limit is kept before it is reached.

    process = base + arena + graph objects + packed weights + mapped weights

Base is the process with its libraries before any session. Packed weights are private to each session. Mapped weights
are prefixes of one file: of all mapped encoders the widest counts, and of each task the widest head. The constants
were measured with ONNX Runtime 1.31 (docs/sessions.md); benchmarks/memory.py compares the sum with the truth.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..backends.base import Tier
from ..bundles.graph_spec import GraphSpec
from ..bundles.manifest import Manifest
from ..cpus import group_folders
from .memory import memory_use

GRAPH_FACTOR = 40.0  # bytes kept per byte of graph file: 6.2 MB for an encoder of 177 kB, 0.5 for a head of 13 kB
PACKED_FACTOR = 1.06  # of the weights, by the rounding up to the panels of the matrix kernels: 1.00 to 1.07
# Of what a limit leaves beside the base; the rest goes to pictures, results and holes in the heap. A plan whose weights
# just do not fit is read from the disk again in every run: 3.5 s instead of 0.1.
ROOM_SHARE = 0.9
UNKNOWN_BASE_MB = 100.0  # where the system does not say what a process holds
_NO_LIMIT = 1 << 60  # what version 1 of control groups says for none, and above


class MemoryModel:
    """The expected memory of one engine's process.

    Args:
        base_mb: of the process before any session, libraries included.
    """

    def __init__(self, manifest: Manifest, base_mb: float) -> None:
        self.manifest = manifest
        self.base_mb = base_mb

    def total_mb(self, loaded: Iterable[tuple[GraphSpec, Tier]], rows: int = 1) -> float:
        """The process with these sessions, after runs of up to `rows` rows of one image."""
        sessions = list(loaded)
        mapped: dict[str | None, float] = {}
        for graph, tier in sessions:
            if tier == "mapped":
                mapped[graph.task] = max(mapped.get(graph.task, 0.0), graph.weight_bytes / 1e6)
        arena_mb = max((activations_mb(self.manifest, graph.size_hw, rows) for graph, _ in sessions), default=0.0)
        return self.base_mb + arena_mb + sum(private_mb(g, tier) for g, tier in sessions) + sum(mapped.values())

    def room_mb(self, limit_mb: float, tasks: Iterable[str], *, with_activations: bool) -> float:
        """What a limit leaves for the weights of one plan, and for its activations if the planner knows them."""
        names = set(tasks)
        rows = len(names) if self.manifest.rows_per_task else 1
        graphs = [graph for graph in self.manifest.graphs if graph.task is None or graph.task in names]
        widest: dict[str | None, float] = {}
        for graph in graphs:
            widest[graph.task] = max(widest.get(graph.task, 0.0), private_mb(graph, "mapped"))
        arena_mb = max(activations_mb(self.manifest, size_hw, rows) for size_hw in self.manifest.sizes)
        room_mb = ROOM_SHARE * (limit_mb - self.base_mb) - sum(widest.values())
        return room_mb - (0.0 if with_activations else arena_mb)


def private_mb(graph: GraphSpec, tier: Tier) -> float:
    """What a session holds that no other shares: its graph, and in the packed tier its weights."""
    weights_mb = graph.weight_bytes / 1e6 * PACKED_FACTOR if tier == "packed" else 0.0
    return graph.bytes * GRAPH_FACTOR / 1e6 + weights_mb


def activations_mb(manifest: Manifest, size_hw: tuple[int, int], rows: int) -> float:
    """The arena after runs of `rows` rows of one image: what a block of the encoder holds at once, and a head.

    Of `m3vit_small` at 224 x 224: 19 MB expected and 18 measured for one row, 62 and 57 for six.
    """
    encoder = manifest.encoder
    tokens = size_hw[0] * size_hw[1] // encoder.patch**2 + 1
    row_bytes = 4 * tokens * (16 * encoder.dim + 2 * encoder.heads * tokens)
    return (rows * row_bytes + 200 * size_hw[0] * size_hw[1]) / 1e6


def process_mb(root: Path = Path("/")) -> float:
    """What this process holds now, its share of shared pages; UNKNOWN_BASE_MB where the system does not say."""
    use = memory_use(root)
    return UNKNOWN_BASE_MB if use is None else use.pss / 1e6


def available_mb(root: Path = Path("/")) -> float | None:
    """What this process may still take: of the machine, and of its control groups; None where unknown."""
    found = [room for room in (_machine_bytes(root), *_group_bytes(root)) if room is not None]
    return max(min(found), 0) / 1e6 if found else None


def _machine_bytes(root: Path) -> int | None:
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        kilobytes = next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))
        return int(kilobytes) * 1024
    except (OSError, StopIteration, ValueError, IndexError):
        return None


def _group_bytes(root: Path) -> Iterable[int | None]:
    """Per control group with a limit, what is left of it. Pages of files count as used, though the system can drop
    them: too little is said rather than too much."""
    for version, folder in group_folders("memory", root):
        limit, usage = ("memory.max", "memory.current") if version == 2 else _V1_FILES
        try:
            most = int((folder / limit).read_text())
            if most < _NO_LIMIT:
                yield most - int((folder / usage).read_text())
        except (OSError, ValueError):  # no such file, or "max": no limit
            continue


_V1_FILES = ("memory.limit_in_bytes", "memory.usage_in_bytes")
