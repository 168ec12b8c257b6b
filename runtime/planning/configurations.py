"""What there is to choose from: encoders by (width, top_k), decoders by task and width, each with its price."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from ..bundles.graph_spec import FULL_PRECISION, GraphSpec
from ..bundles.manifest import Manifest
from ..errors import BudgetError
from .budget import Budget
from .costs import CostModel, FlopsCosts, PartCost
from .limits import AXES, Axis

Size = tuple[int, int]


@dataclass(frozen=True)
class EncoderChoice:
    """One encoder; `top_k` is 0 without MoE blocks."""

    width: float
    top_k: int
    cost: PartCost


@dataclass(frozen=True)
class Space:
    """The choices for some tasks at one size and precision; every list from narrow to wide, the full one last.

    Args:
        call: the cost of the call around the graphs.
        heads: task -> decoder width -> cost.
    """

    size_hw: Size
    precision: str
    call: PartCost
    encoders: tuple[EncoderChoice, ...]
    heads: dict[str, dict[float, PartCost]]

    def points(self, task: str) -> list[list[tuple[float, int, float]]]:
        """(encoder width, top_k, decoder width) of every encoder with every head of a task."""
        return [[(encoder.width, encoder.top_k, width) for width in self.heads[task]] for encoder in self.encoders]

    def known_axes(self) -> set[Axis]:
        """What every part has a price in; memory always counts, by its weights at least."""
        parts = [self.call, *(e.cost for e in self.encoders), *(c for h in self.heads.values() for c in h.values())]
        unknown = {axis for axis in ("latency_ms", "energy_mj") if any(getattr(part, axis) is None for part in parts)}
        return set(AXES) - unknown

    def pinned(self, budget: Budget, manifest: Manifest) -> Space:
        """What a budget's pins leave of it.

        Raises:
            BudgetError: a width or top_k that the bundle does not have.
        """
        encoders = list(self.encoders)
        if budget.width is not None:
            # Those of fp32: another precision may have fewer widths, which is no reason to refuse.
            width = known_width("width", budget.width, manifest.widths)
            encoders = [encoder for encoder in encoders if encoder.width == width]
        if budget.top_k is not None:
            check_top_k(budget.top_k, manifest)
            of_width, encoders = encoders, [encoder for encoder in encoders if encoder.top_k == budget.top_k]
            if of_width and not encoders:  # a backend that has some of the pairs alone
                known = ", ".join(f"width={one.width:g} with top_k={one.top_k}" for one in self.encoders)
                raise BudgetError("this backend has no encoder of that width and top_k", hint=f"it has {known}")
        heads = {task: _pinned_heads(listed, budget) for task, listed in self.heads.items()}
        return replace(self, encoders=tuple(encoders), heads=heads)


class Prices:
    """A cost model that remembers what it was asked: a profile interpolates, which takes longer than a look-up."""

    def __init__(self, costs: CostModel) -> None:
        self._costs = costs
        self._known: dict[object, PartCost] = {}

    def encoder(self, graph: GraphSpec, rows: int, top_k: int) -> PartCost:
        """Of one image."""
        key = (graph.file, rows, top_k)
        if key not in self._known:
            self._known[key] = self._costs.encoder(graph, images=1, rows=rows, top_k=top_k)
        return self._known[key]

    def head(self, graph: GraphSpec) -> PartCost:
        """Of one row."""
        if graph.file not in self._known:
            self._known[graph.file] = self._costs.head(graph, rows=1)
        return self._known[graph.file]

    def call(self, size_hw: Size, tasks: Sequence[str]) -> PartCost:
        """Of one call."""
        key = (size_hw, tuple(tasks))
        if key not in self._known:
            self._known[key] = self._costs.call(size_hw, tasks)
        return self._known[key]


class Configurations:
    """The graphs of a manifest, by what they are for.

    Args:
        offered: (width, top_k) of the encoders that may be chosen; None for all.
    """

    def __init__(self, manifest: Manifest, offered: Collection[tuple[float, int]] | None = None) -> None:
        self.manifest = manifest
        self._offered = offered
        self._by_flops = Prices(FlopsCosts())
        self._encoders: dict[tuple[Size, str], dict[float, GraphSpec]] = {}
        self._heads: dict[tuple[Size, str, str], dict[float, GraphSpec]] = {}
        for graph in sorted(manifest.graphs, key=lambda graph: graph.width):
            if graph.task is None:
                self._encoders.setdefault((graph.size_hw, graph.precision), {})[graph.width] = graph
            else:
                self._heads.setdefault((graph.size_hw, graph.precision, graph.task), {})[graph.width] = graph

    def top_ks(self, width: float) -> tuple[int, ...]:
        """Those that an encoder of that width may be asked for, ascending."""
        known = range(1, self.manifest.encoder.top_k + 1) if self.manifest.is_moe else (0,)
        return tuple(top_k for top_k in known if self._offered is None or (width, top_k) in self._offered)

    def has(self, size_hw: Size, precision: str) -> bool:
        """Is there an encoder of this size in this precision?"""
        return (size_hw, precision) in self._encoders

    def space(self, tasks: Iterable[str], size_hw: Size, precision: str, prices: Prices) -> Space:
        """Every choice for `tasks`, priced for one image. A head that is not there in `precision` is the fp32 one."""
        names = list(tasks)
        rows = len(names) if self.manifest.rows_per_task else 1
        encoders = [
            EncoderChoice(width, top_k, prices.encoder(graph, rows, top_k))
            for width, graph in self._encoders[size_hw, precision].items()
            for top_k in self.top_ks(width)
        ]
        heads = {
            task: {width: prices.head(graph) for width, graph in self._head_graphs(task, size_hw, precision)}
            for task in names
        }
        return Space(size_hw, precision, prices.call(size_hw, names), tuple(encoders), heads)

    def _head_graphs(self, task: str, size_hw: Size, precision: str) -> list[tuple[float, GraphSpec]]:
        full = self._heads[size_hw, FULL_PRECISION, task]
        return sorted({**full, **self._heads.get((size_hw, precision, task), {})}.items())

    def full_flops(self, tasks: Iterable[str], size_hw: Size) -> int:
        """FLOPs of one image at the largest width and top_k."""
        full = self.space(tasks, size_hw, FULL_PRECISION, self._by_flops)
        return full.encoders[-1].cost.flops + sum(list(h.values())[-1].flops for h in full.heads.values())


def known_width(name: str, width: float, known: Iterable[float]) -> float:
    """The width that is meant.

    Raises:
        BudgetError: none of them.
    """
    widths = sorted(known)
    for candidate in widths:
        if abs(candidate - width) < 1e-9:
            return candidate
    raise BudgetError(f"unknown {name} {width:g}", hint=f"this bundle has {', '.join(f'{w:g}' for w in widths)}")


def check_top_k(top_k: int, manifest: Manifest) -> None:
    """Refuse a top_k that the model was not trained with.

    Raises:
        BudgetError: it is above the trained one, or there are no experts.
    """
    if not manifest.is_moe:
        raise BudgetError("top_k has no meaning here: this model has no mixture-of-experts blocks")
    if top_k > manifest.encoder.top_k:
        raise BudgetError(
            f"top_k must be from 1 to {manifest.encoder.top_k}, got {top_k}", hint="larger values were never trained"
        )


def _pinned_heads(heads: dict[float, PartCost], budget: Budget) -> dict[float, PartCost]:
    if budget.decoder_width is not None:
        width = known_width("decoder_width", budget.decoder_width, heads)
    elif budget.width is not None:
        # Equal widths are merged at export, so the encoder's width need not be listed here: the next wider is.
        width = min((known for known in heads if known >= budget.width - 1e-12), default=max(heads))
    else:
        return heads
    return {width: heads[width]}
