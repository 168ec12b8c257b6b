"""A plan: the configuration chosen for tasks and a budget, with what it costs and what it is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from .costs import PartCost

ScoredBy = Literal["accuracy", "flops"]
CostedBy = Literal["profile", "flops"]


@dataclass(frozen=True)
class Plan:
    """A configuration, what it costs, and what it is worth. Plans are shared: do not change their dicts.

    Args:
        top_k: experts per token; 0 for a model without MoE blocks.
        flops: of one image with these tasks.
        share: of the FLOPs of the full configuration for the same tasks.
        accuracies: the manifest's value of each task's metric here, None where unmeasured.
        scored_by: "flops" where the choice was ordered by cost, for want of measured accuracies.
        budget_met: False where no configuration keeps all limits and floors; `unmet` says which are broken here.
        tasks: task -> preference.
        budget: as it was asked for.
        latency_ms: predicted median of one engine() call on an undisturbed device; None is unknown, as below.
        p95_ms: `latency_ms` times the profile's headroom; this is what a limit in ms is held against.
        memory_mb: weights touched plus peak activations (weights alone where the activations are unknown).
        energy_mj: predicted, of one call.
        precision: of the encoder, and of the heads that the bundle has in it; the other heads are fp32.
        costed_by: where the costs come from.
        parts: ("call", cost), ("encoder", cost), then (task, cost) of each head: they add up to the plan.
        floors: task -> least share of its full accuracy that was asked for.
        qualities: task -> what is kept of its full accuracy (1: all, 0: no better than trivial), None where unmeasured;
            floors are held against these.
        unmet: the limits and floors that this plan does not keep, as "20ms" or "depth>=0.9".
    """

    size_hw: tuple[int, int]
    encoder_width: float
    top_k: int
    decoder_widths: dict[str, float]
    flops: int
    share: float
    accuracies: dict[str, float | None]
    scored_by: ScoredBy
    budget_met: bool
    tasks: dict[str, float]
    budget: str
    latency_ms: float | None = None
    p95_ms: float | None = None
    memory_mb: float = 0.0
    energy_mj: float | None = None
    precision: str = "fp32"
    costed_by: CostedBy = "flops"
    parts: tuple[tuple[str, PartCost], ...] = ()
    floors: dict[str, float] = field(default_factory=dict)
    unmet: tuple[str, ...] = ()
    qualities: dict[str, float | None] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain lists, dicts, numbers and texts, ready for `json.dumps`."""
        parts = {name: cost.to_json() for name, cost in self.parts}
        return {**self.__dict__, "size_hw": list(self.size_hw), "parts": parts, "unmet": list(self.unmet)}

    def __str__(self) -> str:
        decoders = ", ".join(f"{task} {width:g}" for task, width in self.decoder_widths.items())
        top_k = f", top_k {self.top_k}" if self.top_k else ""
        precision = "" if self.precision == "fp32" else f", {self.precision}"
        latency = "" if self.latency_ms is None else f"{self.latency_ms:.3g} ms, "
        return (
            f"{latency}{self.flops / 1e9:.3g} GFLOPs ({self.share:.0%}): {self.size_hw[0]}x{self.size_hw[1]}, "
            f"encoder {self.encoder_width:g}{top_k}{precision}, decoders {decoders}"
        )


def totals(costs: Sequence[PartCost], headroom: float) -> dict[str, Any]:
    """The costs of a plan from those of its parts: times, energies and weights add up, of the activations the highest
    peak counts, and what is unknown of a part is unknown of the plan (activations: counts as none)."""
    latency_ms = _sum([cost.latency_ms for cost in costs])
    return {
        "flops": sum(cost.flops for cost in costs),
        "latency_ms": latency_ms,
        "p95_ms": None if latency_ms is None else latency_ms * headroom,
        "memory_mb": sum(cost.weights_mb for cost in costs) + max(cost.activations_mb or 0.0 for cost in costs),
        "energy_mj": _sum([cost.energy_mj for cost in costs]),
    }


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
