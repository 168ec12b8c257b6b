"""The controller: true after a second, still under noise, blind to single outliers, and never out of bounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpath.runtime.running.controller import LIMITS, Controller, plan_key
from slimpath.tests.runtime.simulated_device import Device, Trace, load_trace, make_device, replayed

ANYTHING = st.one_of(st.floats(), st.floats(0.01, 1e4))


def answers(
    controller: Controller, ratios: list[float], *, every_s: float = 0.03, start_s: float = 0.0, key: object = "plan"
) -> float:
    """Feed answers to predictions of 10 ms at a steady pace; returns when the last was."""
    now = start_s
    for ratio in ratios:
        now += every_s
        controller.observe(10.0, 10.0 * ratio, now, key=key)
    return now


def noisy(rng: np.random.Generator, count: int, *, centre: float = 1.0, noise: float = 0.05) -> list[float]:
    return (centre * np.exp(rng.normal(0, noise, count))).tolist()


def test_undisturbed_device_has_slowdown_one() -> None:
    controller = Controller(headroom=1.1)
    assert controller.slowdown == pytest.approx(1.0)
    rng = np.random.default_rng(0)
    answers(controller, noisy(rng, 300, noise=math.log(1.1) / 1.645))  # as the profile's headroom says
    assert controller.slowdown == pytest.approx(1.0, abs=0.05)


@given(st.lists(st.tuples(ANYTHING, ANYTHING, ANYTHING, st.sampled_from([None, "a", "b"])), max_size=60))
def test_slowdown_stays_within_its_bounds_whatever_comes(seen: list[tuple[float, float, float, str | None]]) -> None:
    controller = Controller(headroom=1.1)
    for predicted, measured, now, key in seen:
        controller.observe(predicted, measured, now if math.isfinite(now) else 0.0, key=key)
        for slowdown in (controller.slowdown, controller.slowdown_for(key)):
            assert LIMITS[0] <= slowdown <= LIMITS[1]


@given(st.lists(st.tuples(st.floats(1, 100), st.floats(0.001, 0.2), st.sampled_from("abc")), max_size=80))
def test_same_answers_always_give_the_same_slowdown(seen: list[tuple[float, float, str]]) -> None:
    def run() -> list[float]:
        controller, now, found = Controller(headroom=1.2), 0.0, []
        for measured, gap, key in seen:
            now += gap
            controller.observe(20.0, measured, now, key=key)
            found.append(controller.slowdown_for(key))
        return found

    assert run() == run()


@settings(max_examples=30)
@given(centre=st.floats(0.4, 4), noise=st.floats(0, 0.12), every_s=st.floats(0.005, 0.1), seed=st.integers(0, 10**6))
def test_level_converges_to_the_median_and_factor_to_the_95th_percentile(
    centre: float, noise: float, every_s: float, seed: int
) -> None:
    controller, levels, held, now = Controller(headroom=1.05), [], [], 0.0
    for ratio in noisy(np.random.default_rng(seed), 500, centre=centre, noise=noise):
        now = answers(controller, [ratio], every_s=every_s, start_s=now)
        held.append(controller.slowdown_for("plan") * controller.headroom)
        levels.append(held[-1] / controller.state.spread)
    assert np.median(levels[200:]) == pytest.approx(centre, rel=0.02 + 0.5 * noise)
    # Of a normal distribution, 95 % are below 1.645 deviations.
    assert np.median(held[200:]) == pytest.approx(centre * math.exp(1.645 * noise), rel=0.02 + 0.9 * noise)


@settings(max_examples=30)
@given(
    factor=st.floats(1.3, 6),
    noise=st.floats(0, 0.05),
    every_s=st.floats(0.01, 0.08),
    slower=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_change_of_the_device_is_followed_within_a_second(
    factor: float, noise: float, every_s: float, slower: bool, seed: int
) -> None:
    rng, controller = np.random.default_rng(seed), Controller(headroom=1.1)
    before, after = (1.0, factor) if slower else (factor, 1.0)
    now = answers(controller, noisy(rng, 120, centre=before, noise=noise), every_s=every_s)
    count = math.ceil(1.0 / every_s)
    answers(controller, noisy(rng, count, centre=after, noise=noise), every_s=every_s, start_s=now)
    effective = controller.slowdown_for("plan") * controller.headroom / controller.state.spread
    assert effective == pytest.approx(after, rel=0.10)


def test_late_answers_are_believed_sooner_than_early_ones() -> None:
    def answers_until_followed(before: float, after: float) -> int:
        controller = Controller(headroom=1.1)
        now = answers(controller, [before] * 120)
        for count in range(1, 100):
            now = answers(controller, [after], start_s=now)
            if abs(controller.slowdown / after - 1) < 0.15:
                return count
        raise AssertionError("never")

    assert answers_until_followed(1.0, 2.0) == 3
    assert 10 <= answers_until_followed(2.0, 1.0) <= 33  # 33 are a second


def test_slowdown_comes_down_gradually() -> None:
    controller = Controller(headroom=1.1)
    now = answers(controller, [3.0] * 200, every_s=0.01)
    seen = [controller.slowdown_for("plan")]
    for _ in range(150):
        now = answers(controller, [1.0], every_s=0.01, start_s=now)
        seen.append(controller.slowdown_for("plan"))
    assert 0.9 <= seen[-1] <= 1.05
    assert all(after >= 0.88 * before for before, after in pairwise(seen))  # 10 ms at most a tenth


@given(outlier=st.floats(0.02, 100), place=st.integers(30, 90), seed=st.integers(0, 10**6))
def test_single_outlier_moves_nothing(outlier: float, place: int, seed: int) -> None:
    ratios = noisy(np.random.default_rng(seed), 100, noise=0.03)
    calm, struck = Controller(headroom=1.1), Controller(headroom=1.1)
    answers(calm, ratios)
    answers(struck, [outlier if index == place else ratio for index, ratio in enumerate(ratios)])
    assert struck.slowdown == pytest.approx(calm.slowdown, rel=0.03)


@pytest.mark.parametrize("noise", [0.02, 0.05, 0.1])
def test_constant_conditions_and_noise_make_no_oscillation(noise: float) -> None:
    for seed in range(5):
        rng, controller = np.random.default_rng(seed), Controller(headroom=1.1)
        now = answers(controller, noisy(rng, 200, centre=1.5, noise=noise))
        seen = []
        for ratio in noisy(rng, 600, centre=1.5, noise=noise):
            now = answers(controller, [ratio], start_s=now)
            seen.append(controller.slowdown_for("plan"))
        assert np.std(seen) / np.mean(seen) <= 0.6 * noise  # calmer than what it sees
        assert max(seen) / min(seen) <= 1 + 4 * noise


def test_wrong_predictions_of_single_plans_do_not_make_it_swing() -> None:
    """The dearer of two plans is slower than predicted, the cheaper one faster; the limit lies between."""
    predicted, true = {"cheap": 20.0, "dear": 24.0}, {"cheap": 18.0, "dear": 27.5}
    controller, now, chosen = Controller(headroom=1.05), 0.0, []
    rng = np.random.default_rng(0)
    for _ in range(1000):
        plan = controller.choose(
            lambda slowdown: "dear" if predicted["dear"] * 1.05 * slowdown <= 26 else "cheap", key=lambda name: name
        )
        measured = true[plan] * float(np.exp(rng.normal(0, 0.02)))
        now += measured / 1e3
        controller.observe(predicted[plan], measured, now, key=plan)
        chosen.append(plan)
    assert chosen.count("dear") <= 40  # tried again about once a minute, not once a second
    assert chosen[-1] == "cheap"


def test_plan_known_to_be_slower_is_planned_again_with_its_own_factor() -> None:
    controller = Controller(headroom=1.1)
    now = answers(controller, [1.0] * 40, key="even")
    for _ in range(12):
        now = answers(controller, [1.25], start_s=now, key="slow")
        now = answers(controller, [1.0] * 3, start_s=now, key="even")
    asked: list[float] = []

    def plan(slowdown: float) -> str:
        asked.append(slowdown)
        return "slow" if slowdown < 1.15 else "even"

    assert controller.choose(plan, key=lambda name: name) == "even"
    assert len(asked) == 2 and asked[1] > asked[0] * 1.1
    assert controller.slowdown_for("never seen") == controller.slowdown


def test_reset_forgets_everything() -> None:
    controller = Controller(headroom=1.1)
    answers(controller, [3.0] * 50)
    assert controller.slowdown > 2.5
    controller.reset()
    assert (controller.slowdown, controller.state.answers) == (pytest.approx(1.0), 0)


def test_clock_is_the_one_that_was_given_and_may_stand_still_or_go_back() -> None:
    times = iter([5.0, 5.0, 3.0, 6.0, 6.0, 6.1])
    controller = Controller(headroom=1.1, clock=lambda: next(times))
    for _ in range(6):
        controller.observe(10, 20)
    assert controller.slowdown == pytest.approx(2.0, rel=0.15)


def test_headroom_below_one_is_refused() -> None:
    for wrong in (0.9, math.nan):
        with pytest.raises(ValueError, match="at least 1"):
            Controller(headroom=wrong)


def test_plan_key_is_the_configuration_and_nothing_else(make_plan: Callable[..., object]) -> None:
    same = make_plan(0.5, budget="20ms"), make_plan(0.5, budget="0.3")
    assert plan_key(same[0]) == plan_key(same[1])  # pyright: ignore[reportArgumentType]
    assert plan_key(same[0]) != plan_key(make_plan(1.0))  # pyright: ignore[reportArgumentType]


def lognormal(rng: np.random.Generator, noise: float, outliers: float) -> Callable[[float], float]:
    """Noise with, now and then, an answer up to three times as slow."""

    def draw(now_s: float) -> float:
        factor = float(np.exp(rng.normal(0, noise)))
        return factor * float(rng.uniform(1.3, 3)) if rng.random() < outliers else factor

    return draw


@pytest.fixture(scope="module")
def trace() -> Trace:
    return load_trace()


def test_recorded_neighbours_are_followed_within_a_second(trace: Trace) -> None:
    """Replays what one plan really took, and compares each answer with what was promised just before it."""
    controller = Controller(headroom=1.1)
    factors: list[list[float]] = []
    assert [phase.neighbour for phase in trace.phases] == ["", "counts", "", "multiplies", ""]
    for phase in trace.phases:
        late: list[bool] = []
        factors.append([])
        for at_s, ms in phase.answers:
            promised_ms = controller.slowdown * controller.headroom * trace.median_ms
            if at_s > phase.answers[0][0] + 1:
                late.append(ms > 1.1 * promised_ms)
            controller.observe(trace.median_ms, ms, at_s)
            factors[-1].append(controller.slowdown)
        assert np.mean(late) <= (0.10 if phase.neighbour else 0.05), phase.neighbour
    assert max(factors[0][-100:]) < 1.2
    assert max(factors[3][:30]) > 1.5  # the first second beside the one that wants all cores
    assert factors[4][-1] == pytest.approx(factors[0][-1], rel=0.2)


@pytest.mark.parametrize("seed", range(4))
def test_random_budgets_are_kept_and_used_with_recorded_noise(seed: int, trace: Trace) -> None:
    """Done-when 7 on paper: the noise is what was recorded alone, then what was recorded beside neighbours."""
    rng = np.random.default_rng(seed)
    alone = trace.ratios("")
    calm, busy = replayed(alone, rng), replayed(trace.ratios("counts", "multiplies"), rng)
    half_s = 20.0
    device = make_device(rng, lambda now_s: calm(now_s) if now_s < half_s else busy(now_s), error=0.06)
    _check_budgets(device, rng, half_s, float(np.quantile(alone, 0.95)))


@pytest.mark.parametrize("seed", range(4))
def test_random_budgets_are_kept_and_used(seed: int) -> None:
    """Done-when 7 on paper: 1,000 requests, a profile that is off by 8 %, a neighbour for the second half."""
    rng = np.random.default_rng(seed)
    noise = lognormal(rng, 0.05, 0.02)
    half_s = 20.0

    def disturbed(now_s: float) -> float:
        neighbour = 1.0 if now_s < half_s else float(rng.choice([1.3, 1.6, 2.0, 2.4], p=[0.2, 0.4, 0.3, 0.1]))
        return neighbour * noise(now_s)

    device = make_device(rng, disturbed, error=0.08)
    _check_budgets(device, rng, half_s, float(np.quantile([noise(0) for _ in range(2000)], 0.95)))


def _check_budgets(device: Device, rng: np.random.Generator, half_s: float, p95: float) -> None:
    """Random budgets until twice `half_s`, when a neighbour came; 95 %, 85 % and 90 %, as the issue asks for."""
    alone, with_neighbour, used = [], [], []
    while device.now_s < 2 * half_s:
        budget_ms = float(rng.uniform(25, 80))
        began_s, index = device.now_s, device.plan(budget_ms)
        kept = device.run(index) <= 1.1 * budget_ms
        if began_s < half_s:
            alone.append(kept)
            dearest = max((i for i, ms in enumerate(device.true_ms) if ms * p95 <= budget_ms), default=0)
            used.append(device.true_ms[index] / device.true_ms[dearest])
        elif began_s > half_s + 1:
            with_neighbour.append(kept)
    assert np.mean(alone) >= 0.95
    assert np.median(used) >= 0.85
    assert np.mean(with_neighbour) >= 0.90
