"""Loading ahead of the first request, so that none of them waits for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..bundles.graph_spec import GraphSpec
from ..planning.budget import Budget, BudgetRequest
from ..planning.plan import Plan
from ..request import Request
from ..tasks import TaskRequest, parse_tasks
from .execution import graphs_of

if TYPE_CHECKING:
    from ..engine import Engine
    from .views import View

Progress = Callable[[str, int, int], None]  # what was done, steps done, steps in all


def warm(engine: Engine, view: View, tasks: TaskRequest, budgets: Iterable[BudgetRequest | Budget | Plan] | None,
         progress: Progress | None) -> list[Plan]:  # fmt: skip
    """See `Engine.warm`. All of it on one view, whatever packs come and go meanwhile."""
    if tasks is not None and not isinstance(tasks, (str, Mapping)):
        tasks = list(tasks)  # asked for once per plan
    if budgets is None:
        plans, rest = _every_width(view, list(parse_tasks(tasks, view.bundle.manifest.task_names)))
    else:
        plans, rest = [view.chooser.plan(tasks, budget, size=None, strict=False) for budget in budgets], []
    final = budgets is not None or engine.sessions.starts_elsewhere
    total, done = len(plans) + len(rest), 0
    ready: list[Plan] = []
    for plan in plans:
        if _load(engine, graphs_of(view.bundle, plan), final=final):
            view.answerer.rehearse(grey_request(plan))
            ready.append(plan)
        done += 1
        if progress is not None:
            progress(f"{plan.size_hw[0]}x{plan.size_hw[1]}, encoder {plan.encoder_width:g}", done, total)
    for graph in rest:
        _load(engine, [graph], final=final)
        done += 1
        if progress is not None:
            progress(graph.file, done, total)
    return ready


def _load(engine: Engine, graphs: Iterable[GraphSpec], *, final: bool) -> bool:
    """Load graphs as long as no other has to make room; False if one does not fit."""
    for graph in graphs:
        if not engine.sessions.fits(graph, final=final):
            return False
        engine.sessions.load(graph, final=final)
    return True


def _every_width(view: View, names: list[str]) -> tuple[list[Plan], list[GraphSpec]]:
    """A plan for every encoder that the memory limit allows, widest first, and the heads that none of these runs."""
    manifest = view.bundle.manifest
    usable = [graph for graph in manifest.graphs if graph.precision in view.planner.precisions]
    encoders = [graph for graph in usable if graph.kind == "encoder" and view.planner.top_ks(graph.width)]
    plans = [
        view.chooser.plan(names, Budget(width=graph.width, precision=graph.precision), size=graph.size_hw, strict=False)
        for graph in sorted(encoders, key=lambda graph: -graph.width)
    ]
    plans = [plan for plan in plans if plan.budget_met]
    run = {graph.file for plan in plans for graph in graphs_of(view.bundle, plan)}
    return plans, [graph for graph in usable if graph.task in names and graph.file not in run]


def grey_request(plan: Plan) -> Request:
    """A request that runs a plan on a picture of its own size."""
    return Request(np.full((*plan.size_hw, 3), 128, np.uint8), None, plan)
