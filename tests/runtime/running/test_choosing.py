"""Plans under the memory limit of the process, and at the pace of the device."""

from __future__ import annotations

import math
from typing import Any

import pytest

from slimpath.runtime.bundles.bundle import Bundle
from slimpath.runtime.engine import Engine
from slimpath.runtime.errors import BudgetError, InfeasibleBudgetError
from slimpath.runtime.footprint.memory_model import MemoryModel
from slimpath.runtime.planning.costs import PartCost
from slimpath.runtime.planning.planner import Planner
from slimpath.runtime.running.choosing import Chooser
from slimpath.runtime.running.controller import Controller


class Milliseconds:
    """A profile in which every part takes as long as it has thousands of FLOPs."""

    name, key, headroom = "profile", "made up", 1.0

    def encoder(self, graph, *, images: int, rows: int, top_k: int) -> PartCost:
        cost = graph.cost
        return self._cost(images * cost.flops_image + rows * (cost.flops_row + top_k * cost.flops_row_per_expert))

    def head(self, graph, *, rows: int) -> PartCost:
        return self._cost(rows * graph.cost.flops_row)

    def call(self, size_hw, tasks) -> PartCost:
        return self._cost(0)

    def _cost(self, flops: int) -> PartCost:
        return PartCost(flops, flops / 1e3, 0.0, None, None, True)


@pytest.fixture
def bundle(tiny_bundle) -> Bundle:
    return Bundle.open(tiny_bundle)


def chooser(bundle: Bundle, *, limit_mb: float | None = None, controller: Controller | None = None) -> Chooser:
    planner = Planner(bundle.manifest, Milliseconds() if controller else None)  # type: ignore[arg-type]
    return Chooser(planner, controller, MemoryModel(bundle.manifest, 100.0), limit_mb)


def plan(chosen: Chooser, tasks: Any = "depth", budget: Any = None, **arguments: Any):
    return chosen.plan(tasks, budget, **{"size": None, "strict": False, **arguments})


# --- the memory limit ---------------------------------------------------------------------------------------------


def test_plan_whose_sessions_cannot_fit_is_lowered(bundle):
    full = plan(chooser(bundle))
    narrow = plan(chooser(bundle), budget="width=0.5")
    model, wanted_mb = MemoryModel(bundle.manifest, 100.0), (full.memory_mb + narrow.memory_mb) / 2
    between, above = 100.0, 1e3  # the limit that leaves room for what lies between the two
    for _ in range(60):
        middle = (between + above) / 2
        enough = model.room_mb(middle, ["depth"], with_activations=False) > wanted_mb
        between, above = (between, middle) if enough else (middle, above)
    assert plan(chooser(bundle, limit_mb=1e4)).encoder_width == 1.0
    lowered = plan(chooser(bundle, limit_mb=between))
    assert lowered.budget_met and lowered.memory_mb < full.memory_mb
    assert lowered.budget == "full"  # as it was asked for


def test_smaller_of_the_limit_and_the_budget_counts(bundle):
    full, narrow = plan(chooser(bundle)), plan(chooser(bundle), budget="width=0.5")
    between_mb = (full.memory_mb + narrow.memory_mb) / 2
    asked = plan(chooser(bundle, limit_mb=1e4), budget=f"{between_mb}MB")
    assert asked.budget_met and asked.memory_mb <= between_mb


def test_process_that_is_too_large_already_gets_the_smallest_plan(bundle):
    smallest = plan(chooser(bundle, limit_mb=50.0))
    assert not smallest.budget_met and smallest.encoder_width == 0.5
    with pytest.raises(InfeasibleBudgetError):
        plan(chooser(bundle, limit_mb=50.0), strict=True)


def test_plan_given_as_a_budget_is_taken_as_it_is(bundle):
    full = plan(chooser(bundle))
    assert plan(chooser(bundle, limit_mb=50.0), None, full) == full


@pytest.mark.parametrize("limit_mb", [0, -1, math.nan, math.inf, True])
def test_limit_that_is_no_number_of_megabytes_is_refused(bundle, limit_mb):
    with pytest.raises(BudgetError, match="memory_limit_mb must be above 0"):
        Engine.load(bundle, threads=1, memory_limit_mb=limit_mb)


def test_engine_counts_the_library_before_it_plans(bundle, photo):
    with Engine.load(bundle, threads=1, memory_limit_mb=10_000) as engine:
        assert engine.memory().expected_mb > 20
        assert engine(photo(), "depth").plan.encoder_width == 1.0


# --- tasks that can be read once ----------------------------------------------------------------------------------


@pytest.mark.parametrize("limit_mb", [None, 1e4])
def test_list_tuple_and_generator_of_names_are_one_request(bundle, limit_mb):
    chosen = chooser(bundle, limit_mb=limit_mb)
    expected = plan(chosen, "depth=2,edge")
    for tasks in (["depth=2", "edge"], ("depth=2", "edge"), (name for name in ("depth=2", "edge"))):
        assert plan(chosen, tasks) == expected
    assert plan(chosen, {"depth": 2, "edge": 1}) == expected


def test_name_with_a_comma_is_one_name(bundle):
    with pytest.raises(Exception, match="unknown task 'depth,edge'"):
        plan(chooser(bundle), ["depth,edge"])


# --- the pace of the device ---------------------------------------------------------------------------------------


def test_slow_device_gets_narrower_plans_for_the_same_milliseconds(bundle):
    controller = Controller(clock=lambda: 0.0)
    chosen = chooser(bundle, controller=controller)
    full = plan(chosen)
    assert full.latency_ms is not None
    budget = f"{full.latency_ms * 1.05}ms"
    assert plan(chosen, budget=budget).encoder_width == 1.0
    for now_s in range(40):
        controller.observe(full.latency_ms, 2 * full.latency_ms, float(now_s))
    slowed = plan(chosen, budget=budget)
    assert (slowed.encoder_width, slowed.top_k, slowed.decoder_widths) == (0.5, 1, {"depth": 0.5})
    assert plan(chosen).encoder_width == 1.0  # without a limit in ms nothing changes
    assert plan(chosen, budget="1").encoder_width == 1.0
