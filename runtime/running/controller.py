"""Keeps predicted latencies true while the device changes: one factor, learnt from what answers really took.

    slowdown = level * spread / headroom

`level` is the median of measured / predicted over the last answers: heat, a noisy neighbour, a profile from another
day. `spread` is the 95th percentile of the answers around it: with it, 95 % of the answers keep a limit in ms, not
half of them. `headroom` is the spread that the profile has allowed for already: an undisturbed device has slowdown 1.

Slow to hope, quick to fear: three late answers in a row raise the level at once; it comes down only after most of the
last 0.8 s were faster, and then gradually. A single outlier changes nothing. Both take less than a second where it
holds ten answers or more.

Predictions are wrong by some per cent, each plan's by others. A scalar would swing between two plans then: the dearer
one proves late, the cheaper one early, and again. So what a plan's first answers are off by is kept for that plan.

Where the device itself says that it holds its clocks back (heat, power: see `health`), nothing has to be learnt first:
`throttled` raises the level at once, and keeps it from falling back too soon (controller_throttle.py). `press` is for
limits that are not of time: it makes plans cost more than they take, so that narrower ones are chosen.

No thread of its own, and no clock but the one that is passed in: the same answers always give the same factors.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from .controller_parts import PlanBiases, Spread
from .controller_throttle import Throttle

if TYPE_CHECKING:
    from ..planning.plan import Plan

LIMITS = (0.1, 50.0)  # of the slowdown; beyond, a measurement is taken for a broken clock
LEVEL_S = 0.8  # answers of this long make the level: the median changes sides after half of it
LEVEL_COUNTS = (5, 64)  # at least, and at most, so many of them, whatever their age
LATE_IN_A_ROW = 3  # answers beyond the spread: by chance once in 8,000
LEAST_LATE = 0.01  # natural logarithm: 1 % over the prediction is never late
SETTLED = 10  # answers before which what is off is no plan's fault: the level is not known yet
FALL_S = 0.12  # time constant with which the level comes down
NEW_REGIME = 0.12  # when the level moved by this much (natural logarithm), the spread is learnt anew

_Chosen = TypeVar("_Chosen")


@dataclass(frozen=True)
class ControllerState:
    """What the controller believes, for people and metrics: slowdown = level * spread / headroom * pressure.

    `throttle` is how much slower the device says its clocks are, 1 where it says nothing.
    """

    slowdown: float
    level: float
    spread: float
    answers: int
    throttle: float = 1.0
    pressure: float = 1.0


class _Answer(NamedTuple):
    """When, measured / predicted, the same without the plan's bias (natural logarithms), and the plan."""

    at_s: float
    ratio: float
    corrected: float
    key: Hashable


class Controller:
    """Turns measured latencies into the factor that predictions have to be multiplied by. Safe to use from threads.

    Args:
        headroom: p95 / median that predictions are already multiplied by elsewhere (`CostModel.headroom`).
        clock: seconds, rising; used where `observe` is given no time.
    """

    def __init__(self, *, headroom: float = 1.0, clock: Callable[[], float] = monotonic) -> None:
        if not headroom >= 1:
            raise ValueError(f"headroom must be at least 1, got {headroom}")
        self.headroom = headroom
        self._clock = clock
        self._lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self._level = 0.0
        self._anchor = 0.0  # the level that the spread's answers belong to
        # Two answers that were as predicted: one late answer at the start is no reason to believe it.
        self._recent: deque[_Answer] = deque((_Answer(-math.inf, 0.0, 0.0, None),) * 2, maxlen=LEVEL_COUNTS[1])
        self._spread = Spread(math.log(self.headroom))
        self._biases = PlanBiases()
        self._streak = 0
        self._last_s = -math.inf
        self._answers = 0
        self._settled_at = SETTLED
        self._throttle = Throttle()
        self._held = -math.inf  # the floor of the level, see controller_throttle.py
        self._pressure = 1.0

    def reset(self) -> None:
        """Forget everything: after another profile was loaded."""
        with self._lock:
            self._clear()

    @property
    def slowdown(self) -> float:
        """What predictions, headroom included, have to be multiplied by to hold for 95 % of the answers."""
        return self._factor(0.0)

    def slowdown_for(self, key: Hashable) -> float:
        """`slowdown` for one plan (see `plan_key`), whose predictions may be known to be off by some per cent."""
        with self._lock:
            return self._factor(self._biases.get(key, self._last_s))

    @property
    def state(self) -> ControllerState:
        """A snapshot."""
        with self._lock:
            level, spread = math.exp(self._level), math.exp(self._spread.margin)
            return ControllerState(
                self._factor(0.0), level, spread, self._answers, self._throttle.factor, self._pressure
            )

    def choose(self, plan_with: Callable[[float], _Chosen], key: Callable[[_Chosen], Hashable]) -> _Chosen:
        """Plan with the slowdown; where the plan that comes out is known to be slower still, plan again with its own.

        Args:
            plan_with: the planner: slowdown -> plan.
            key: names a plan, as in `observe`.
        """
        slowdown = self.slowdown
        chosen = plan_with(slowdown)
        for _ in range(2):
            own = self.slowdown_for(key(chosen))
            if own <= slowdown * 1.01:
                break
            slowdown = own
            chosen = plan_with(slowdown)
        return chosen

    def observe(
        self, predicted_ms: float, measured_ms: float, now_s: float | None = None, *, key: Hashable = None
    ) -> None:
        """Learn from one answer. Numbers that cannot be latencies are ignored.

        Args:
            predicted_ms: the plan's median on an undisturbed device, without headroom.
            measured_ms: what it took.
            now_s: when it was done, on the clock of this controller.
            key: names the plan (`plan_key`); without one, nothing is remembered for the plan.
        """
        if not (0 < predicted_ms < math.inf and 0 < measured_ms < math.inf):
            return
        ratio = math.log(measured_ms) - math.log(predicted_ms)
        ratio = min(max(ratio, math.log(LIMITS[0])), math.log(LIMITS[1]))
        with self._lock:
            now = max(self._clock() if now_s is None else now_s, self._last_s)
            elapsed, self._last_s = now - self._last_s, now
            self._answers += 1
            self._held = self._throttle.floor(now)
            residual = ratio - self._biases.get(key, now) - self._level
            late = residual > max(self._spread.margin, LEAST_LATE)
            if self._answers > self._settled_at:
                self._biases.learn(key, residual, now, late=late)
            self._recent.append(_Answer(now, ratio, ratio - self._biases.get(key, now), key))
            self._streak = self._streak + 1 if late else 0
            if self._streak >= LATE_IN_A_ROW:
                self._jump()
            else:
                self._spread.add(residual)
                self._follow(elapsed)

    def throttled(self, factor: float, now_s: float | None = None) -> None:
        """What the device says of its clocks; say it as often as it is read.

        Args:
            factor: how many times slower they run than they may, at least 1; 1 for no brake.
            now_s: when, on the clock of this controller.
        """
        if not 1 <= factor < math.inf:
            raise ValueError(f"a brake's factor must be at least 1, got {factor}")
        with self._lock:
            now = self._clock() if now_s is None else now_s
            level = self._throttle.tell(factor, self._level, now)
            if level is not None and level > self._level:
                self._raise(level, now)
            self._held = self._throttle.floor(now)

    def press(self, pressure: float) -> None:
        """Take plans to cost so many times what they do, at least 1: for limits of power."""
        if not 1 <= pressure < math.inf:
            raise ValueError(f"a pressure must be at least 1, got {pressure}")
        with self._lock:
            self._pressure = pressure

    def _raise(self, level: float, now_s: float) -> None:
        """Believe a level that no answer has shown yet. Answers from before it say nothing of it, nor of plans."""
        self._recent.clear()
        self._recent.extend((_Answer(now_s, level, level, None),) * 2)
        self._streak = 0
        self._settled_at = self._answers + SETTLED
        self._move_to(level)

    def _factor(self, bias: float) -> float:
        level = max(self._level, self._held)
        slowdown = math.exp(level + self._spread.margin + bias) / self.headroom * self._pressure
        return min(max(slowdown, LIMITS[0]), LIMITS[1])

    def _follow(self, elapsed: float) -> None:
        """Bring the level to the median of the last answers: up at once, down gradually."""
        while len(self._recent) > LEVEL_COUNTS[0] and self._recent[0].at_s < self._last_s - LEVEL_S:
            self._recent.popleft()
        target = _median([answer.corrected for answer in self._recent])
        if target < self._level:
            target += (self._level - target) * math.exp(-elapsed / FALL_S)
        self._move_to(target)

    def _jump(self) -> None:
        """Late again and again: it is the device. The level comes from these answers alone."""
        self._biases.acquit()
        late = list(self._recent)[-LATE_IN_A_ROW:]
        self._recent.clear()
        for answer in late:
            bias = self._biases.get(answer.key, self._last_s)
            self._recent.append(answer._replace(corrected=answer.ratio - bias))
        self._streak = 0
        self._move_to(max(_median([answer.corrected for answer in self._recent]), self._level))

    def _move_to(self, level: float) -> None:
        self._level = level
        if abs(level - self._anchor) > NEW_REGIME:
            self._anchor = level
            self._spread.clear()


def plan_key(plan: Plan) -> Hashable:
    """What makes two plans the same work: size, widths, experts, precision."""
    return plan.size_hw, plan.encoder_width, plan.top_k, tuple(plan.decoder_widths.items()), plan.precision


def _median(values: list[float]) -> float:
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2
