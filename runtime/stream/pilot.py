"""Holds a frame rate by the knob: which plan the next frame gets.

The plans are a ladder along the planner's Pareto set. Each has a predicted latency: from the profile of this device, or
timed while the graphs are loaded. Of those whose 95th percentile fits the time that a frame has, the most accurate is
taken; a `Controller` keeps the predictions true while the device changes.

The time that a frame has is the interval less a reserve. Where the other stages (reading, drawing, encoding) cannot
keep up, it shrinks, which leaves them more of the processor, and grows back slowly.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic, perf_counter
from typing import TYPE_CHECKING

from ..running.controller import Controller, plan_key

if TYPE_CHECKING:
    from ..planning.plan import Plan

RESERVE = 0.95  # of the interval goes to the answer; the rest to what happens between two of them
KEEP, CLIMB = 1.04, 0.97  # of that: a plan is left when it takes more, a dearer one taken when it takes less
CLIMB_AFTER_S = 1.0  # ... and has done so for this long
SHARES = (0.15, 1.0)  # of the interval, when the other stages need the processor
OVERLOADED, RELAXED, IDLE = 0.95, 0.80, 0.50  # how busy another stage may be, and below what it leaves room
SHRINK, GROW, GROW_IDLE = 0.93, 1.02, 1.08
SHARE_EVERY_S = 0.5
CEILING_MEMORY = 1.001  # per half second: a share that overloaded the others is tried again after a minute or two


@dataclass(frozen=True)
class Choice:
    """The plan for one frame, and what it is expected to take (median, milliseconds)."""

    plan: Plan
    predicted_ms: float


class Pilot:
    """Chooses plans for one stream; used by one thread.

    Args:
        plans: cheapest first, each more accurate than those before it.
        predicted_ms: median latency of each on an undisturbed device.
        interval_ms: between two frames.
        headroom: p95 / median of an undisturbed device.
    """

    def __init__(
        self,
        plans: Sequence[Plan],
        predicted_ms: Sequence[float],
        interval_ms: float,
        *,
        headroom: float = 1.1,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        if not plans or len(plans) != len(predicted_ms):
            raise ValueError(f"as many predictions as plans are needed, got {len(plans)} and {len(predicted_ms)}")
        self.choices = [Choice(plan, ms) for plan, ms in zip(plans, predicted_ms)]
        self.controller = Controller(headroom=headroom, clock=clock)
        self.interval_ms = interval_ms
        self.share = SHARES[1]
        self._ceiling = SHARES[1]
        self._clock = clock
        self._rung: int | None = None
        self._fits_since_s: float | None = None
        self._share_checked_s = clock()

    @property
    def budget_ms(self) -> float:
        """What an answer may take now."""
        return self.interval_ms * RESERVE * self.share

    @property
    def too_slow(self) -> bool:
        """Does no plan fit?"""
        return min(self._p95_ms(choice) for choice in self.choices) > self.budget_ms

    def choose(self) -> Choice:
        """The most accurate plan that fits; the fastest where none does."""
        best = self._best(self.budget_ms)
        if self._rung is None:
            self._rung = best
        elif best < self._rung:
            self._fits_since_s = None
            if self._p95_ms(self.choices[self._rung]) > self.budget_ms * KEEP:
                self._rung = best
        else:
            self._climb(self._best(self.budget_ms * CLIMB))
        return self.choices[self._rung]

    def observe(self, choice: Choice, measured_ms: float) -> None:
        """What the chosen plan took."""
        self.controller.observe(choice.predicted_ms, measured_ms, key=plan_key(choice.plan))

    def make_room(self, busiest: float) -> None:
        """Give and take processor time between the answers and the other stages.

        Args:
            busiest: how much of the time the busiest of the others works, in [0, 1].
        """
        now = self._clock()
        if now - self._share_checked_s < SHARE_EVERY_S:
            return
        self._share_checked_s = now
        self._ceiling = min(self._ceiling * CEILING_MEMORY, SHARES[1])
        if busiest > OVERLOADED and self._rung:  # less than the smallest plan would give them nothing
            self._ceiling = max(self.share * SHRINK, SHARES[0])
            self.share = self._ceiling
        elif busiest < IDLE:  # whatever overloaded them is gone
            self.share = self._ceiling = min(self.share * GROW_IDLE, SHARES[1])
        elif busiest < RELAXED:
            self.share = max(min(self.share * GROW, self._ceiling), SHARES[0])

    def _climb(self, dearer: int) -> None:
        now = self._clock()
        if self._rung is None or dearer <= self._rung:
            self._fits_since_s = None
        elif self._fits_since_s is None:
            self._fits_since_s = now
        elif now - self._fits_since_s >= CLIMB_AFTER_S:
            self._rung, self._fits_since_s = dearer, None

    def _best(self, limit_ms: float) -> int:
        for rung in range(len(self.choices) - 1, -1, -1):
            if self._p95_ms(self.choices[rung]) <= limit_ms:
                return rung
        return min(range(len(self.choices)), key=lambda rung: self._p95_ms(self.choices[rung]))

    def _p95_ms(self, choice: Choice) -> float:
        controller = self.controller
        return choice.predicted_ms * controller.headroom * controller.slowdown_for(plan_key(choice.plan))


def time_plans(
    answer: Callable[[Plan], object],
    plans: Sequence[Plan],
    *,
    time_limit_s: float,
    clock: Callable[[], float] = perf_counter,
) -> list[float]:
    """Median milliseconds of each plan, rising; their graphs are loaded already.

    Args:
        plans: cheapest first.
        time_limit_s: rounds over all plans begin until then; the first is always finished.
    """
    samples: list[list[float]] = [[] for _ in plans]
    started = clock()
    while not samples[-1] or (clock() - started < time_limit_s and len(samples[-1]) < 15):
        for taken, plan in zip(samples, plans):
            before = clock()
            answer(plan)
            taken.append((clock() - before) * 1e3)
    return rising([statistics.median(taken) for taken in samples])


def rising(values: Sequence[float]) -> list[float]:
    """The rising numbers nearest to `values`: a dearer plan that seemed faster than a cheaper one was lucky."""
    blocks: list[tuple[float, int]] = []
    for value in values:
        mean, count = value, 1
        while blocks and blocks[-1][0] > mean:
            before, members = blocks.pop()
            mean, count = (mean * count + before * members) / (count + members), count + members
        blocks.append((mean, count))
    return [mean for mean, count in blocks for _ in range(count)]
