"""(tasks, preferences, budget) -> the best configuration that fits; a look-up in the Pareto set.

Cost is what the cost model says: FLOPs and bytes of weights from the manifest, or a profile's measured milliseconds,
megabytes and millijoules. Worth is the preference-weighted mean over tasks of their quality (see `worth`). Only
configurations that were measured for every requested task are then considered. Where that leaves none, or none that
fits the budget, worth is FLOPs, a decoder's counted by its task's preference (mean 1): the plan spends as much as it
may, more of it on the decoders of preferred tasks, and says scored_by="flops".

"Full" is every width and expert at the bundle's first size in fp32. Other sizes and precisions are chosen where their
accuracy was measured, or where they are asked for.

The files: `configurations` lists what there is, `scoring` and `worth` say what it is worth, `frontier` and `pareto`
keep what nothing beats, `limits` reads the budget, `search` holds it all for one kind of request.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache

from ..bundles.graph_spec import FULL_PRECISION
from ..bundles.manifest import Manifest
from ..errors import BudgetError, TaskError
from ..tasks import TaskChoice, TaskRequest, parse_task_choice
from .budget import Budget, BudgetRequest, parse_budget
from .configurations import Configurations, Prices, known_width
from .costs import CostModel, FlopsCosts
from .infeasible import nearest_plan
from .landscape import Landscape, landscape_of
from .limits import NO_LIMIT, Limit
from .plan import Plan, ScoredBy
from .search import Search
from .sizes import SizeRequest, parse_size
from .sources import Sources
from .steps import Neighbours, curve_of, neighbours_of
from .worth import Accuracies, quality

__all__ = ["Neighbours", "Plan", "Planner", "ScoredBy", "SizeRequest", "quality"]

_MAX_SEARCHES = 64
_MAX_ANSWERS = 1024
# Requests that are their own key. Others may change between two calls (lists), or be used up by one (generators).
_PLAIN_TASKS = frozenset((str, type(None)))
_PLAIN_BUDGETS = frozenset((str, float, int, Budget, type(None)))
_PLAIN_SIZES = frozenset((str, int, tuple, type(None)))


@dataclass
class _Memory:
    """What was worked out under one cost model; replaced as a whole when the costs change."""

    sources: Sources
    key: str
    searches: OrderedDict[object, Search] = field(default_factory=OrderedDict)
    answers: dict[object, Plan] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Planner:
    """Plans for one manifest. Safe to use from several threads.

    Args:
        costs: None for FLOPs alone; a profile adds latency, memory and energy.
        precisions: what the backend can run, None for whatever the bundle has.
        encoders: (width, top_k) that the backend has, None for whatever the bundle has.
    """

    def __init__(
        self,
        manifest: Manifest,
        costs: CostModel | None = None,
        *,
        precisions: Collection[str] | None = None,
        encoders: Collection[tuple[float, int]] | None = None,
    ) -> None:
        self.manifest = manifest
        usable = [p for p in manifest.precisions if precisions is None or p in precisions or p == FULL_PRECISION]
        self._task_names = manifest.task_names
        self._configurations = Configurations(manifest, encoders)
        self._accuracies = Accuracies(manifest)
        self._precisions = tuple(usable)
        self.use(costs or FlopsCosts())

    def use(self, costs: CostModel) -> None:
        """Price with other costs from now on; plans that are being made meanwhile end with the former ones."""
        sources = Sources(self._configurations, self._accuracies, costs, Prices(costs), self._precisions)
        self._memory = _Memory(sources, costs.key)

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those that plans may have, fp32 first."""
        return self._precisions

    def top_ks(self, width: float) -> tuple[int, ...]:
        """What the top_k of an encoder of that width may be: 0 without experts; none where there is no such encoder."""
        return self._configurations.top_ks(width)

    @property
    def costs(self) -> CostModel:
        """The cost model in use."""
        return self._memory.sources.costs

    def plan(
        self,
        tasks: TaskRequest,
        budget: BudgetRequest | Budget | Plan = None,
        *,
        size: SizeRequest = None,
        strict: bool = False,
        slowdown: float = 1.0,
    ) -> Plan:
        """The plan of most worth that keeps every limit of the budget and every floor of the tasks.

        Args:
            slowdown: how much slower the device is at present than its profile: limits in ms tighten by it.

        Raises:
            TaskError, BudgetError, SizeError: the request cannot be read, names what the bundle does not have, or
                limits what was not measured.
            InfeasibleBudgetError: strict, and no configuration keeps all of it. Otherwise the answer is the one that
                exceeds the limits by the least factor (with one limit: the cheapest), with budget_met=False.
        """
        memory = self._memory
        if memory.key != memory.sources.costs.key:  # a profile that was refined
            self.use(memory.sources.costs)
            memory = self._memory
        if isinstance(budget, Plan):
            return self._adopt(memory, tasks, budget, size)
        kinds = (tasks.__class__, budget.__class__, size.__class__)
        if kinds[0] not in _PLAIN_TASKS or kinds[1] not in _PLAIN_BUDGETS or kinds[2] not in _PLAIN_SIZES:
            return self._plan(memory, tasks, budget, size, strict, slowdown)
        key = (tasks, budget, size, strict, kinds)  # with the kinds: 1 and True are equal, and only one is a budget
        if slowdown != 1.0:  # hardly comes twice
            return self._plan(memory, tasks, budget, size, strict, slowdown)
        answer = memory.answers.get(key)
        if answer is None:
            answer = self._plan(memory, tasks, budget, size, strict, slowdown)
            with memory.lock:
                if len(memory.answers) >= _MAX_ANSWERS:
                    memory.answers.clear()
                memory.answers[key] = answer
        return answer

    def curve(
        self, tasks: TaskRequest, budget: BudgetRequest | Budget = None, *, size: SizeRequest = None, points: int = 20
    ) -> list[Plan]:
        """Up to `points` plans along the Pareto set, cheapest first, both ends included; pins of `budget` hold.

        The cost is latency where it was measured, else FLOPs.
        """
        search = self._search(self._memory, self._choice(tasks), self._wanted_hw(size), parse_budget(budget))
        return curve_of(search, points)

    def neighbours(self, plan: Plan, budget: BudgetRequest | Budget = None, *, size: SizeRequest = None) -> Neighbours:
        """What a little less and a little more of the budget's first limit would buy; its other limits and pins hold.

        Args:
            budget: what `plan` was made for, if not `plan.budget`. Without limits, cost is latency, else FLOPs.
            size: as in the request for `plan`.
        """
        wanted, choice = parse_budget(plan.budget if budget is None else budget), TaskChoice(plan.tasks, plan.floors)
        search = self._search(self._memory, choice, self._wanted_hw(size), wanted)
        if search.space_of(plan) is None:
            search = self._search(self._memory, choice, plan.size_hw, wanted)
        return neighbours_of(search, plan, search.limits(wanted))

    def landscape(
        self, tasks: TaskRequest, budget: BudgetRequest | Budget = None, *, size: SizeRequest = None
    ) -> Landscape:
        """What is chosen from, and the Pareto set, for pictures; pins of `budget` hold."""
        wanted = parse_budget(budget)
        search = self._search(self._memory, self._choice(tasks), self._wanted_hw(size), wanted)
        return landscape_of(search, search.limits(wanted))

    def size_hw(self, size: SizeRequest) -> tuple[int, int]:
        """(H, W) of a requested size; None is the first of the bundle. See `sizes.parse_size`."""
        return parse_size(size, self.manifest.sizes)

    def full_flops(self, tasks: Iterable[str], size_hw: tuple[int, int]) -> int:
        """FLOPs of one image at the largest width and top_k."""
        return self._configurations.full_flops(tasks, size_hw)

    def _plan(
        self,
        memory: _Memory,
        tasks: TaskRequest,
        budget: BudgetRequest | Budget,
        size: SizeRequest,
        strict: bool,
        slowdown: float,
    ) -> Plan:
        wanted = _read_budget(budget) if isinstance(budget, str) else parse_budget(budget)
        search = self._search(memory, self._choice(tasks), self._wanted_hw(size), wanted)
        if wanted.cheapest:
            found = search.cheapest()
        elif limits := search.limits(wanted, slowdown):
            found = search.best(limits)
        else:
            full = search.full()
            if not search.broken_floors(*full):
                return search.make_plan(*full, wanted.text)
            found = search.best([Limit("flops", NO_LIMIT, "", 1.0, "")])
        if found is not None:
            return search.plan_at(found, wanted.text)
        return nearest_plan(search, search.limits(wanted, slowdown), wanted, strict=strict)

    def _search(self, memory: _Memory, choice: TaskChoice, size_hw: tuple[int, int] | None, pins: Budget) -> Search:
        key = (
            tuple(choice.preferences.items()),
            tuple(choice.floors.items()),
            size_hw,
            (pins.width, pins.decoder_width, pins.top_k, pins.precision),
        )
        search = memory.searches.get(key)
        if search is None:
            search = Search(memory.sources, choice, size_hw, pins)
        with memory.lock:
            search = memory.searches.setdefault(key, search)
            memory.searches.move_to_end(key)
            if len(memory.searches) > _MAX_SEARCHES:
                memory.searches.popitem(last=False)
        return search

    def _choice(self, tasks: TaskRequest) -> TaskChoice:
        if tasks is None or isinstance(tasks, str):
            return _read_tasks(tasks, self._task_names)
        return parse_task_choice(tasks, self._task_names)

    def _wanted_hw(self, size: SizeRequest) -> tuple[int, int] | None:
        return None if size is None else self.size_hw(size)

    def _adopt(self, memory: _Memory, tasks: TaskRequest, plan: Plan, size: SizeRequest) -> Plan:
        """A plan given as a budget: the same configuration, for the same tasks or fewer, costed for this bundle."""
        choice = TaskChoice(plan.tasks, plan.floors) if tasks is None else self._choice(tasks)
        parse_task_choice(list(choice.preferences), self._task_names)
        size_hw = self.size_hw(plan.size_hw if size is None else size)
        surplus = [task for task in choice.preferences if task not in plan.decoder_widths]
        if surplus:
            raise TaskError(f"the plan is not for {', '.join(surplus)}", hint="plan again with these tasks")
        search = self._search(memory, choice, size_hw, Budget(precision=plan.precision))
        space, _, _ = search.full()
        wanted = (plan.encoder_width, plan.top_k)
        encoders = [encoder for encoder in space.encoders if (encoder.width, encoder.top_k) == wanted]
        if not encoders:
            raise BudgetError(
                f"the plan's encoder (width {plan.encoder_width:g}, top_k {plan.top_k}) is not in this bundle",
                hint="plan again with this bundle",
            )
        widths = [
            known_width("decoder_width", plan.decoder_widths[task], space.heads[task]) for task in choice.preferences
        ]
        adopted = search.make_plan(space, encoders[0], widths, plan.budget, plan.scored_by, plan.unmet)
        if (adopted.tasks.keys(), adopted.flops) != (plan.tasks.keys(), plan.flops):
            return adopted
        return replace(adopted, share=plan.share, qualities=plan.qualities)  # may be of another size's full one


_read_tasks = lru_cache(maxsize=512)(parse_task_choice)
_read_budget = lru_cache(maxsize=512)(parse_budget)
