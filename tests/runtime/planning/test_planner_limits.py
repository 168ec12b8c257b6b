"""Limits in every unit, floors, sizes, precisions, and the errors that say how to go on."""

from __future__ import annotations

import json

import pytest

from slimpath.runtime.bundles.manifest_parts import Cost
from slimpath.runtime.errors import BudgetError, InfeasibleBudgetError, TaskError
from slimpath.runtime.planning.planner import Planner
from slimpath.tests.runtime.plan_cases import LARGE, SIZE, MadeUpCosts, accuracy, graph, make_manifest

ENCODERS = {0.5: Cost(100), 1.0: Cost(200)}
HEADS = {"depth": {0.5: 10, 1.0: 80}, "edge": {0.5: 10, 1.0: 80}}


def measured(task: str, values: dict[tuple[float, float], float], **more: object) -> list:
    return [accuracy(task, width, 0, decoder, value, **more) for (width, decoder), value in values.items()]


DEPTH = {(0.5, 0.5): 0.6, (0.5, 1.0): 0.8, (1.0, 0.5): 0.9, (1.0, 1.0): 1.0}


@pytest.fixture
def profiled() -> Planner:
    return Planner(make_manifest(ENCODERS, HEADS, top_k=0), MadeUpCosts(3, headroom=1.5))


@pytest.mark.parametrize("budget", ["20ms", "50mJ", "0.5,20ms"])
def test_limit_that_needs_a_profile_names_calibrate(budget):
    with pytest.raises(BudgetError, match=r"needs a profile of this device; measure one with \"slimpath calibrate"):
        Planner(make_manifest(ENCODERS, HEADS, top_k=0)).plan("depth", budget)


def test_energy_that_nobody_measured_is_unknown_and_cannot_be_limited():
    planner = Planner(make_manifest(ENCODERS, HEADS, top_k=0), MadeUpCosts(1, knows_energy=False))
    assert planner.plan("depth").energy_mj is None
    with pytest.raises(BudgetError, match="50mJ cannot be kept: the profile of this device does not know the energy"):
        planner.plan("depth", "50mJ")


def test_memory_needs_no_profile():
    more = [graph(0.25, "edge", Cost(0, 1), weight_bytes=1)]
    heads = {"depth": HEADS["depth"], "edge": {0.5: 10}}
    manifest = make_manifest(ENCODERS, heads, top_k=0, more=more)
    planner = Planner(manifest)
    assert planner.plan("edge").memory_mb == pytest.approx(2e-6)  # two graphs of one byte
    assert planner.plan("edge", "1MB").budget_met
    assert planner.plan("edge", "0.001kB").unmet == ("1e-06MB",)


def test_limit_in_time_is_held_against_the_p95(profiled):
    plan = profiled.plan("depth,edge")
    assert plan.p95_ms == pytest.approx(1.5 * plan.latency_ms)
    for limit_ms in range(1, 60):
        chosen = profiled.plan("depth,edge", f"{limit_ms}ms")
        assert chosen.p95_ms <= limit_ms or not chosen.budget_met


def test_slowdown_is_not_in_the_prediction(profiled):
    """A controller compares what a call took with what an undisturbed device would have taken."""
    calm, slow = (profiled.plan("depth,edge", "45ms", slowdown=slowdown) for slowdown in (1.0, 1.0001))
    assert calm.latency_ms == slow.latency_ms


def test_parts_add_up_to_the_plan(profiled):
    plan = profiled.plan("depth,edge", 0.9)
    costs = [cost for _, cost in plan.parts]
    assert [name for name, _ in plan.parts] == ["call", "encoder", "depth", "edge"]
    assert plan.latency_ms == sum(cost.latency_ms for cost in costs)
    assert plan.memory_mb == sum(c.weights_mb for c in costs) + max(c.activations_mb or 0 for c in costs)
    assert (plan.costed_by, Planner(profiled.manifest).plan("depth").costed_by) == ("profile", "flops")


def test_unmet_names_the_limit_that_is_not_kept_and_no_other(profiled):
    enough = profiled.plan("depth").memory_mb + 100
    plan = profiled.plan("depth", f"1FLOPs,{enough}MB")
    assert (plan.budget_met, plan.unmet) == (False, ("1FLOPs",))
    both = profiled.plan("depth", "1FLOPs,0.001MB")
    assert both.unmet == ("1FLOPs", "0.001MB")


def test_strict_error_keeps_the_limits_that_can_be_kept(profiled):
    with pytest.raises(InfeasibleBudgetError, match=r'1FLOPs cannot be kept with the rest; .* is "\d+FLOPs,500MB"'):
        profiled.plan("depth", "1FLOPs,500MB", strict=True)
    with pytest.raises(InfeasibleBudgetError, match=r'smallest feasible budget is "[\d.]+ms,width=1"'):
        profiled.plan("depth", "0.001ms,width=1", strict=True)


@pytest.mark.parametrize("unit", ["ms", "MB", "mJ", "FLOPs"])
def test_strict_error_answers_in_the_asked_unit(profiled, unit):
    with pytest.raises(InfeasibleBudgetError, match=rf'the smallest feasible budget is "[\d.]+{unit}"'):
        profiled.plan("depth,edge", f"{'1' if unit == 'FLOPs' else '0.001'}{unit}", strict=True)


def test_infeasible_share_is_answered_as_a_share():
    planner = Planner(make_manifest(ENCODERS, HEADS, top_k=0))
    with pytest.raises(InfeasibleBudgetError, match=r'the smallest feasible budget is "0.3929"'):  # 110 of 280
        planner.plan("depth", 0.1, strict=True)
    assert planner.plan("depth", 0.3929, strict=True).flops == 110


def test_min_is_the_cheapest_and_holds_floors():
    planner = Planner(make_manifest(ENCODERS, {"depth": HEADS["depth"]}, 0, measured("depth", DEPTH)))
    assert planner.plan("depth", "min").flops == 110
    good = planner.plan("depth>=0.8", "min")
    assert (good.encoder_width, good.decoder_widths, good.flops) == (0.5, {"depth": 1.0}, 180)
    assert (good.budget_met, good.floors) == (True, {"depth": 0.8})


def test_min_is_in_milliseconds_where_they_are_known(profiled):
    cheapest = min(profiled.plan("depth", f"{ms}ms").latency_ms for ms in range(1, 80))
    assert profiled.plan("depth", "min").latency_ms == cheapest


def test_floor_forbids_what_measured_below_it():
    planner = Planner(make_manifest(ENCODERS, {"depth": HEADS["depth"]}, 0, measured("depth", DEPTH)))
    assert planner.plan("depth", "210FLOPs").flops == 210
    assert planner.plan("depth>=0.95", "280FLOPs").flops == 280
    late = planner.plan("depth>=0.95", "210FLOPs")
    assert (late.budget_met, late.flops, late.unmet) == (False, 280, ("210FLOPs",))
    with pytest.raises(InfeasibleBudgetError, match=r'depth>=0.95: 210FLOPs cannot be kept; .* is "280FLOPs"'):
        planner.plan("depth>=0.95", "210FLOPs", strict=True)


def test_floor_without_a_budget_leaves_full_alone():
    planner = Planner(make_manifest(ENCODERS, {"depth": HEADS["depth"]}, 0, measured("depth", DEPTH)))
    assert planner.plan("depth>=1").flops == 280


def test_floor_that_the_pins_forbid_is_given_up_and_said():
    planner = Planner(make_manifest(ENCODERS, {"depth": HEADS["depth"]}, 0, measured("depth", DEPTH)))
    plan = planner.plan("depth>=0.9", "width=0.5")
    assert (plan.budget_met, plan.unmet, plan.encoder_width) == (False, ("depth>=0.9",), 0.5)
    both = planner.plan("depth>=0.9", "width=0.5,1FLOPs")
    assert both.unmet == ("1FLOPs", "depth>=0.9")
    with pytest.raises(InfeasibleBudgetError, match=r"width=0.5 keeps depth>=0.9 at once; .*: depth 0.60;"):
        planner.plan("depth>=0.9", "width=0.5", strict=True)


def test_min_stays_cheap_where_the_pins_forbid_the_floor():
    planner = Planner(make_manifest(ENCODERS, {"depth": HEADS["depth"]}, 0, measured("depth", DEPTH)))
    plan = planner.plan("depth>=0.9", "min,width=0.5,decoder_width=0.5")
    assert (plan.flops, plan.unmet) == (110, ("depth>=0.9",))
    assert planner.plan("depth>=0.9", "min,decoder_width=0.5").flops == 210


def test_floor_for_an_unmeasured_task_is_refused():
    planner = Planner(make_manifest(ENCODERS, HEADS, 0, measured("depth", DEPTH)))
    with pytest.raises(TaskError, match="the floor of task 'edge' cannot be held: its full accuracy is unmeasured"):
        planner.plan("depth,edge>=0.9")


def test_floor_of_one_task_holds_where_another_is_unmeasured():
    planner = Planner(make_manifest(ENCODERS, HEADS, 0, measured("depth", DEPTH)))
    plan = planner.plan("depth>=0.9,edge", "min")
    assert (plan.scored_by, plan.encoder_width, plan.decoder_widths) == ("flops", 1.0, {"depth": 0.5, "edge": 0.5})


def large(values: dict[tuple[float, float], float] | None) -> tuple[Planner, list]:
    more = [graph(w, None, Cost(4 * c.flops_image), size_hw=LARGE) for w, c in ENCODERS.items()]
    more += [graph(w, "depth", Cost(0, 4 * flops), size_hw=LARGE) for w, flops in HEADS["depth"].items()]
    points = measured("depth", DEPTH) + ([] if values is None else measured("depth", values, size_hw=LARGE))
    heads = {"depth": HEADS["depth"]}
    return Planner(make_manifest(ENCODERS, heads, 0, points, more, sizes=(SIZE, LARGE))), points


def test_larger_size_is_chosen_where_it_measured_better_and_fits():
    planner, _ = large({(0.5, 0.5): 0.95, (1.0, 1.0): 1.3})
    assert planner.plan("depth", "280FLOPs").size_hw == SIZE
    better = planner.plan("depth", "2000FLOPs")
    assert (better.size_hw, better.accuracies, better.share) == (LARGE, {"depth": 1.3}, 4.0)
    assert planner.plan("depth", "2000FLOPs", size=32).size_hw == SIZE
    assert planner.plan("depth").size_hw == SIZE  # full is the first size's
    assert planner.plan(None, better) == better
    near = planner.neighbours(better)
    assert near.dearer is None and near.cheaper is not None and near.cheaper.accuracies != {"depth": 1.3}


def test_unmeasured_size_is_never_chosen_but_may_be_asked_for():
    planner, _ = large(None)
    assert {planner.plan("depth", f"{flops}FLOPs").size_hw for flops in range(100, 2000, 99)} == {SIZE}
    asked = planner.plan("depth", 0.5, size=64)
    assert (asked.size_hw, asked.accuracies, asked.scored_by) == (LARGE, {"depth": None}, "flops")
    near = planner.neighbours(asked)
    assert near.dearer is not None and near.dearer.size_hw == LARGE


def with_int8(int8: dict[tuple[float, float], float]) -> Planner:
    more = [graph(w, None, cost, precision="int8", weight_bytes=0) for w, cost in ENCODERS.items()]
    points = measured("depth", DEPTH) + measured("depth", int8, precision="int8")
    return Planner(make_manifest(ENCODERS, {"depth": HEADS["depth"]}, 0, points, more))


def test_lower_precision_is_chosen_where_it_measured_and_the_limit_needs_it():
    planner = with_int8({(1.0, 1.0): 0.97, (0.5, 1.0): 0.7})
    assert planner.plan("depth", "0.000002MB").precision == "fp32"
    tight = planner.plan("depth", "0.000001MB")  # only the int8 encoder has no byte of weights here
    assert (tight.precision, tight.accuracies, tight.budget_met) == ("int8", {"depth": 0.97}, True)
    assert "int8" in str(tight)


def test_unmeasured_precision_is_never_chosen_but_may_be_pinned():
    planner = with_int8({})
    assert planner.plan("depth", "0.000001MB").precision == "fp32"
    pinned = planner.plan("depth", "precision=int8")
    assert (pinned.precision, pinned.accuracies, pinned.scored_by) == ("int8", {"depth": None}, "flops")
    assert planner.plan(None, pinned) == pinned
    with pytest.raises(BudgetError, match="no graphs in bf16 that can be used here; there are fp32, int8"):
        planner.plan("depth", "precision=bf16")


def test_precision_that_the_backend_cannot_run_is_not_used():
    manifest = with_int8({(1.0, 1.0): 0.97}).manifest
    planner = Planner(manifest, precisions=("fp32",))
    assert planner.plan("depth", "0.000001MB").precision == "fp32"
    with pytest.raises(BudgetError, match="there are fp32"):
        planner.plan("depth", "precision=int8")


def test_pinned_width_that_a_precision_lacks_is_refused():
    more = [graph(1.0, None, ENCODERS[1.0], precision="int8")]
    planner = Planner(make_manifest(ENCODERS, HEADS, 0, more=more))
    with pytest.raises(BudgetError, match=r"no int8 encoder of width 0.5; there are 1"):
        planner.plan("depth", "precision=int8,width=0.5")


def test_other_costs_are_planned_with_at_once(profiled):
    before = profiled.plan("depth,edge", "30ms")
    profiled.use(MadeUpCosts(4))
    after = profiled.plan("depth,edge", "30ms")
    assert dict(before.parts) != dict(after.parts)
    assert after == Planner(profiled.manifest, MadeUpCosts(4)).plan("depth,edge", "30ms")


def test_each_price_is_asked_for_once(profiled):
    for tasks in ("depth", {"depth": 2}, "depth,edge", {"depth": 1, "edge": 3}):
        for budget in (0.9, "40ms", "40ms,60MB", "min"):
            profiled.plan(tasks, budget)
    asked = profiled.costs.asked
    assert len(asked) == len(set(asked)) == 2 + 4 + 2  # encoders, heads, calls


def test_plan_with_costs_is_plain_json(profiled):
    document = json.loads(json.dumps(profiled.plan("depth", "1FLOPs").to_json()))
    assert set(document["parts"]) == {"call", "encoder", "depth"} and document["unmet"] == ["1FLOPs"]
    assert document["parts"]["encoder"]["measured"] is True


def test_neighbours_step_along_the_first_limit_and_hold_the_others(profiled):
    plan = profiled.plan("depth,edge", "40ms,60MB")
    near = profiled.neighbours(plan)
    assert near.cheaper is None or near.cheaper.latency_ms < plan.latency_ms
    assert near.dearer is None or (near.dearer.latency_ms > plan.latency_ms and near.dearer.memory_mb <= 60)
    for other in (near.cheaper, near.dearer):
        if other is not None:
            again = profiled.plan("depth,edge", f"{other.budget},60MB")
            assert (again.latency_ms, again.decoder_widths) == (other.latency_ms, other.decoder_widths)


def test_neighbours_keep_pins():
    planner = Planner(make_manifest(ENCODERS, HEADS, top_k=0))
    near = planner.neighbours(planner.plan("depth", "decoder_width=0.5"))
    assert near.dearer is None and near.cheaper is not None
    assert (near.cheaper.encoder_width, near.cheaper.decoder_widths) == (0.5, {"depth": 0.5})
