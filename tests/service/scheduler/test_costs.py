"""Predictions: from the plan, from the first call, from what calls take."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimpath.service.scheduler.arrivals import Arrivals
from slimpath.service.scheduler.costs import MARGINS, Costs
from slimpath.service.scheduler.ladder import Rung, rung_of
from slimpath.tests.service.scheduler.simulation import make_plan


def rung(latency_ms: float | None = 50.0, *, width: float = 1.0, flops: int | None = None) -> Rung:
    return rung_of(make_plan(latency_ms, width=width, flops=flops))


def test_a_profile_is_believed_before_anything_was_measured() -> None:
    assert Costs().alone_s(rung(50.0)) == pytest.approx(0.05)


def test_without_a_profile_the_first_call_sets_the_pace_for_all_plans() -> None:
    costs = Costs()
    full, half = rung(None, width=1.0, flops=8_000_000_000), rung(None, width=0.5, flops=4_000_000_000)
    costs.observe([full], 0.4)
    assert costs.alone_s(full) == pytest.approx(0.4)
    assert costs.alone_s(half) == pytest.approx(0.2, rel=0.05)


def test_what_is_peculiar_to_a_plan_stays_with_it() -> None:
    costs = Costs()
    usual, odd = rung(50.0, width=1.0), rung(30.0, width=0.5)
    for _ in range(50):
        costs.observe([usual], 0.05)
        costs.observe([odd], 0.06)
    assert costs.alone_s(usual) == pytest.approx(0.05, rel=0.05)
    assert costs.alone_s(odd) == pytest.approx(0.06, rel=0.05)


def test_a_slower_device_slows_predictions_of_plans_that_were_not_run_meanwhile() -> None:
    costs = Costs()
    run, other = rung(50.0, width=1.0), rung(30.0, width=0.5)
    for _ in range(5):
        costs.observe([run], 0.05)
        costs.observe([other], 0.03)
    for _ in range(60):
        costs.observe([run], 0.1)
    assert costs.alone_s(run) == pytest.approx(0.1, rel=0.1)
    assert costs.alone_s(other) > 0.04


def test_one_outlier_moves_little() -> None:
    costs = Costs()
    for _ in range(20):
        costs.observe([rung()], 0.05)
    costs.observe([rung()], 50.0)
    assert costs.alone_s(rung()) < 0.06


def test_the_margin_covers_about_95_percent_of_the_calls() -> None:
    import numpy as np

    rng, costs = np.random.default_rng(0), Costs()
    inside = []
    for number in range(2000):
        seconds = 0.05 * float(np.exp(rng.normal(0.0, 0.1)))
        if number >= 500:
            inside.append(seconds <= costs.alone_s(rung()) * costs.margin)
        costs.observe([rung()], seconds)
    assert 0.9 <= sum(inside) / len(inside) <= 0.98


def test_batches_are_priced_by_what_they_gained() -> None:
    costs = Costs()
    for _ in range(10):
        costs.observe([rung()], 0.05)
        costs.observe([rung()] * 4, 0.1)
    assert costs.gain(rung(), 4) == pytest.approx(0.5, rel=0.05)
    assert costs.batch_s([rung()] * 4) == pytest.approx(0.1, rel=0.05)
    assert costs.gain(rung(), 6) == costs.gain(rung(), 4)  # the next smaller that is known
    assert costs.gain(rung(), 2) == 1.0


def test_an_encoder_whose_batches_were_not_measured_is_thought_like_the_others() -> None:
    costs = Costs()
    costs.observe([rung(), rung()], 0.08)
    assert costs.gain(rung(20.0, width=0.25), 2) == costs.gain(rung(), 2) == pytest.approx(0.8)


def test_a_profiles_gain_is_used_until_one_was_measured() -> None:
    costs = Costs(lambda rung, images: 0.7)
    assert costs.gain(rung(), 2) == 0.7
    costs.observe([rung(), rung()], 0.09)
    assert costs.gain(rung(), 2) == pytest.approx(0.9)


def test_batches_of_different_encoders_teach_nothing() -> None:
    costs = Costs()
    costs.observe([rung(), rung(20.0, width=0.25)], 0.5)
    assert costs.gain(rung(), 2) == 1.0


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=30))
def test_whatever_a_clock_says_predictions_stay_usable(seconds: list[float]) -> None:
    costs = Costs()
    for value in seconds:
        costs.observe([rung()], value)
    assert 0 < costs.alone_s(rung()) < math.inf
    assert MARGINS[0] <= costs.margin <= MARGINS[1]


def test_plans_that_differ_only_in_what_was_asked_for_are_one() -> None:
    plan = make_plan(50.0)
    assert rung_of(plan).key == rung_of(replace(plan, budget="0.5")).key


def test_load_is_the_work_that_comes_in_per_second() -> None:
    arrivals = Arrivals(2.0)
    for number in range(400):
        arrivals.add(number * 0.05, 0.1)
    assert arrivals.load(20.0) == pytest.approx(2.0, rel=0.05)


def test_load_fades_when_nothing_comes() -> None:
    arrivals = Arrivals(2.0)
    for number in range(400):
        arrivals.add(number * 0.05, 0.1)
    assert arrivals.load(22.0) == pytest.approx(2.0 / math.e, rel=0.1)
    assert arrivals.load(60.0) == 0.0


def test_load_of_the_first_few_is_not_told() -> None:
    arrivals = Arrivals(2.0)
    for number in range(5):
        arrivals.add(number * 0.001, 1.0)
    assert arrivals.load(0.01) == 0.0
