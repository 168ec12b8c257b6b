from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpath.runtime import planner as planner_module
from slimpath.runtime.bundle import Bundle
from slimpath.runtime.errors import BudgetError, InfeasibleBudgetError, SizeError, TaskError
from slimpath.runtime.manifest import (
    Accuracy,
    Cost,
    EncoderSpec,
    GraphSpec,
    Manifest,
    Preprocessing,
    RouterSpec,
    WeightsSpec,
    check_manifest,
)
from slimpath.runtime.planner import Plan, Planner, quality
from slimpath.runtime.tasks import TaskSpec

SIZE = (32, 32)
SHA = "0" * 64


def graph(kind: str, width: float, task: str | None, cost: Cost) -> GraphSpec:
    return GraphSpec(f"{kind}-{task}-{width}", kind, SIZE, width, task, {}, 1, SHA, 1, 1, cost)  # type: ignore[arg-type]


def make_manifest(
    encoders: dict[float, Cost], heads: dict[str, dict[float, int]], top_k: int, accuracies: tuple[Accuracy, ...] = ()
) -> Manifest:
    graphs = [graph("encoder", width, None, cost) for width, cost in encoders.items()]
    graphs += [graph("head", w, task, Cost(0, flops)) for task, listed in heads.items() for w, flops in listed.items()]
    manifest = Manifest(
        schema_version=1, name="m", family="vit", slimpath_version="0", licence="x",
        tasks=tuple(TaskSpec(task, "depth", 1) for task in heads),
        preprocessing=Preprocessing("stretch", (0, 0, 0), (1, 1, 1)),
        encoder=EncoderSpec(8, 1, 1, 16, (0,) if top_k else (), 9 if top_k else 0, top_k,
                            routers={task: RouterSpec(("r",)) for task in heads} if top_k else {}),
        sizes=(SIZE,), widths=tuple(sorted(encoders)), graphs=tuple(graphs),
        weights=WeightsSpec("w", 100, SHA, SHA), accuracies=accuracies,
    )  # fmt: skip
    check_manifest(manifest)
    return manifest


def configurations(manifest: Manifest, tasks: list[str]) -> Iterator[tuple[int, float, int, tuple[float, ...]]]:
    """Everything there is: (FLOPs, encoder width, top_k, decoder widths), by the manifest's cost formula."""
    encoders = {g.width: g.cost for g in manifest.graphs if g.kind == "encoder"}
    heads = [{g.width: g.cost.flops_row for g in manifest.graphs if g.task == task} for task in tasks]
    rows = len(tasks) if manifest.is_moe else 1
    for width, cost in encoders.items():
        for top_k in range(1, manifest.encoder.top_k + 1) if manifest.is_moe else (0,):
            base = cost.flops_image + rows * cost.flops_row + rows * top_k * cost.flops_row_per_expert
            for chosen in itertools.product(*heads):
                yield base + sum(h[w] for h, w in zip(heads, chosen)), width, top_k, chosen


@st.composite
def manifests(draw) -> Manifest:
    numbers = st.integers(0, 60)
    widths = draw(st.lists(st.sampled_from([0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=3, unique=True).map(sorted))
    encoders = {w: Cost(draw(numbers), draw(numbers), draw(numbers)) for w in widths}
    tasks = ["a", "b", "c"][: draw(st.integers(1, 3))]
    heads = {
        task: {w: draw(numbers) for w in draw(st.lists(st.sampled_from([0.25, 0.5, 1.0]), min_size=1, unique=True))}
        for task in tasks
    }
    manifest = make_manifest(encoders, heads, draw(st.integers(0, 3)))
    if not draw(st.booleans()):
        return manifest
    accuracies = []
    for task in tasks:
        higher, trivial = draw(st.booleans()), draw(st.integers(0, 3))
        for _, width, top_k, (decoder,) in configurations(manifest, [task]):
            if draw(st.integers(0, 9)):  # one in ten is unmeasured
                value = draw(st.integers(0, 20)) / 4
                accuracies.append(
                    Accuracy(task, width, top_k, decoder, "m", higher, value, None, None, trivial, 1, "made up")
                )
    return msgspec.structs.replace(manifest, accuracies=tuple(accuracies))


def brute_force(manifest: Manifest, preferences: dict[str, float], limit: float) -> tuple[str, float] | None:
    """(scored_by, the most worth within the limit), from the definitions, by looking at everything."""
    tasks = list(preferences)
    everything = list(configurations(manifest, tasks))
    total = sum(preferences.values())
    measured = {(a.task, a.encoder_width, a.top_k, a.decoder_width): a for a in manifest.accuracies}
    full_width = max(manifest.widths)
    full_heads = {t: max(g.width for g in manifest.graphs if g.task == t) for t in tasks}
    full = {t: measured.get((t, full_width, manifest.encoder.top_k, full_heads[t])) for t in tasks}
    best = None
    for flops, width, top_k, chosen in everything:
        found = [measured.get((t, width, top_k, w)) for t, w in zip(tasks, chosen)]
        if flops <= limit and None not in found and None not in full.values():
            worth = 0.0
            for task, accuracy in zip(tasks, found):
                reference = full[task]
                assert accuracy is not None and reference is not None
                sign = 1 if reference.higher_is_better else -1
                span = sign * (reference.value - reference.trivial)
                share = sign * (accuracy.value - accuracy.trivial) / span if span > 0 else 0.0
                worth += preferences[task] / total * share
            best = worth if best is None else max(best, worth)
    if best is not None:
        return "accuracy", best
    worths = [
        flops
        + sum((preferences[t] * len(tasks) / total - 1) * head_flops(manifest, t, w) for t, w in zip(tasks, chosen))
        for flops, width, top_k, chosen in everything
        if flops <= limit
    ]
    return ("flops", max(worths)) if worths else None


def head_flops(manifest: Manifest, task: str, width: float) -> int:
    (found,) = (g.cost.flops_row for g in manifest.graphs if g.task == task and g.width == width)
    return found


def worth_of(manifest: Manifest, plan: Plan) -> float:
    total = sum(plan.tasks.values())
    if plan.scored_by == "flops":
        return plan.flops + sum(
            (p * len(plan.tasks) / total - 1) * head_flops(manifest, t, plan.decoder_widths[t])
            for t, p in plan.tasks.items()
        )
    measured = {(a.task, a.encoder_width, a.top_k, a.decoder_width): a for a in manifest.accuracies}
    worth = 0.0
    for task, preference in plan.tasks.items():
        full_head = max(g.width for g in manifest.graphs if g.task == task)
        full = measured[task, max(manifest.widths), manifest.encoder.top_k, full_head]
        accuracy = measured[task, plan.encoder_width, plan.top_k, plan.decoder_widths[task]]
        worth += preference / total * quality(accuracy, full)
    return worth


PREFERENCES = st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=3, max_size=3)


@settings(max_examples=300, deadline=None)
@given(manifests(), PREFERENCES, st.integers(1, 500))
def test_plan_is_the_optimum_of_everything_there_is(manifest, weights, limit):
    names = manifest.task_names
    preferences = dict(zip(names, weights))
    if not any(preferences.values()):
        preferences[names[0]] = 1.0
    plan = Planner(manifest).plan(preferences, f"{limit}FLOPs")
    expected = brute_force(manifest, preferences, limit)
    costs = [flops for flops, *_ in configurations(manifest, list(preferences))]
    assert plan.budget_met == (expected is not None)
    chosen = (plan.flops, plan.encoder_width, plan.top_k, tuple(plan.decoder_widths.values()))
    assert chosen in set(configurations(manifest, list(preferences)))
    if expected is None:
        assert plan.flops == min(costs)
        with pytest.raises(InfeasibleBudgetError, match=rf'smallest feasible budget is "{min(costs)}FLOPs"'):
            Planner(manifest).plan(preferences, f"{limit}FLOPs", strict=True)
        return
    assert plan.flops <= limit
    assert plan.scored_by == expected[0]
    assert worth_of(manifest, plan) == pytest.approx(expected[1], abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(manifests())
def test_more_budget_is_never_worth_less(manifest):
    planner, last = Planner(manifest), None
    for limit in range(1, 600, 23):
        plan = planner.plan(None, f"{limit}FLOPs")
        if last is not None and last.scored_by == plan.scored_by and last.budget_met:
            assert worth_of(manifest, plan) >= worth_of(manifest, last) - 1e-9
        last = plan


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
    accuracy = Accuracy("depth", 1.0, 2, 1.0, "m", True, 5.0, None, None, 0.0, 1, "made up")
    smaller = msgspec.structs.replace(accuracy, encoder_width=0.5, value=4.0)
    manifest = make_manifest(
        {0.5: Cost(100), 1.0: Cost(200)}, {"depth": {0.5: 50, 1.0: 60}}, top_k=2, accuracies=(accuracy, smaller)
    )
    plan = Planner(manifest).plan("depth", "255FLOPs")
    assert (plan.scored_by, plan.encoder_width, plan.accuracies) == ("accuracy", 0.5, {"depth": 4.0})
    unmeasured = Planner(manifest).plan("depth", "155FLOPs")
    assert (unmeasured.scored_by, unmeasured.budget_met, unmeasured.flops) == ("flops", True, 150)


def test_worse_but_dearer_configuration_is_never_chosen():
    accuracy = Accuracy("depth", 1.0, 0, 1.0, "rmse", False, 0.5, None, None, 1.0, 1, "made up")
    better = msgspec.structs.replace(accuracy, encoder_width=0.5, value=0.4)
    manifest = make_manifest({0.5: Cost(100), 1.0: Cost(200)}, {"depth": {1.0: 10}}, 0, (accuracy, better))
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
    monkeypatch.setattr(planner_module, "_merge", lambda _: pytest.fail("built again"))
    planner.plan("depth,edge", 0.5)
    planner.plan({"depth": 1, "edge": 1}, "300FLOPs")


def test_remembered_look_ups_are_bounded(planner):
    for number in range(1, 200):
        planner.plan({"depth": number, "edge": 1}, 0.9)
    assert len(planner._frontiers) <= 2 * 64


def test_list_beyond_the_bound_is_thinned_and_stays_within_budget(monkeypatch):
    monkeypatch.setattr(planner_module, "MAX_POINTS", 50)
    heads = {f"t{i}": {0.25: 3**i, 0.5: 2 * 3**i, 1.0: 3 * 3**i} for i in range(8)}
    manifest = make_manifest({1.0: Cost(10)}, heads, top_k=0)
    planner = Planner(manifest)
    smallest, full = planner.plan(None, "1FLOPs").flops, planner.plan(None).flops
    assert smallest == 10 + sum(3**i for i in range(8))
    for limit in range(smallest, full, 777):
        plan = planner.plan(None, f"{limit}FLOPs")
        assert plan.budget_met and plan.flops <= limit
        assert plan.flops >= limit - (full - smallest) / 10
