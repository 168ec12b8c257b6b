"""What requests get: sizes, pins, preferences, floors, limits in every unit, and errors that say how to go on.

That plans are optimal is test_planner_optimum.py.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from slimpath.runtime.bundles.bundle import Bundle
from slimpath.runtime.bundles.manifest_parts import Cost
from slimpath.runtime.errors import BudgetError, InfeasibleBudgetError, SizeError, TaskError
from slimpath.runtime.planning import pareto
from slimpath.runtime.planning import search as search_module
from slimpath.runtime.planning.costs import FlopsCosts
from slimpath.runtime.planning.planner import Planner
from slimpath.tests.runtime.plan_cases import SIZE, accuracy, make_manifest


@pytest.fixture
def planner() -> Planner:
    encoders = {0.5: Cost(100, 10, 5), 1.0: Cost(200, 20, 10)}
    heads = {"depth": {0.25: 10, 1.0: 80}, "edge": {0.25: 10, 1.0: 80}}
    return Planner(make_manifest(encoders, heads, top_k=2))


def test_no_budget_is_the_full_configuration(planner):
    plan = planner.plan("depth")
    assert (plan.encoder_width, plan.top_k, plan.decoder_widths) == (1.0, 2, {"depth": 1.0})
    assert (plan.flops, plan.share, plan.budget_met) == (200 + 20 + 2 * 10 + 80, 1.0, True)
    assert (plan.scored_by, plan.accuracies, plan.budget) == ("flops", {"depth": None}, "full")


def test_rows_are_counted_per_task_in_a_mixture_of_experts(planner):
    assert planner.plan("depth,edge").flops == 200 + 2 * 20 + 2 * 2 * 10 + 2 * 80


def test_tasks_share_one_row_in_a_dense_model():
    dense = Planner(make_manifest({1.0: Cost(200, 20)}, {"depth": {1.0: 80}, "edge": {1.0: 80}}, top_k=0))
    plan = dense.plan("depth,edge")
    assert (plan.flops, plan.top_k) == (200 + 20 + 2 * 80, 0)
    with pytest.raises(BudgetError, match="no mixture-of-experts blocks"):
        dense.plan("depth", "top_k=1")


def test_share_is_of_the_full_configuration_of_the_same_tasks(planner):
    for tasks in ("depth", "depth,edge"):
        full = planner.plan(tasks).flops
        plan = planner.plan(tasks, 0.7)
        assert plan.flops <= 0.7 * full and plan.share == plan.flops / full


def test_preferred_task_gets_the_larger_decoder(planner):
    limit = 200 + 40 + 40 + 10 + 80
    plan = planner.plan("depth=3,edge", f"{limit}FLOPs")
    assert plan.decoder_widths == {"depth": 1.0, "edge": 0.25}
    assert planner.plan("depth,edge=3", f"{limit}FLOPs").decoder_widths == {"depth": 0.25, "edge": 1.0}


def test_width_pins_encoder_and_decoders(planner):
    plan = planner.plan("depth", "width=1,top_k=1")
    assert (plan.encoder_width, plan.top_k, plan.decoder_widths) == (1.0, 1, {"depth": 1.0})
    # 0.5 was merged away for decoders: the next wider one that is listed keeps at least as many units.
    assert planner.plan("depth", "width=0.5").decoder_widths == {"depth": 1.0}
    assert planner.plan("depth", "width=0.5,decoder_width=0.25").decoder_widths == {"depth": 0.25}


def test_pins_and_limits_hold_together(planner):
    plan = planner.plan("depth,edge", "0.5,top_k=2")
    assert plan.top_k == 2 and plan.share <= 0.5


def test_unknown_width_lists_the_known_ones(planner):
    with pytest.raises(BudgetError, match=r"unknown width 0.3; this bundle has 0.5, 1"):
        planner.plan("depth", "width=0.3")
    with pytest.raises(BudgetError, match=r"unknown decoder_width 0.5; this bundle has 0.25, 1"):
        planner.plan("depth", "decoder_width=0.5")


def test_top_k_above_the_trained_one_is_refused(planner):
    with pytest.raises(BudgetError, match="top_k must be from 1 to 2, got 3"):
        planner.plan("depth", "top_k=3")


def test_infeasible_budget_gives_the_smallest_plan_or_an_error_if_strict(planner):
    plan = planner.plan("depth", "10FLOPs")
    assert (plan.budget_met, plan.flops) == (False, 100 + 10 + 5 + 10)
    with pytest.raises(InfeasibleBudgetError, match='the smallest feasible budget is "125FLOPs"'):
        planner.plan("depth", "10FLOPs", strict=True)
    assert planner.plan("depth", "125FLOPs", strict=True) == planner.plan("depth", "125FLOPs")


@pytest.mark.parametrize("size", [SIZE, [32, 32], 32, "32", "32x32", "32X32", None])
def test_size_is_read_in_every_form(planner, size):
    assert planner.plan("depth", size=size).size_hw == SIZE


@pytest.mark.parametrize("size", [64, "32x64", (32,) * 3, "big", "", object(), 3.5, (None, 1)])
def test_unknown_size_lists_the_known_ones(planner, size):
    with pytest.raises(SizeError, match=r"no graphs for size .*this bundle has \(height x width\) 32x32"):
        planner.plan("depth", size=size)


def test_partly_measured_manifest_plans_by_what_was_measured():
    measured = (accuracy("depth", 1.0, 2, 1.0, 5.0), accuracy("depth", 0.5, 2, 1.0, 4.0))
    manifest = make_manifest({0.5: Cost(100), 1.0: Cost(200)}, {"depth": {0.5: 50, 1.0: 60}}, 2, measured)
    plan = Planner(manifest).plan("depth", "255FLOPs")
    assert (plan.scored_by, plan.encoder_width, plan.accuracies) == ("accuracy", 0.5, {"depth": 4.0})
    unmeasured = Planner(manifest).plan("depth", "155FLOPs")
    assert (unmeasured.scored_by, unmeasured.budget_met, unmeasured.flops) == ("flops", True, 150)


def test_worse_but_dearer_configuration_is_never_chosen():
    measured = [
        accuracy("depth", width, 0, 1.0, value, higher_is_better=False, trivial=1.0)
        for width, value in ((1.0, 0.5), (0.5, 0.4))
    ]
    manifest = make_manifest({0.5: Cost(100), 1.0: Cost(200)}, {"depth": {1.0: 10}}, 0, measured)
    assert Planner(manifest).plan("depth", 1.0).encoder_width == 0.5
    assert Planner(manifest).plan("depth").encoder_width == 1.0  # no budget: full, as asked


def test_curve_runs_from_the_cheapest_to_the_fullest(planner):
    plans = planner.curve("depth,edge", points=5)
    costs = [plan.flops for plan in plans]
    assert costs == sorted(set(costs)) and 2 <= len(plans) <= 5
    assert plans[0] == planner.plan("depth,edge", f"{costs[0]}FLOPs") and plans[-1].share == 1.0
    assert {plan.top_k for plan in planner.curve("depth", "top_k=1")} == {1}


def test_plan_as_a_budget_is_run_as_it_is(planner):
    plan = planner.plan("depth,edge", 0.8)
    assert planner.plan(None, plan) == plan
    fewer = planner.plan("edge", plan)
    assert fewer.decoder_widths == {"edge": plan.decoder_widths["edge"]} and fewer.flops < plan.flops
    with pytest.raises(TaskError, match="the plan is not for edge"):
        planner.plan("depth,edge", planner.plan("depth"))


def test_plan_of_another_bundle_is_refused(planner):
    other = Planner(make_manifest({0.75: Cost(1)}, {"depth": {0.75: 1}}, top_k=0))
    with pytest.raises(BudgetError, match=r"the plan's encoder \(width 0.75, top_k 0\) is not in this bundle"):
        planner.plan(None, other.plan("depth"))


def test_plan_is_plain_json(tiny_bundle: Path):
    plan = Planner(Bundle.open(tiny_bundle).manifest).plan("depth=2,scene", 0.99)
    document = json.loads(json.dumps(plan.to_json()))
    assert document["size_hw"] == [32, 48] and document["tasks"] == {"depth": 2.0, "scene": 1.0}
    assert document["scored_by"] == "accuracy" and set(document["accuracies"]) == {"depth", "scene"}
    assert "GFLOPs" in str(plan) and "depth" in str(plan)


def test_second_look_up_builds_nothing(planner, monkeypatch):
    planner.plan("depth,edge", 0.9)
    monkeypatch.setattr(search_module, "build_frontier", lambda *_: pytest.fail("built again"))
    planner.plan("depth,edge", 0.5)
    planner.plan({"depth": 1, "edge": 1}, "300FLOPs")


def test_same_request_gets_the_same_plan_object(planner):
    assert planner.plan("depth,edge", 0.9) is planner.plan("depth,edge", 0.9)
    assert planner.plan(None) is planner.plan(None)


def test_true_is_no_budget_even_after_1_was_one(planner):
    assert planner.plan("depth", 1).share == 1.0
    with pytest.raises(BudgetError, match="must be a number or a text, got bool"):
        planner.plan("depth", True)


def test_tasks_from_a_generator_are_read_each_time(planner):
    names = (name for name in ["depth", "edge"])
    assert list(planner.plan(names, 0.9).tasks) == ["depth", "edge"]
    with pytest.raises(TaskError, match="no task was requested"):
        planner.plan(names, 0.9)


def test_remembered_look_ups_are_bounded(planner):
    for number in range(1, 200):
        planner.plan({"depth": number, "edge": 1}, 0.9)
        planner.plan("depth", f"{1000 + number}FLOPs")
    for number in range(2000):
        planner.plan("depth", f"{1000 + number}FLOPs")
    memory = planner._memory
    assert len(memory.searches) <= 64 and len(memory.answers) <= 1024
    (search,) = (s for s in memory.searches.values() if list(s.choice.preferences) == ["depth"])
    assert len(search.frontier(("flops",), "flops").plans) <= 512


def test_planner_is_safe_to_use_from_several_threads():
    planner = Planner(make_manifest({0.5: Cost(100), 1.0: Cost(200)}, {"a": {1.0: 9}, "b": {0.5: 2, 1.0: 9}}, 0))
    expected = {n: planner.plan({"a": n, "b": 1}, f"{100 + n}FLOPs").flops for n in range(1, 60)}
    planner.use(FlopsCosts())
    wrong: list[int] = []

    def ask() -> None:
        for number, flops in expected.items():
            if planner.plan({"a": number, "b": 1}, f"{100 + number}FLOPs").flops != flops:
                wrong.append(number)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_list_beyond_the_bound_is_thinned_and_stays_within_budget(monkeypatch):
    monkeypatch.setattr(pareto, "MAX_POINTS", 50)
    monkeypatch.setattr(pareto, "ENOUGH", 100)
    heads = {f"t{i}": {0.25: 3**i, 0.5: 2 * 3**i, 1.0: 3 * 3**i} for i in range(8)}
    manifest = make_manifest({1.0: Cost(10)}, heads, top_k=0)
    planner = Planner(manifest)
    smallest, full = planner.plan(None, "1FLOPs").flops, planner.plan(None).flops
    assert smallest == 10 + sum(3**i for i in range(8))
    for limit in range(smallest, full, 777):
        plan = planner.plan(None, f"{limit}FLOPs")
        assert plan.budget_met and plan.flops <= limit
        assert plan.flops >= limit - (full - smallest) / 10
