"""(tasks, preferences, budget) -> the best configuration that fits; a look-up in the Pareto set.

Cost is FLOPs, exact from the manifest. Worth is the preference-weighted mean over tasks of
    quality = (value - trivial) / (value of the full configuration - trivial)
which is 1 for the full configuration, 0 for an answer that ignores the image, and right for metrics of either
direction. Only configurations that were measured for every requested task are then considered. Where that leaves none,
or none that fits the budget, worth is FLOPs, a decoder's counted by its task's preference (mean 1): the
plan spends as much as it may, more of it on the decoders of preferred tasks, and says scored_by="flops".

Given the encoder, the decoders are independent: their lists are merged task by task, and what costs more and is
worth no more is dropped on the way, which loses no optimum.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .budget import Budget, BudgetRequest, parse_budget
from .errors import BudgetError, InfeasibleBudgetError, SizeError, TaskError
from .manifest import Accuracy, GraphSpec, Manifest
from .tasks import TaskRequest, parse_tasks

ScoredBy = Literal["accuracy", "flops"]
SizeRequest = tuple[int, int] | int | str | None

# Beyond this many points per encoder the list is thinned to as many cost buckets, keeping the most worth of each: with
# 4 decoder widths that is never reached by up to 7 tasks; beyond, plans are within 1/65536 of the optimum's cost.
MAX_POINTS = 65536
_MAX_CACHED = 64


@dataclass(frozen=True)
class Plan:
    """A configuration, what it costs, and what it is worth.

    Args:
        top_k: experts per token; 0 for a model without MoE blocks.
        flops: of one image with these tasks.
        share: of the FLOPs of the full configuration for the same tasks and size.
        accuracies: the manifest's value of each task's metric here, None where unmeasured.
        budget_met: False where even the smallest configuration costs more than the budget.
        tasks: task -> preference.
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

    def to_json(self) -> dict[str, Any]:
        """Plain lists, dicts, numbers and texts, ready for `json.dumps`."""
        return {**self.__dict__, "size_hw": list(self.size_hw)}

    def __str__(self) -> str:
        decoders = ", ".join(f"{task} {width:g}" for task, width in self.decoder_widths.items())
        top_k = f", top_k {self.top_k}" if self.top_k else ""
        return (
            f"{self.flops / 1e9:.3g} GFLOPs ({self.share:.0%}): {self.size_hw[0]}x{self.size_hw[1]}, "
            f"encoder {self.encoder_width:g}{top_k}, decoders {decoders}"
        )


@dataclass(frozen=True)
class _Encoder:
    width: float
    top_k: int
    flops: int


@dataclass(frozen=True)
class _Frontier:
    """The Pareto set, cheapest first, worth rising with cost; empty if nothing was measured.

    Axes: P points, T tasks in the order of the request.
    """

    costs_P: np.ndarray
    encoders: list[_Encoder]
    encoder_of_P: np.ndarray
    widths: list[list[float]]  # decoder widths of each task
    choices_PT: np.ndarray
    scored_by: ScoredBy

    def at(self, index: int) -> tuple[_Encoder, tuple[float, ...]]:
        """The encoder and the decoder width of each task."""
        chosen = self.choices_PT[index].tolist()
        return self.encoders[self.encoder_of_P[index]], tuple(w[i] for w, i in zip(self.widths, chosen))


_Heads = Mapping[str, Mapping[float, GraphSpec]]  # of each task, by width
_Worth = tuple[float, list[list[tuple[int, int, float]]]]  # of the encoder; per task (index, cost, worth) of its heads
_SCORES: tuple[ScoredBy, ScoredBy] = ("accuracy", "flops")


@dataclass(frozen=True)
class _Builder:
    """What every plan of one request has in common."""

    preferences: Mapping[str, float]
    size_hw: tuple[int, int]
    full_flops: int
    text: str


class Planner:
    """Plans for one manifest. Safe to use from several threads."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self._encoders: dict[tuple[int, int], dict[float, GraphSpec]] = {}
        self._heads: dict[tuple[tuple[int, int], str], dict[float, GraphSpec]] = {}
        for graph in sorted(manifest.graphs, key=lambda graph: graph.width):
            if graph.task is None:
                self._encoders.setdefault(graph.size_hw, {})[graph.width] = graph
            else:
                self._heads.setdefault((graph.size_hw, graph.task), {})[graph.width] = graph
        self._measured: dict[tuple[str, float, int, float], Accuracy] = {
            (a.task, a.encoder_width, a.top_k if manifest.is_moe else 0, a.decoder_width): a
            for a in manifest.accuracies
        }
        self._frontiers: OrderedDict[object, _Frontier] = OrderedDict()
        self._lock = threading.Lock()

    def plan(
        self,
        tasks: TaskRequest,
        budget: BudgetRequest | Budget | Plan = None,
        *,
        size: SizeRequest = None,
        strict: bool = False,
    ) -> Plan:
        """The plan of most worth within the budget; among equals, the cheapest.

        Raises:
            TaskError, BudgetError, SizeError: the request cannot be read, or names what the bundle does not have.
            InfeasibleBudgetError: strict, and even the smallest configuration costs more. Otherwise that smallest
                one is the answer, with budget_met=False.
        """
        if isinstance(budget, Plan):
            return self._adopt(tasks, budget, size)
        preferences = parse_tasks(tasks, self.manifest.task_names)
        size_hw = self.size_hw(size)
        wanted = parse_budget(budget)
        full_flops = self.full_flops(preferences, size_hw)
        limit = wanted.flops if wanted.share is None else int(wanted.share * full_flops)
        build = _Builder(preferences, size_hw, full_flops, wanted.text)
        if limit is None:
            encoder = self._pinned_encoders(list(preferences), size_hw, wanted)[-1]
            widths = tuple(max(self._pinned_heads(task, size_hw, wanted)) for task in preferences)
            return self._make_plan(build, encoder, widths, None, True)
        for scored_by in _SCORES:
            frontier = self._frontier(preferences, size_hw, wanted, scored_by)
            index = int(np.searchsorted(frontier.costs_P, limit, side="right"))
            if index:
                return self._make_plan(build, *frontier.at(index - 1), scored_by, True)
        by_flops = self._frontier(preferences, size_hw, wanted, "flops")
        if strict:
            smallest = int(by_flops.costs_P[0])
            raise InfeasibleBudgetError(
                f"the budget {wanted.text} allows {limit / 1e9:.4g} GFLOPs, but the smallest configuration for "
                f"{', '.join(preferences)} costs {smallest / 1e9:.4g} GFLOPs "
                f"({smallest / full_flops:.1%} of the full one)",
                hint=f'the smallest feasible budget is "{smallest}FLOPs"; ask for fewer tasks, or raise the budget',
            )
        return self._make_plan(build, *by_flops.at(0), by_flops.scored_by, False)

    def curve(
        self, tasks: TaskRequest, budget: BudgetRequest | Budget = None, *, size: SizeRequest = None, points: int = 20
    ) -> list[Plan]:
        """Up to `points` plans along the Pareto set, cheapest first, both ends included. Pins of `budget` hold."""
        preferences = parse_tasks(tasks, self.manifest.task_names)
        size_hw = self.size_hw(size)
        wanted = parse_budget(budget)
        full_flops = self.full_flops(preferences, size_hw)
        frontier = self._frontier(preferences, size_hw, wanted, "accuracy")
        if not len(frontier.costs_P):
            frontier = self._frontier(preferences, size_hw, wanted, "flops")
        costs = frontier.costs_P
        targets = np.linspace(costs[0], costs[-1], max(points, 2))
        indices = np.unique(np.searchsorted(costs, targets, side="right") - 1).tolist()
        return [
            self._make_plan(
                _Builder(preferences, size_hw, full_flops, f"{costs[i]}FLOPs"),
                *frontier.at(i),
                frontier.scored_by,
                True,
            )
            for i in indices
        ]

    def size_hw(self, size: SizeRequest) -> tuple[int, int]:
        """(H, W) of a requested size: None (the first of the bundle), 224, "224", "224x320" or (224, 320).

        Raises:
            SizeError: not a size, or one that the bundle has no graphs for.
        """
        sizes = self.manifest.sizes
        if size is None:
            return sizes[0]
        try:
            parts = size.lower().split("x") if isinstance(size, str) else [size] if isinstance(size, int) else size
            numbers = tuple(int(part) for part in parts)
        except (TypeError, ValueError):
            numbers = ()
        wanted = numbers * 2 if len(numbers) == 1 else numbers
        for known in sizes:
            if known == wanted:
                return known
        listed = ", ".join(f"{height}x{width}" for height, width in sizes)
        raise SizeError(f"no graphs for size {size!r}", hint=f"this bundle has (height x width) {listed}")

    def full_flops(self, tasks: Iterable[str], size_hw: tuple[int, int]) -> int:
        """FLOPs of one image at the largest width and top_k."""
        names = list(tasks)
        heads = sum(list(self._heads[size_hw, name].values())[-1].cost.flops_row for name in names)
        return self._all_encoders(names, size_hw)[-1].flops + heads

    def _all_encoders(self, tasks: list[str], size_hw: tuple[int, int]) -> list[_Encoder]:
        """Every (width, top_k), the full one last."""
        rows = len(tasks) if self.manifest.is_moe else 1
        top_ks = range(1, self.manifest.encoder.top_k + 1) if self.manifest.is_moe else (0,)
        return [
            _Encoder(width, top_k, c.flops_image + rows * c.flops_row + rows * top_k * c.flops_row_per_expert)
            for width, graph in self._encoders[size_hw].items()
            for c in (graph.cost,)
            for top_k in top_ks
        ]

    def _frontier(
        self,
        preferences: Mapping[str, float],
        size_hw: tuple[int, int],
        budget: Budget,
        scored_by: ScoredBy,
    ) -> _Frontier:
        key = (tuple(preferences.items()), size_hw, budget.width, budget.decoder_width, budget.top_k, scored_by)
        with self._lock:
            if key in self._frontiers:
                self._frontiers.move_to_end(key)
                return self._frontiers[key]
        frontier = self._build_frontier(preferences, size_hw, budget, scored_by)
        with self._lock:
            self._frontiers[key] = frontier
            if len(self._frontiers) > _MAX_CACHED:
                self._frontiers.popitem(last=False)
        return frontier

    def _build_frontier(
        self,
        preferences: Mapping[str, float],
        size_hw: tuple[int, int],
        budget: Budget,
        scored_by: ScoredBy,
    ) -> _Frontier:
        tasks = list(preferences)
        encoders = self._pinned_encoders(tasks, size_hw, budget)
        heads = {task: self._pinned_heads(task, size_hw, budget) for task in tasks}
        weights = {task: preference / sum(preferences.values()) for task, preference in preferences.items()}
        worth = self._accuracy_worth if scored_by == "accuracy" else self._flops_worth
        widths = [list(listed) for listed in heads.values()]
        nothing = np.zeros(0, np.int64)
        found = [(nothing, np.zeros(0), nothing, np.zeros((0, len(tasks)), np.int64))]
        for number, encoder in enumerate(encoders):
            base, options = worth(encoder, heads, weights, size_hw)
            if all(options):
                costs_P, worths_P, choices_PT = _merge(options)
                found.append((costs_P + encoder.flops, worths_P + base, np.full(len(costs_P), number), choices_PT))
        costs_P, worths_P, encoder_of_P, choices_PT = (np.concatenate(column) for column in zip(*found))
        keep = _pareto(costs_P, worths_P, _TIE)
        return _Frontier(costs_P[keep], encoders, encoder_of_P[keep], widths, choices_PT[keep], scored_by)

    def _pinned_encoders(self, tasks: list[str], size_hw: tuple[int, int], budget: Budget) -> list[_Encoder]:
        found = self._all_encoders(tasks, size_hw)
        if budget.width is not None:
            width = _known_width("width", budget.width, list(self._encoders[size_hw]))
            found = [encoder for encoder in found if encoder.width == width]
        if budget.top_k is not None:
            if not self.manifest.is_moe:
                raise BudgetError("top_k has no meaning here: this model has no mixture-of-experts blocks")
            if budget.top_k > self.manifest.encoder.top_k:
                raise BudgetError(
                    f"top_k must be from 1 to {self.manifest.encoder.top_k}, got {budget.top_k}",
                    hint="larger values were never trained",
                )
            found = [encoder for encoder in found if encoder.top_k == budget.top_k]
        return found

    def _pinned_heads(self, task: str, size_hw: tuple[int, int], budget: Budget) -> dict[float, GraphSpec]:
        heads = self._heads[size_hw, task]
        if budget.decoder_width is not None:
            width = _known_width("decoder_width", budget.decoder_width, list(heads))
        elif budget.width is not None:
            # Equal widths are merged at export, so the encoder's width need not be listed here: the next wider is.
            width = min((known for known in heads if known >= budget.width - _TIE), default=max(heads))
        else:
            return heads
        return {width: heads[width]}

    def _flops_worth(
        self, encoder: _Encoder, heads: _Heads, weights: Mapping[str, float], size_hw: tuple[int, int]
    ) -> _Worth:
        full = max(self.full_flops(heads, size_hw), 1)
        options = [
            [
                (number, graph.cost.flops_row, weights[task] * len(weights) * graph.cost.flops_row / full)
                for number, graph in enumerate(listed.values())
            ]
            for task, listed in heads.items()
        ]
        return encoder.flops / full, options

    def _accuracy_worth(
        self, encoder: _Encoder, heads: _Heads, weights: Mapping[str, float], size_hw: tuple[int, int]
    ) -> _Worth:
        options: list[list[tuple[int, int, float]]] = []
        for task, listed in heads.items():
            full = self._full_accuracy(task, size_hw)
            options.append([])
            for number, (width, graph) in enumerate(listed.items()):
                accuracy = self._measured.get((task, encoder.width, encoder.top_k, width))
                if accuracy is not None and full is not None:
                    options[-1].append((number, graph.cost.flops_row, weights[task] * quality(accuracy, full)))
        return 0.0, options

    def _full_accuracy(self, task: str, size_hw: tuple[int, int]) -> Accuracy | None:
        top_k = self.manifest.encoder.top_k if self.manifest.is_moe else 0
        return self._measured.get((task, max(self._encoders[size_hw]), top_k, max(self._heads[size_hw, task])))

    def _make_plan(
        self,
        build: _Builder,
        encoder: _Encoder,
        decoder_widths: tuple[float, ...],
        scored_by: ScoredBy | None,
        met: bool,
    ) -> Plan:
        widths = dict(zip(build.preferences, decoder_widths))
        heads = sum(self._heads[build.size_hw, task][width].cost.flops_row for task, width in widths.items())
        accuracies = self._accuracies(encoder, widths)
        if scored_by is None:
            scored_by = "flops" if None in accuracies.values() else "accuracy"
        return Plan(
            size_hw=build.size_hw,
            encoder_width=encoder.width,
            top_k=encoder.top_k,
            decoder_widths=widths,
            flops=encoder.flops + heads,
            share=(encoder.flops + heads) / build.full_flops if build.full_flops else 1.0,
            accuracies=accuracies,
            scored_by=scored_by,
            budget_met=met,
            tasks=dict(build.preferences),
            budget=build.text,
        )

    def _accuracies(self, encoder: _Encoder, decoder_widths: Mapping[str, float]) -> dict[str, float | None]:
        found = {
            task: self._measured.get((task, encoder.width, encoder.top_k, width))
            for task, width in decoder_widths.items()
        }
        return {task: None if accuracy is None else accuracy.value for task, accuracy in found.items()}

    def _adopt(self, tasks: TaskRequest, plan: Plan, size: SizeRequest) -> Plan:
        """A plan given as a budget: the same configuration, for the same tasks or fewer, costed for this bundle."""
        preferences = plan.tasks if tasks is None else parse_tasks(tasks, self.manifest.task_names)
        parse_tasks(list(preferences), self.manifest.task_names)
        size_hw = self.size_hw(plan.size_hw if size is None else size)
        surplus = [task for task in preferences if task not in plan.decoder_widths]
        if surplus:
            raise TaskError(f"the plan is not for {', '.join(surplus)}", hint="plan again with these tasks")
        wanted = (plan.encoder_width, plan.top_k)
        encoders = [e for e in self._all_encoders(list(preferences), size_hw) if (e.width, e.top_k) == wanted]
        if not encoders:
            raise BudgetError(
                f"the plan's encoder (width {plan.encoder_width:g}, top_k {plan.top_k}) is not in this bundle",
                hint="plan again with this bundle",
            )
        widths = tuple(
            _known_width("decoder_width", plan.decoder_widths[task], list(self._heads[size_hw, task]))
            for task in preferences
        )
        build = _Builder(preferences, size_hw, self.full_flops(preferences, size_hw), plan.budget)
        return self._make_plan(build, encoders[0], widths, plan.scored_by, plan.budget_met)


_TIE = 1e-12  # sums of the same numbers in another order differ by less


def quality(accuracy: Accuracy, full: Accuracy) -> float:
    """Where a value lies between the trivial answer (0) and the full configuration (1), whichever way is better.

    A task that the full configuration does no better than trivially has nothing to lose: 0 everywhere.
    """
    sign = 1.0 if full.higher_is_better else -1.0
    span = sign * (full.value - full.trivial)
    return sign * (accuracy.value - accuracy.trivial) / span if span > 0 else 0.0


def _known_width(name: str, width: float, known: list[float]) -> float:
    for candidate in known:
        if abs(candidate - width) < 1e-9:
            return candidate
    raise BudgetError(f"unknown {name} {width:g}", hint=f"this bundle has {', '.join(f'{w:g}' for w in sorted(known))}")


def _merge(options: list[list[tuple[int, int, float]]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The Pareto set of choosing one (index, cost, worth) of each list: costs [P], worths [P], indices [P, lists]."""
    costs, worths, choices = np.zeros(1, np.int64), np.zeros(1), np.zeros((1, 0), np.int64)
    for listed in options:
        index, cost = np.array([i for i, _, _ in listed]), np.array([c for _, c, _ in listed], np.int64)
        sums = (costs[:, None] + cost).ravel()
        values = (worths[:, None] + np.array([w for _, _, w in listed])).ravel()
        keep = _pareto(sums, values, 0.0)
        if len(keep) > MAX_POINTS:
            keep = _thin(keep, sums)
        rows, columns = np.divmod(keep, len(listed))
        costs, worths = sums[keep], values[keep]
        choices = np.concatenate((choices[rows], index[columns][:, None]), axis=1)
    return costs, worths, choices


def _pareto(costs: np.ndarray, worths: np.ndarray, tie: float) -> np.ndarray:
    """Indices of the points that are worth more (by over `tie`) than everything cheaper, cheapest first."""
    order = np.lexsort((-worths, costs))
    best = np.maximum.accumulate(worths[order])
    return order[np.diff(best, prepend=-np.inf) > tie]


def _thin(keep: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Of each cost bucket the last point, which is worth most; the cheapest point always stays."""
    cost = sums[keep]
    bucket = (cost - cost[0]) * np.int64(MAX_POINTS) // max(int(cost[-1] - cost[0]), 1)
    last = np.concatenate((bucket[1:] != bucket[:-1], [True]))
    last[0] = True
    return keep[last]
