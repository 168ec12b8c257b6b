"""The plan for a request: what the planner says, under the memory limit of the process and the pace of the device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache

from ..footprint.memory_model import MemoryModel
from ..planning.budget import Budget, BudgetRequest, parse_budget
from ..planning.plan import Plan
from ..planning.planner import Planner
from ..planning.sizes import SizeRequest
from ..tasks import TaskRequest, parse_tasks
from .controller import Controller, plan_key

_LEAST_MB = 1e-3  # where the process alone exceeds the limit: no plan fits, the smallest is the answer


class Chooser:
    """Plans for one engine. Safe to use from several threads.

    Args:
        controller: where limits in ms follow what answers take; None for the profile as it is.
        limit_mb: of the process; plans whose sessions cannot fit are lowered.
    """

    def __init__(
        self, planner: Planner, controller: Controller | None, model: MemoryModel, limit_mb: float | None
    ) -> None:
        self.planner = planner
        self.controller = controller
        self._model = model
        self._limit_mb = limit_mb

    def plan(
        self, tasks: TaskRequest, budget: BudgetRequest | Budget | Plan, *, size: SizeRequest, strict: bool
    ) -> Plan:
        """See `Planner.plan`. A `Plan` as the budget is taken as it is."""
        tasks = _reusable(tasks)
        if isinstance(budget, Plan):
            return self.planner.plan(tasks, budget, size=size, strict=strict)
        if self._limit_mb is not None:
            budget = self._lowered(tasks, _parse(budget), self._limit_mb)
        controller = self.controller
        if controller is None or _parse(budget).latency_ms is None:
            return self.planner.plan(tasks, budget, size=size, strict=strict)
        return controller.choose(
            lambda slowdown: self.planner.plan(tasks, budget, size=size, strict=strict, slowdown=slowdown), plan_key
        )

    def _lowered(self, tasks: TaskRequest, budget: Budget, limit_mb: float) -> Budget:
        names = parse_tasks(tasks, self.planner.manifest.task_names)
        known = self.planner.costs.name != "flops"
        room_mb = max(self._model.room_mb(limit_mb, names, with_activations=known), _LEAST_MB)
        asked_mb = budget.memory_mb
        return replace(budget, memory_mb=room_mb if asked_mb is None else min(asked_mb, room_mb))


def _reusable(tasks: TaskRequest) -> TaskRequest:
    """Tasks that can be read twice; a list of names as one text, under which the planner remembers its answer."""
    if isinstance(tasks, (str, Mapping)) or not isinstance(tasks, Iterable):
        return tasks
    names = list(tasks)
    if names and all(isinstance(name, str) and name.strip() and "," not in name for name in names):
        return ",".join(names)
    return names


def _parse(budget: BudgetRequest | Budget) -> Budget:
    return _parse_text(budget) if isinstance(budget, str) else parse_budget(budget)


@lru_cache(maxsize=256)
def _parse_text(text: str) -> Budget:
    return parse_budget(text)
