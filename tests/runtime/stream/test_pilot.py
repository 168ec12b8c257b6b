"""Which plan a frame gets: the best that fits, calmly; quickly less when it is late."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimpath.runtime.planning.plan import Plan
from slimpath.runtime.stream.pilot import RESERVE, Pilot, rising, time_plans


class Device:
    """Simulated time: answers take what their plan takes, times noise and slowdown; frames come every interval."""

    def __init__(self, full_ms: float, noise: float = 0.03, seed: int = 0) -> None:
        self.now = 0.0
        self.slowdown = 1.0
        self._full_ms, self._noise, self._rng = full_ms, noise, np.random.default_rng(seed)

    def run(self, pilot: Pilot, seconds: float) -> list[tuple[float, float, bool]]:
        """(time, width, was it in time?) of every frame."""
        found, end = [], self.now + seconds
        while self.now < end:
            choice = pilot.choose()
            ms = self._full_ms * choice.plan.encoder_width * self.slowdown * np.exp(self._rng.normal(0, self._noise))
            self.now += ms / 1e3
            pilot.observe(choice, float(ms))
            found.append((self.now, choice.plan.encoder_width, ms <= pilot.interval_ms))
            self.now += max(pilot.interval_ms - ms, 0) / 1e3
        return found


@pytest.fixture
def device_and_pilot(make_pilot: Callable[..., Pilot]) -> Callable[..., tuple[Device, Pilot]]:
    def make(interval_ms: float, full_ms: float, **options: float) -> tuple[Device, Pilot]:
        device = Device(full_ms, **options)  # pyright: ignore[reportArgumentType]
        return device, make_pilot(interval_ms, full_ms, clock=lambda: device.now)

    return make


@pytest.mark.parametrize(("full_ms", "width"), [(30, 1.0), (70, 0.75), (100, 0.5), (200, 0.25), (900, 0.25)])
def test_best_plan_whose_95th_percentile_fits_is_taken(
    device_and_pilot: Callable[..., tuple[Device, Pilot]], full_ms: float, width: float
) -> None:
    device, pilot = device_and_pilot(1000 / 15, full_ms)
    assert {chosen for _, chosen, _ in device.run(pilot, 10)} == {width}


def test_rate_that_nothing_can_hold_is_known_beforehand(make_pilot: Callable[..., Pilot]) -> None:
    assert [make_pilot(1000 / 15, full_ms).too_slow for full_ms in (30, 200, 300)] == [False, False, True]


def test_slower_device_gets_a_smaller_plan_within_a_second_and_the_larger_one_back(
    device_and_pilot: Callable[..., tuple[Device, Pilot]],
) -> None:
    device, pilot = device_and_pilot(1000 / 15, 50)
    assert device.run(pilot, 5)[-1][1] == 1.0
    device.slowdown = 2.0
    slowed = device.run(pilot, 8)
    assert all(in_time for at, _, in_time in slowed if at > 5 + 1)
    assert slowed[-1][1] == 0.5
    device.slowdown = 1.0
    assert device.run(pilot, 3)[-1][1] == 1.0


@pytest.mark.parametrize("full_ms", range(20, 130, 7))
def test_plan_does_not_flicker_under_constant_conditions(
    device_and_pilot: Callable[..., tuple[Device, Pilot]], full_ms: int
) -> None:
    device, pilot = device_and_pilot(1000 / 15, full_ms, noise=0.05)
    device.run(pilot, 5)
    widths = [width for _, width, _ in device.run(pilot, 60)]
    assert sum(a != b for a, b in pairwise(widths)) <= 8  # in a minute


class Steered:
    """A controller that says what a test wants."""

    headroom = 1.0
    slowdown = 1.0

    def slowdown_for(self, key: object) -> float:
        return self.slowdown


def test_plan_is_kept_while_it_takes_hardly_too_long_and_left_at_once_when_it_does(
    make_pilot: Callable[..., Pilot],
) -> None:
    pilot, steered = make_pilot(100, 80, clock=lambda: 0.0), Steered()
    pilot.controller = steered  # pyright: ignore[reportAttributeAccessIssue]
    widths = []
    for share in (0.9, 1.03, 0.9, 1.05):  # of the budget, that the widest plan takes
        steered.slowdown = share * pilot.budget_ms / 80
        widths.append(pilot.choose().plan.encoder_width)
    assert widths == [1.0, 1.0, 1.0, 0.75]


def test_dearer_plan_is_taken_when_it_has_fitted_for_a_second(make_pilot: Callable[..., Pilot]) -> None:
    clock = [0.0]
    pilot, steered = make_pilot(100, 80, clock=lambda: clock[0]), Steered()
    pilot.controller = steered  # pyright: ignore[reportAttributeAccessIssue]

    def width_after(seconds: float, share: float) -> float:
        clock[0] += seconds
        steered.slowdown = share * pilot.budget_ms / 80
        return pilot.choose().plan.encoder_width

    assert width_after(0, 1.3) == 0.75
    assert [width_after(0.6, 0.98), width_after(5, 0.98)] == [0.75, 0.75]  # too little to spare
    assert [width_after(0.6, 0.9), width_after(0.6, 0.9)] == [0.75, 0.75]
    assert width_after(0.1, 1.2) == 0.75  # the second begins anew
    assert [width_after(0.1, 0.9), width_after(0.9, 0.9), width_after(0.2, 0.9)] == [0.75, 0.75, 1.0]


def test_predictions_of_another_device_are_corrected(make_pilot: Callable[..., Pilot]) -> None:
    device = Device(90)
    pilot = make_pilot(1000 / 15, 30, clock=lambda: device.now)  # thrice too fast
    found = device.run(pilot, 10)
    assert found[0][1] == 1.0 and found[-1][1] == 0.5
    assert np.mean([in_time for at, _, in_time in found if at > 1]) >= 0.95


def test_busy_neighbour_stage_gets_room_and_gives_it_back(make_pilot: Callable[..., Pilot]) -> None:
    clock = [0.0]
    pilot = make_pilot(100, 80, clock=lambda: clock[0])
    assert pilot.budget_ms == pytest.approx(100 * RESERVE)

    def run(seconds: float, busiest: float) -> None:
        for _ in range(int(10 * seconds)):
            clock[0] += 0.1
            pilot.choose()
            pilot.make_room(busiest)

    run(3, 1.0)
    assert 60 <= pilot.budget_ms <= 70
    share = pilot.share
    run(10, 0.9)  # neither too much nor too little: stay
    assert pilot.share == share
    run(10, 0.7)  # a little room: what overloaded them is not tried again so soon
    assert share < pilot.share < 1.1 * share
    run(10, 0.3)  # it is gone
    assert pilot.share == 1
    run(60, 1.0)
    assert pilot.choose() is pilot.choices[0]
    assert pilot.budget_ms > 0.8 * pilot.choices[0].predicted_ms  # nothing is gained by going lower still


def test_room_is_made_until_the_others_keep_up_and_not_much_more(make_pilot: Callable[..., Pilot]) -> None:
    """The drawing stage needs what the answers leave of one processor: it keeps up once they take 60 % or less."""
    clock, shares = [0.0], []
    pilot = make_pilot(100, 80, clock=lambda: clock[0])
    for _ in range(3000):
        clock[0] += 0.1
        pilot.choose()
        pilot.make_room(min(1.0, 0.36 / (1 - 0.95 * pilot.share) if pilot.share < 1 else 1.0))
        shares.append(pilot.share)
    assert all(0.5 <= share <= 0.72 for share in shares[300:])


def test_pilot_without_plans_or_predictions_is_refused(make_plan: Callable[..., Plan]) -> None:
    with pytest.raises(ValueError, match="as many predictions as plans"):
        Pilot([], [], 10)
    with pytest.raises(ValueError, match="as many predictions as plans"):
        Pilot([make_plan()], [1, 2], 10)


def test_plans_are_timed_in_rounds_until_the_time_is_up(make_plan: Callable[..., Plan]) -> None:
    clock, order = [0.0], []

    def answer(plan: Plan) -> None:
        order.append(plan.encoder_width)
        clock[0] += plan.encoder_width * 0.010

    plans = [make_plan(0.5), make_plan(1.0)]
    assert time_plans(answer, plans, time_limit_s=0.05, clock=lambda: clock[0]) == pytest.approx([5, 10])
    assert order == [0.5, 1.0] * 4
    order.clear()
    assert time_plans(answer, plans, time_limit_s=0.0, clock=lambda: clock[0]) == pytest.approx([5, 10])
    assert order == [0.5, 1.0]  # one round at least


@given(st.lists(st.floats(1, 100), max_size=30))
def test_rising_numbers_stay_and_others_are_averaged(values: list[float]) -> None:
    found = rising(values)
    assert all(a <= b + 1e-9 for a, b in pairwise(found))
    assert sum(found) == pytest.approx(sum(values))
    assert rising(sorted(values)) == sorted(values)
