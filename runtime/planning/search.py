"""All plans for the same tasks, floors, pins and sizes: the Pareto sets, and the plans that they hold."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial

from ..bundles.accuracy import Accuracy
from ..bundles.graph_spec import FULL_PRECISION
from ..errors import TaskError
from ..tasks import TaskChoice
from .budget import Budget
from .configurations import EncoderChoice, Size, Space
from .frontier import Frontier, build_frontier
from .limits import AXES, NO_LIMIT, Axis, Limit, limits_of, require_known
from .plan import Plan, ScoredBy, totals
from .scoring import Scorer
from .sources import Sources
from .worth import quality

Found = tuple[Frontier, int]
_SCORES: tuple[ScoredBy, ScoredBy] = ("accuracy", "flops")
_MAX_PLANS = 512  # kept per Pareto set


class Search:
    """The plans of one kind of request; its Pareto sets are built on first use and kept.

    Args:
        size_hw: None leaves the size to the planner.
        pins: of the budget only these count: width, decoder_width, top_k, precision.

    Raises:
        BudgetError: a pin that the bundle does not have.
        TaskError: a floor for a task whose accuracy was not measured.
    """

    def __init__(self, sources: Sources, choice: TaskChoice, size_hw: Size | None, pins: Budget) -> None:
        self.choice = choice
        self._sources = sources
        self._size_hw = size_hw
        self._pins = pins
        self.reference_hw = size_hw or sources.configurations.manifest.sizes[0]
        self.full_flops = sources.configurations.full_flops(choice.preferences, self.reference_hw)
        self.score = Scorer(choice, sources.accuracies, self.reference_hw, self.full_flops)
        tasks = list(choice.preferences)
        self._default = sources.space(tasks, self.reference_hw, pins.precision or FULL_PRECISION, pins)
        default = (self._default.size_hw, self._default.precision)
        others = sources.measured_spaces(tasks, size_hw, pins)
        self._spaces = [self._default, *(s for s in others if (s.size_hw, s.precision) != default)]
        self.known = set.intersection(*(space.known_axes() for space in self._spaces))
        self._frontiers: dict[tuple[tuple[Axis, ...], ScoredBy], Frontier] = {}
        self._lock = threading.Lock()
        for task in choice.floors:
            if sources.accuracies.full(task, self.reference_hw) is None:
                raise TaskError(
                    f"the floor of task {task!r} cannot be held: its full accuracy is unmeasured in this bundle",
                    hint='leave the floor out, or measure with "slimpath eval"',
                )

    @property
    def cost_axis(self) -> Axis:
        """What "cheap" means where the budget does not say: time if it was measured, else FLOPs."""
        return "latency_ms" if "latency_ms" in self.known else "flops"

    @property
    def headroom(self) -> float:
        """p95 over median of whole calls."""
        return self._sources.costs.headroom

    def limits(self, budget: Budget, slowdown: float = 1.0) -> list[Limit]:
        """The budget's limits, in whole numbers.

        Raises:
            BudgetError: it limits what was not measured.
        """
        found = limits_of(budget, full_flops=self.full_flops, headroom=self.headroom, slowdown=slowdown)
        require_known(found, self.known, self._sources.costs)
        return found

    def spaces(self, scored_by: ScoredBy) -> list[Space]:
        """What is chosen among: without measured accuracies only the first size, and fp32, unless asked for."""
        return self._spaces if scored_by == "accuracy" else [self._default]

    def space_of(self, plan: Plan) -> Space | None:
        """Where a plan's configuration is; None if this search does not choose among its size and precision."""
        wanted = (plan.size_hw, plan.precision)
        return next((space for space in self._spaces if (space.size_hw, space.precision) == wanted), None)

    def full(self) -> tuple[Space, EncoderChoice, tuple[float, ...]]:
        """The largest that the pins allow, at the first size unless another was asked for."""
        space = self._default
        return space, space.encoders[-1], tuple(list(heads)[-1] for heads in space.heads.values())

    def best(self, limits: Sequence[Limit]) -> Found | None:
        """The plan of most worth within all limits: by accuracy if a measured one fits, else by FLOPs."""
        axes, most = self._axes(limits)
        for scored_by in _SCORES:
            frontier = self.frontier(axes, scored_by)
            point = frontier.best(most)
            if point is not None:
                return frontier, point
        return None

    def nearest(self, limits: Sequence[Limit]) -> Found | None:
        """The plan that exceeds the limits by the least factor: with one, the cheapest. None: floors forbid all."""
        axes, most = self._axes(limits)
        found: list[tuple[float, Found]] = []
        for scored_by in _SCORES:
            frontier = self.frontier(axes, scored_by)
            nearest = frontier.nearest(most)
            if nearest is not None:
                found.append((nearest[0], (frontier, nearest[1])))
        return min(found, key=lambda pair: pair[0])[1] if found else None

    def cheapest(self) -> Found | None:
        """The plan of the least cost that keeps all floors; None if they forbid all."""
        return self.nearest([Limit(self.cost_axis, 1, "", 1.0, "")])  # exceeding next to nothing by the least factor

    def steps(self, axis: Axis, limits: Sequence[Limit]) -> list[tuple[int, Frontier, int]]:
        """What growing budgets on one axis buy, other limits being held: (cost, frontier, point), cheapest first."""
        others = [limit for limit in limits if limit.axis != axis]
        axes, most = self._axes([*others, Limit(axis, NO_LIMIT, "", 1.0, "")])
        measured, plain = (
            [(cost, frontier, point) for cost, point in frontier.along(axes.index(axis), most)]
            for frontier in (self.frontier(axes, scored_by) for scored_by in _SCORES)
        )
        return [step for step in plain if not measured or step[0] < measured[0][0]] + measured

    def frontier(self, axes: tuple[Axis, ...], scored_by: ScoredBy) -> Frontier:
        """The Pareto set on these axes."""
        key = (axes, scored_by)
        found = self._frontiers.get(key)
        if found is None:
            with self._lock:
                found = self._frontiers.get(key)
                if found is None:
                    score = partial(self.score, scored_by)
                    found = build_frontier(self.spaces(scored_by), axes, scored_by, score)
                    self._frontiers[key] = found
        return found

    def plan_at(self, found: Found, text: str, unmet: tuple[str, ...] = ()) -> Plan:
        """The plan of a point; the same object every time."""
        frontier, point = found
        plan = frontier.plans.get((point, text, unmet))
        if plan is None:
            if len(frontier.plans) >= _MAX_PLANS:
                frontier.plans.clear()
            plan = self.make_plan(*frontier.at(point), text, frontier.scored_by, unmet)
            frontier.plans[point, text, unmet] = plan
        return plan

    def make_plan(
        self,
        space: Space,
        encoder: EncoderChoice,
        decoder_widths: Sequence[float],
        text: str,
        scored_by: ScoredBy | None = None,
        unmet: tuple[str, ...] = (),
    ) -> Plan:
        """A configuration with its costs and accuracies; `scored_by` None: by accuracy if all of it was measured."""
        widths = dict(zip(self.choice.preferences, decoder_widths))
        parts = (
            ("call", space.call),
            ("encoder", encoder.cost),
            *((task, space.heads[task][width]) for task, width in widths.items()),
        )
        measured = {task: self._accuracy_at(space, task, encoder, width) for task, width in widths.items()}
        accuracies = {task: None if accuracy is None else accuracy.value for task, accuracy in measured.items()}
        sums = totals([cost for _, cost in parts], self.headroom)
        return Plan(
            size_hw=space.size_hw,
            encoder_width=encoder.width,
            top_k=encoder.top_k,
            decoder_widths=widths,
            share=sums["flops"] / self.full_flops if self.full_flops else 1.0,
            accuracies=accuracies,
            scored_by=scored_by or ("flops" if None in accuracies.values() else "accuracy"),
            budget_met=not unmet,
            tasks=dict(self.choice.preferences),
            budget=text,
            precision=space.precision,
            costed_by="flops" if self._sources.costs.name == "flops" else "profile",
            parts=parts,
            floors=dict(self.choice.floors),
            unmet=unmet,
            qualities={task: self._quality(task, accuracy) for task, accuracy in measured.items()},
            **sums,
        )

    def broken_floors(self, space: Space, encoder: EncoderChoice, decoder_widths: Sequence[float]) -> list[str]:
        """The floors that a configuration does not keep, as "depth>=0.9"."""
        widths = dict(zip(self.choice.preferences, decoder_widths))
        return [
            f"{task}>={floor:g}"
            for task, floor in self.choice.floors.items()
            if not self.score.keeps_floor(task, space, (encoder.width, encoder.top_k, widths[task]))
        ]

    def without_floors(self) -> Search:
        """The same search, any accuracy allowed."""
        return Search(self._sources, TaskChoice(self.choice.preferences), self._size_hw, self._pins)

    def best_qualities(self) -> dict[str, float]:
        """The most of its full accuracy that each task with a floor reaches under the pins."""
        return {
            task: max(
                self._quality(task, self._accuracy_at(space, task, encoder, width)) or 0.0
                for space in self._spaces
                for encoder in space.encoders
                for width in space.heads[task]
            )
            for task in self.choice.floors
        }

    def _axes(self, limits: Sequence[Limit]) -> tuple[tuple[Axis, ...], list[int]]:
        most: dict[Axis, int] = {}
        for limit in limits:
            most[limit.axis] = min(limit.most, most.get(limit.axis, NO_LIMIT))
        if len(most) > 1:
            most = {axis: most[axis] for axis in AXES if axis in most}
        return tuple(most), list(most.values())

    def _quality(self, task: str, accuracy: Accuracy | None) -> float | None:
        full = self._sources.accuracies.full(task, self.reference_hw)
        return None if accuracy is None or full is None else quality(accuracy, full)

    def _accuracy_at(self, space: Space, task: str, encoder: EncoderChoice, width: float) -> Accuracy | None:
        measured = self._sources.accuracies.measured(task, space.size_hw, space.precision)
        return measured.get((encoder.width, encoder.top_k, width))
