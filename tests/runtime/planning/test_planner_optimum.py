"""The planner against looking at everything: any manifest, any prices, several limits and floors at once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from unittest import mock

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpath.runtime.bundles.accuracy import Accuracy
from slimpath.runtime.bundles.manifest import Manifest
from slimpath.runtime.bundles.manifest_parts import Cost
from slimpath.runtime.errors import InfeasibleBudgetError
from slimpath.runtime.planning import pareto
from slimpath.runtime.planning.plan import Plan
from slimpath.runtime.planning.planner import Planner
from slimpath.runtime.planning.worth import TIE_BREAK
from slimpath.runtime.tasks import TaskChoice
from slimpath.tests.runtime.plan_cases import (
    LARGE,
    SIZE,
    Configuration,
    MadeUpCosts,
    everything,
    graph,
    make_manifest,
)

UNITS = {"flops": "FLOPs", "latency_ms": "ms", "memory_mb": "MB", "energy_mj": "mJ"}


@dataclass
class Problem:
    manifest: Manifest
    costs: MadeUpCosts
    choice: TaskChoice
    limits: dict[str, int]  # by axis
    share: float | None

    @cached_property
    def measured(self) -> Measured:
        return Measured(self.manifest)

    @cached_property
    def every(self) -> list[Configuration]:
        return list(everything(self.manifest, self.costs, self.manifest.task_names))

    @cached_property
    def full_flops(self) -> float:
        wanted = {task: self.measured.full_point(task) for task in self.manifest.task_names}
        return next(
            one.costs["flops"]
            for one in self.every
            if all(
                point == (task, one.size_hw, one.precision, one.width, one.top_k, decoder)
                for (task, point), decoder in zip(wanted.items(), one.decoders)
            )
        )

    @property
    def budget(self) -> str:
        texts = [f"{most}{UNITS[axis]}" for axis, most in self.limits.items()]
        return ",".join(texts + ([f"{self.share:g}"] if self.share else []))

    @property
    def tasks(self) -> dict[str, str]:
        floors = {task: f">={floor}" for task, floor in self.choice.floors.items()}
        return {task: f"{weight}{floors.get(task, '')}" for task, weight in self.choice.preferences.items()}


@st.composite
def manifests(draw) -> Manifest:
    numbers = st.integers(0, 60)
    widths = draw(st.lists(st.sampled_from([0.25, 0.5, 1.0]), min_size=1, max_size=2, unique=True).map(sorted))
    # At least 10 FLOPs: a share of a model without any would be a limit of 0, which nothing exceeds by a factor.
    encoders = {w: Cost(draw(st.integers(10, 60)), draw(numbers), draw(numbers)) for w in widths}
    tasks = ["a", "b", "c"][: draw(st.integers(1, 3))]
    heads = {
        task: {w: draw(numbers) for w in draw(st.lists(st.sampled_from([0.25, 0.5, 1.0]), min_size=1, unique=True))}
        for task in tasks
    }
    top_k = draw(st.integers(0, 2))
    sizes = (SIZE, LARGE) if draw(st.booleans()) else (SIZE,)
    more = []
    if len(sizes) > 1:
        more += [graph(w, None, Cost(draw(numbers)), size_hw=LARGE) for w in widths]
        more += [graph(w, t, Cost(0, draw(numbers)), size_hw=LARGE) for t, listed in heads.items() for w in listed]
    if draw(st.booleans()):
        more += [graph(w, None, encoders[w], precision="int8") for w in widths if draw(st.booleans())]
        more += [graph(w, "a", Cost(0, heads["a"][w]), precision="int8") for w in heads["a"] if draw(st.booleans())]
    manifest = make_manifest(encoders, heads, top_k, more=more, sizes=sizes)
    return msgspec.structs.replace(manifest, accuracies=draw(accuracies(manifest)))


@st.composite
def accuracies(draw, manifest: Manifest) -> tuple[Accuracy, ...]:
    found = []
    if draw(st.integers(0, 3)) == 0:
        return ()
    for task in manifest.task_names:
        higher, trivial = draw(st.booleans()), draw(st.integers(0, 3))
        for one in everything(manifest, MadeUpCosts(0), [task]):
            if draw(st.integers(0, 9)):  # one in ten is unmeasured
                value = draw(st.integers(0, 12)) / 4
                low, high = draw(st.sampled_from([(None, None), (value, value), (value - 0.5, value + 0.6)]))
                size_hw = None if one.size_hw == SIZE and draw(st.booleans()) else one.size_hw
                found.append(
                    Accuracy(task, one.width, one.top_k, one.decoders[0], "m", higher, value, low, high, trivial, 1,
                             "made up", one.precision, size_hw)
                )  # fmt: skip
    return tuple(found)


@st.composite
def problems(draw) -> Problem:
    manifest = draw(manifests())
    names = manifest.task_names
    weights = draw(st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=len(names), max_size=len(names)))
    if not any(weights):
        weights[0] = 1.0
    measured = Measured(manifest)
    floors = {t: draw(st.sampled_from([0.2, 0.7, 1.0])) for t in names if draw(st.booleans()) and measured.full(t)}
    limits = {
        axis: draw(st.integers(1, most))
        for axis, most in (("flops", 400), ("latency_ms", 60), ("memory_mb", 80), ("energy_mj", 45))
        if draw(st.booleans())
    }
    share = draw(st.sampled_from([None, 0.3, 0.7])) if limits else draw(st.sampled_from([0.3, 0.5, 0.9]))
    costs = MadeUpCosts(draw(st.integers(0, 99)), headroom=draw(st.sampled_from([1.0, 1.25])))
    return Problem(manifest, costs, TaskChoice(dict(zip(names, weights)), floors), limits, share)


class Measured:
    """Accuracies and qualities by the definitions of docs/planner.md."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._points = {
            (a.task, a.size_hw or SIZE, a.precision, a.encoder_width, a.top_k, a.decoder_width): a
            for a in manifest.accuracies
        }
        self._credited = {id(a): self._credit(key, a) for key, a in self._points.items()}

    def full_point(self, task: str) -> tuple:
        decoder = max(g.width for g in self._manifest.graphs if g.task == task)
        return (task, SIZE, "fp32", max(self._manifest.widths), self._manifest.encoder.top_k, decoder)

    def full(self, task: str) -> Accuracy | None:
        return self._points.get(self.full_point(task))

    def at(self, task: str, one: Configuration, decoder: float) -> Accuracy | None:
        return self._points.get((task, one.size_hw, one.precision, one.width, one.top_k, decoder))

    def quality(self, found: Accuracy, full: Accuracy, *, credit: bool) -> float:
        sign = 1 if full.higher_is_better else -1
        value, best = (self._credited[id(a)] if credit else a.value for a in (found, full))
        span = sign * (best - full.trivial)
        return sign * (value - found.trivial) / span if span > 0 else 0.0

    def _credit(self, key: tuple, found: Accuracy) -> float:
        """The best value of a configuration that this one holds, if it lies in this one's interval."""
        if found.ci_low is None or found.ci_high is None:
            return found.value
        inside = [
            a.value
            for k, a in self._points.items()
            if k[:3] == key[:3] and all(x <= y for x, y in zip(k[3:], key[3:]))
            and found.ci_low <= a.value <= found.ci_high
        ]  # fmt: skip
        return max(inside) if found.higher_is_better else min(inside)


def worth(problem: Problem, one: Configuration, scored_by: str) -> float | None:
    """What a configuration is worth; None where it is not to be chosen: a floor, or not measured."""
    measured, preferences = problem.measured, problem.choice.preferences
    total, full_flops = sum(preferences.values()), max(problem.full_flops, 1)
    by_flops, by_accuracy = (one.costs["flops"] - sum(one.head_flops)) / full_flops, 0.0
    for (task, weight), decoder, flops in zip(preferences.items(), one.decoders, one.head_flops):
        found, full = measured.at(task, one, decoder), measured.full(task)
        by_flops += weight / total * len(preferences) * flops / full_flops
        floor = problem.choice.floors.get(task)
        if floor is not None:
            if found is None or full is None:
                return None
            as_good = found.value >= full.value if full.higher_is_better else found.value <= full.value
            if not as_good and measured.quality(found, full, credit=False) < floor - 1e-9:
                return None
        if scored_by == "accuracy":
            if found is None or full is None:
                return None
            by_accuracy += weight / total * measured.quality(found, full, credit=True)
    return by_flops if scored_by == "flops" else by_accuracy + TIE_BREAK * by_flops


def exceeded_by(problem: Problem, one: Configuration) -> float:
    """The largest factor by which a configuration exceeds a limit; up to 1: it fits."""
    factors = [
        one.costs[axis] * (problem.costs.headroom if axis == "latency_ms" else 1) / most
        for axis, most in problem.limits.items()
    ]
    if problem.share:
        factors.append(one.costs["flops"] / int(problem.share * problem.full_flops))
    return max(factors)


def same(plan: Plan, one: Configuration) -> bool:
    return (plan.size_hw, plan.precision, plan.encoder_width, plan.top_k, tuple(plan.decoder_widths.values())) == (
        one.size_hw, one.precision, one.width, one.top_k, one.decoders
    )  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(problems(), st.sampled_from([1, 1 << 14]), st.sampled_from([1, 512]))
def test_plan_is_the_optimum_of_everything_there_is(problem, enough, few):
    with mock.patch.multiple(pareto, ENOUGH=enough, ENOUGH_COMBINED=enough, FEW=few):
        planner = Planner(problem.manifest, problem.costs)
        plan = planner.plan(problem.tasks, problem.budget)
    every = problem.every
    (chosen,) = (one for one in every if same(plan, one))
    assert (plan.flops, plan.latency_ms, plan.memory_mb, plan.energy_mj) == tuple(chosen.costs.values())
    default = [one for one in every if (one.size_hw, one.precision) == (SIZE, "fp32")]
    for scored_by, listed in (("accuracy", every), ("flops", default)):
        worths = [
            w for one in listed if exceeded_by(problem, one) <= 1 and (w := worth(problem, one, scored_by)) is not None
        ]
        if worths:
            assert (plan.budget_met, plan.unmet, plan.scored_by) == (True, (), scored_by)
            assert exceeded_by(problem, chosen) <= 1
            assert worth(problem, chosen, scored_by) == pytest.approx(max(worths), abs=1e-9)
            return
    assert not plan.budget_met and plan.unmet
    allowed = [one for one in every if worth(problem, one, "accuracy") is not None]
    allowed += [one for one in default if worth(problem, one, "flops") is not None]
    if allowed:  # floors are held, and limits exceeded by the least factor
        assert exceeded_by(problem, chosen) == pytest.approx(min(exceeded_by(problem, one) for one in allowed))
        with pytest.raises(InfeasibleBudgetError) as error:
            planner.plan(problem.tasks, problem.budget, strict=True)
        (feasible,) = re.findall('the smallest feasible budget is "(.*)"', str(error.value))
        assert planner.plan(problem.tasks, feasible, strict=True).budget_met
    else:
        with pytest.raises(InfeasibleBudgetError, match="no configuration keeps"):
            planner.plan(problem.tasks, problem.budget, strict=True)


@settings(max_examples=40, deadline=None)
@given(problems(), st.floats(0.5, 3.0))
def test_slower_device_tightens_limits_in_time_only(problem, slowdown):
    planner = Planner(problem.manifest, problem.costs)
    plan = planner.plan(problem.tasks, problem.budget, slowdown=slowdown)
    tightened = {**problem.limits}
    if "latency_ms" not in tightened:
        assert plan == planner.plan(problem.tasks, problem.budget)
        return
    texts = [f"{m / slowdown if axis == 'latency_ms' else m}{UNITS[axis]}" for axis, m in tightened.items()]
    same_plan = planner.plan(problem.tasks, ",".join(texts + ([f"{problem.share}"] if problem.share else [])))
    assert (plan.flops, plan.decoder_widths, plan.budget_met) == (
        same_plan.flops, same_plan.decoder_widths, same_plan.budget_met
    )  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(problems())
def test_more_budget_is_never_worth_less(problem):
    planner, last = Planner(problem.manifest, problem.costs), None
    for limit in range(1, 60, 7):
        plan = planner.plan(problem.tasks, f"{limit}ms,60MB")
        (chosen,) = (one for one in problem.every if same(plan, one))
        if last is not None and last[0].scored_by == plan.scored_by and last[0].budget_met:
            now, before = worth(problem, chosen, plan.scored_by), worth(problem, last[1], plan.scored_by)
            assert now is not None and before is not None and now >= before - 1e-9
        last = (plan, chosen)
