"""A brake that the device tells of: believed at once, corrected by answers, let go slowly, and never a swing."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpath.runtime.running.controller import Controller
from slimpath.runtime.running.controller_throttle import HOLD_S, Throttle
from slimpath.tests.runtime.simulated_device import Device, make_device

BUDGET_MS = 30.0
TELL_S = 0.25


class HotDevice:
    """A device on paper whose clocks a governor holds back; `told` says whether the controller hears of it.

    Args:
        braked: seconds -> how much slower the clocks run.
        bound: how much of the work slows down with the clock, 1 for all.
        every_s: between two requests, at least.
    """

    def __init__(
        self,
        braked: Callable[[float], float],
        *,
        told: bool = True,
        bound: float = 1.0,
        noise: float = 0.02,
        every_s: float = 1 / 30,
    ) -> None:
        rng = np.random.default_rng(0)
        self.braked, self.every_s = braked, every_s
        self.device: Device = make_device(
            rng, lambda now: float(braked(now) ** bound * np.exp(rng.normal(0, noise))), error=0.0
        )
        self.told, self._told_s = told, -math.inf
        self.chosen: list[tuple[float, int, float]] = []

    def run(self, until_s: float) -> None:
        """Answer one request after the other."""
        device = self.device
        while device.now_s < until_s:
            if self.told and device.now_s - self._told_s >= TELL_S:
                self._told_s = device.now_s
                device.controller.throttled(self.braked(device.now_s), device.now_s)
            started = device.now_s
            index = device.plan(BUDGET_MS)
            took_ms = device.run(index)
            self.chosen.append((started, index, took_ms))
            device.now_s = max(device.now_s, started + self.every_s)

    def late(self, from_s: float, to_s: float) -> int:
        """Answers beyond the budget that began between two moments."""
        return sum(took > BUDGET_MS for at, _, took in self.chosen if from_s <= at < to_s)

    def swings(self, least: int = 5) -> int:
        """How often the choice turned from wide to narrow, by at least so many configurations."""
        count, high, low, falling = 0, -1, 10**9, False
        for _, index, _ in self.chosen:
            if falling:
                low = min(low, index)
                if index >= low + least:
                    falling, high = False, index
            else:
                high = max(high, index)
                if index <= high - least:
                    count, falling, low = count + 1, True, index
        return count


def test_brake_is_followed_before_any_answer_is_late():
    def braked(now: float) -> float:
        return 1.0 if now < 4.9 else 1.6

    told, untold = HotDevice(braked, every_s=0.3), HotDevice(braked, told=False, every_s=0.3)
    for device in (told, untold):
        device.run(9)
    assert untold.late(5, 6.5) >= 3  # what it takes to learn it
    assert told.late(5, 6.5) == 0


def test_slowdown_is_raised_at_once_and_once():
    controller = Controller(headroom=1.1)
    controller.throttled(1.0, 0.0)
    before = controller.slowdown
    for moment in (1.0, 1.5, 2.0, 2.5):
        controller.throttled(1.5, moment)
        assert controller.slowdown == pytest.approx(before * 1.5)
    assert controller.state.throttle == 1.5
    controller.throttled(2.0, 3.0)  # stronger: of the level before the brake, not on top of what is believed
    assert controller.slowdown == pytest.approx(before * 2.0)


def test_what_answers_have_shown_already_is_not_added_again():
    device = HotDevice(lambda at: 1.0 if at < 3 else 1.5)
    device.run(2.9)
    device.told = False
    device.run(3.4)
    for step in range(8):  # told after it was learnt, and the alert flickers
        device.device.controller.throttled(1.0 if step % 2 else 1.5, 3.5 + step / 10)
        assert device.device.controller.slowdown == pytest.approx(1.5, rel=0.1)


def test_answers_correct_a_brake_that_costs_less_than_it_says():
    device = HotDevice(lambda now: 1.0 if now < 3 else 2.0, bound=0.3)  # bound by memory
    device.run(3.0)
    device.device.controller.throttled(2.0, device.device.now_s)
    assert device.device.controller.state.level == pytest.approx(2.0, rel=0.06)
    device.run(6)
    assert device.device.controller.state.level == pytest.approx(2**0.3, rel=0.06)


def test_level_stays_for_a_while_after_the_brake_and_then_goes():
    device = HotDevice(lambda now: 1.5 if 3 <= now < 6 else 1.0)
    device.run(6.5)
    wide = device.chosen[60][1]
    held = device.chosen[-1][1]
    device.run(6 + HOLD_S[0] - 1)
    assert device.chosen[-1][1] == pytest.approx(held, abs=2) and held < wide - 4
    device.run(6 + HOLD_S[0] + 3)
    assert device.chosen[-1][1] == pytest.approx(wide, abs=2)


class Heat:
    """A chip that warms with the work, and a governor that brakes above 90 °C and lets go below 86.

    Source of the form: a thermal resistance and one time constant, 12 s, as of a small heat sink.
    """

    def __init__(self) -> None:
        self.celsius, self.now_s, self.on, self.load = 60.0, 0.0, False, 0.0

    def __call__(self, now_s: float) -> float:
        target = 40 + 62 * self.load
        self.celsius += (target - self.celsius) * (1 - math.exp(-max(now_s - self.now_s, 0) / 12))
        self.now_s = max(now_s, self.now_s)
        self.on = self.celsius > (86 if self.on else 90)
        return 1.6 if self.on else 1.0


def test_heat_does_not_swing_the_choice():
    """Wide plans heat the chip until it brakes, narrow ones let it cool: each time it comes back it is held longer."""

    def run(minutes: float, *, told: bool) -> HotDevice:
        heat = Heat()
        hot = HotDevice(heat, told=told)
        device = hot.device
        while device.now_s < minutes * 60:
            hot.run(device.now_s + 1 / 30)
            heat.load = min(hot.chosen[-1][2] / heat(device.now_s) / BUDGET_MS, 1.0)
        return hot

    told, untold = run(6, told=True), run(6, told=False)
    assert untold.swings() >= 20 and untold.late(0, 360) >= 40  # several times a minute
    assert told.swings() <= 8 and told.late(0, 360) <= untold.late(0, 360) / 2


@settings(max_examples=60)
@given(st.lists(st.tuples(st.floats(0.01, 20), st.sampled_from([1.0, 1.2, 1.6, 3.0]), st.floats(-1, 2)), max_size=60))
def test_brakes_that_flicker_never_add_up(events: list[tuple[float, float, float]]):
    throttle, now, level = Throttle(), 0.0, 0.0
    for gap, factor, learnt in events:
        now += gap
        raised = throttle.tell(factor, level, now)
        if raised is not None:
            level = max(level, raised)
        else:
            level = min(level, max(learnt, 0.0))  # answers only ever bring it down here
        assert level <= 2 * math.log(3.0) + 1e-9
        assert throttle.floor(now) <= level + 2 * math.log(3.0)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.floats(0.01, 3), st.floats(1, 4), st.floats(1, 200)), max_size=50))
def test_same_story_always_gives_the_same_slowdown(events: list[tuple[float, float, float]]):
    def run() -> list[float]:
        controller, now, seen = Controller(headroom=1.1), 0.0, []
        for gap, factor, measured_ms in events:
            now += gap
            controller.throttled(factor, now)
            controller.observe(20.0, measured_ms, now, key="a")
            seen.append(controller.slowdown)
        return seen

    assert run() == run()


@pytest.mark.parametrize("wrong", [0.5, 0.0, -1.0, math.inf, math.nan])
def test_factors_that_make_no_sense_are_refused(wrong: float):
    with pytest.raises(ValueError, match="at least 1"):
        Controller().throttled(wrong, 0.0)
    with pytest.raises(ValueError, match="at least 1"):
        Controller().press(wrong)


def test_pressure_makes_plans_dearer_without_changing_what_is_learnt():
    controller = Controller(headroom=1.1)
    before = controller.slowdown
    controller.press(2.0)
    assert controller.slowdown == pytest.approx(2 * before) and controller.state.pressure == 2.0
    controller.observe(10.0, 10.0, 1.0)
    controller.press(1.0)
    assert controller.slowdown == pytest.approx(before, rel=0.02)


def test_reset_forgets_brakes_too():
    controller = Controller(headroom=1.1)
    controller.throttled(3.0, 0.0)
    controller.reset()
    assert controller.slowdown == pytest.approx(1.0) and controller.state.throttle == 1.0
