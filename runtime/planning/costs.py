"""What one run of a graph costs, and who says so.

A `CostModel` prices the three parts of an `engine()` call: the encoder, each head, and the call around them. Two
answer to it: `FlopsCosts`, from the manifest alone, and the profile that `slimpath calibrate` measures on a device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

from ..bundles.graph_spec import GraphSpec


@dataclass(frozen=True)
class PartCost:
    """The cost of one graph run, or of the fixed part of a call.

    Args:
        flops: 2 per multiply-add.
        latency_ms: the median; None is unknown.
        weights_mb: weights touched, in 1e6 bytes.
        activations_mb: the peak beside the weights while it runs, in 1e6 bytes; None is unknown.
        energy_mj: None is unknown, never 0.
        measured: False where it is modelled, or from FLOPs.
    """

    flops: int
    latency_ms: float | None
    weights_mb: float
    activations_mb: float | None
    energy_mj: float | None
    measured: bool

    def to_json(self) -> dict[str, Any]:
        """Numbers, booleans and None, by name."""
        return asdict(self)


@runtime_checkable
class CostModel(Protocol):
    """Prices graph runs. Prices must be the same for the same arguments while `key` is the same."""

    @property
    def name(self) -> str:
        """ "flops" or "profile": what `Plan.costed_by` says."""
        ...

    @property
    def key(self) -> str:
        """Changes when any price does; the planner forgets its Pareto sets then."""
        ...

    @property
    def headroom(self) -> float:
        """p95 over median of whole calls, 1 if unknown: a limit in ms admits latency_ms * headroom <= limit."""
        ...

    def encoder(self, graph: GraphSpec, *, images: int, rows: int, top_k: int) -> PartCost:
        """One run over `images` pictures and `rows` rows, each visiting `top_k` experts (0 without MoE blocks)."""
        ...

    def head(self, graph: GraphSpec, *, rows: int) -> PartCost:
        """One run of a head over `rows` rows."""
        ...

    def call(self, size_hw: tuple[int, int], tasks: Sequence[str]) -> PartCost:
        """What an `engine()` call adds to its graphs: preprocessing, postprocessing, overhead."""
        ...


class FlopsCosts:
    """Prices from the manifest: FLOPs and bytes of weights, exact; latency, activations and energy unknown."""

    name = "flops"
    key = "flops"
    headroom = 1.0

    def encoder(self, graph: GraphSpec, *, images: int, rows: int, top_k: int) -> PartCost:
        cost = graph.cost
        return _unmeasured(
            images * cost.flops_image + rows * (cost.flops_row + top_k * cost.flops_row_per_expert), graph.weight_bytes
        )

    def head(self, graph: GraphSpec, *, rows: int) -> PartCost:
        return _unmeasured(rows * graph.cost.flops_row, graph.weight_bytes)

    def call(self, size_hw: tuple[int, int], tasks: Sequence[str]) -> PartCost:
        return _unmeasured(0, 0)


def _unmeasured(flops: int, weight_bytes: int) -> PartCost:
    return PartCost(flops, None, weight_bytes / 1e6, None, None, False)
