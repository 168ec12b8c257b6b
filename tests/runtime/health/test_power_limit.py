"""Watts are held by the knob, without a swing between a plan that draws too much and one that draws too little."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpath.runtime.health.power_limit import MOST, PowerLimit


class Board:
    """A stream's plans on paper: a cheaper plan draws less; the budget takes the dearest that fits.

    Args:
        watts: of the plans, rising.
    """

    def __init__(self, watts: list[float], limit_w: float, *, noise_w: float = 0.2) -> None:
        self.watts, self.limit = watts, PowerLimit(limit_w)
        self.costs = np.geomspace(1, 8, len(watts))
        self.noise_w, self.rng = noise_w, np.random.default_rng(0)
        self.now_s = 0.0
        self.seen: list[tuple[float, int]] = []

    def run(self, seconds: float) -> None:
        end = self.now_s + seconds
        while self.now_s < end:
            self.now_s += 0.25
            pressure = self.limit.pressure
            fits = [rung for rung, cost in enumerate(self.costs) if cost * pressure <= self.costs[-1]]
            rung = max(fits, default=0)
            self.limit.observe(self.watts[rung] + self.rng.normal(0, self.noise_w), self.now_s)
            self.seen.append((self.now_s, rung))

    def changes(self, from_s: float) -> int:
        rungs = [rung for at, rung in self.seen if at >= from_s]
        return sum(a != b for a, b in pairwise(rungs))


@settings(max_examples=30, deadline=None)
@given(
    steps=st.lists(st.floats(0.3, 3), min_size=3, max_size=12),
    idle_w=st.floats(3, 10),
    share=st.floats(0.15, 1.1),
)
def test_dearest_plan_below_the_limit_is_found_and_kept(steps: list[float], idle_w: float, share: float):
    watts = (idle_w + np.cumsum(steps)).tolist()
    limit_w = watts[0] * 1.05 + share * (watts[-1] - watts[0])
    board = Board(watts, limit_w, noise_w=0.02)
    board.run(600)
    late = [watts[rung] for at, rung in board.seen if at >= 60]
    assert float(np.mean(late)) <= limit_w
    # It tries the next plan now and then, and one that is above the limit by a hair for longer.
    assert float(np.mean(np.maximum(np.subtract(late, limit_w), 0))) <= 0.01 * limit_w
    assert sum(drawn > 1.05 * limit_w for drawn in late) <= 0.08 * len(late)
    fits = [rung for rung, drawn in enumerate(watts) if drawn <= 0.93 * limit_w]
    assert np.median([rung for at, rung in board.seen if at >= 120]) >= max(fits, default=0) - 1
    assert board.changes(from_s=300) <= 12  # 300 s, and patience is at five minutes by then at the latest


def test_limit_that_nothing_reaches_changes_nothing():
    board = Board([4.0, 5.0, 6.0], 10.0)
    board.run(60)
    assert board.limit.pressure == 1.0 and board.changes(0) == 0


def test_limit_that_nothing_keeps_leaves_the_cheapest():
    board = Board([6.0, 8.0, 11.0], 5.0)
    board.run(120)
    assert board.limit.pressure == MOST and board.seen[-1][1] == 0


def test_one_spike_changes_nothing():
    limit = PowerLimit(10.0)
    for step in range(40):
        limit.observe(8.0 if step != 20 else 14.0, step * 0.25)
    assert limit.pressure == 1.0


def test_room_is_taken_back_when_the_load_goes():
    board = Board([4.0, 6.0, 9.0, 12.0], 8.0)
    board.run(60)
    narrow = board.seen[-1][1]
    board.watts = [watts * 0.5 for watts in board.watts]  # whatever else drew power has gone
    board.run(120)
    assert narrow == 1 and board.seen[-1][1] == 3


@given(st.lists(st.tuples(st.floats(allow_nan=True, allow_infinity=True), st.floats(-10, 1e6)), max_size=50))
def test_pressure_stays_in_bounds_whatever_the_sensor_says(readings: list[tuple[float, float]]):
    limit = PowerLimit(10.0)
    for power_w, now_s in readings:
        assert 1.0 <= limit.observe(power_w, now_s) <= MOST


@pytest.mark.parametrize("limit_w", [0.0, -3.0, math.inf, math.nan])
def test_limits_that_make_no_sense_are_refused(limit_w: float):
    with pytest.raises(ValueError, match="above 0 W"):
        PowerLimit(limit_w)
