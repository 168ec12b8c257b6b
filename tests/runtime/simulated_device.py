"""A device on paper: configurations with true costs, a profile of them that is a little wrong, noise, and disturbances.

What a test of the controller needs to answer a thousand requests in a moment, the same ones every time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from slimpath.runtime.running.controller import Controller

TRACE = Path(__file__).resolve().parent.parent / "fixtures" / "latency_trace.json"


@dataclass(frozen=True)
class Phase:
    """A part of a recording: answers as (when, milliseconds), and the neighbour that there was, if any."""

    neighbour: str
    answers: list[tuple[float, float]]


@dataclass(frozen=True)
class Trace:
    """Real answers, one after the other, while noisy neighbours came and went; see benchmarks/record_latencies.py.

    Args:
        phases: alone ("") and with a neighbour, in turn.
        median_ms: of the first one.
    """

    phases: list[Phase]
    median_ms: float

    def ratios(self, *neighbours: str) -> list[float]:
        """Latencies over the undisturbed median, beside these neighbours."""
        return [
            ms / self.median_ms for phase in self.phases if phase.neighbour in neighbours for _, ms in phase.answers
        ]


def load_trace() -> Trace:
    """The recording of the fixtures."""
    recorded = json.loads(TRACE.read_text())
    answers = [(at_s, ms) for at_s, ms in recorded["answers_s_ms"]]
    phases, began_s = [], 0.0
    for neighbour in (*recorded["neighbours"], {"how": "", "from_s": math.inf, "to_s": math.inf}):
        from_s, to_s = neighbour["from_s"], neighbour["to_s"]
        phases.append(Phase("", [answer for answer in answers if began_s <= answer[0] < from_s]))
        phases.append(Phase(neighbour["how"], [answer for answer in answers if from_s <= answer[0] < to_s]))
        began_s = to_s
    return Trace(phases[:-1], recorded["median_alone_ms"])


@dataclass
class Device:
    """Answers take true cost x disturbance(now) x noise.

    Args:
        true_ms: what each configuration costs on an undisturbed device, rising.
        predicted_ms: what the profile says.
        noise: a factor for each answer, given the moment.
        now_s: the simulated clock; `run` moves it on.
    """

    true_ms: Sequence[float]
    predicted_ms: Sequence[float]
    noise: Callable[[float], float]
    now_s: float = 0.0
    controller: Controller = field(default_factory=lambda: Controller(headroom=1.08))

    def plan(self, budget_ms: float) -> int:
        """The dearest configuration whose prediction fits, as the planner would choose it; else the cheapest."""

        def fits(slowdown: float) -> int:
            limit = budget_ms / (slowdown * self.controller.headroom)
            return max((i for i, predicted in enumerate(self.predicted_ms) if predicted <= limit), default=0)

        return self.controller.choose(fits, key=lambda index: index)

    def run(self, index: int, *, gap_ms: float = 0.0) -> float:
        """Answer with one configuration, let the controller see it; milliseconds."""
        measured_ms = self.true_ms[index] * self.noise(self.now_s)
        self.now_s += measured_ms / 1e3
        self.controller.observe(self.predicted_ms[index], measured_ms, self.now_s, key=index)
        self.now_s += gap_ms / 1e3
        return measured_ms


def make_device(
    rng: np.random.Generator, noise: Callable[[float], float], *, configurations: int = 40, error: float = 0.05
) -> Device:
    """A device of `configurations` between 8 and 80 ms, whose profile is off by `error` (standard deviation)."""
    true_ms = np.geomspace(8, 80, configurations)
    wrong = np.exp(rng.normal(0, error, configurations))
    return Device(true_ms.tolist(), (true_ms * wrong).tolist(), noise)


def replayed(trace: Sequence[float], rng: np.random.Generator) -> Callable[[float], float]:
    """Noise from a recording, from a random place on, round and round: bursts stay bursts."""
    start = int(rng.integers(len(trace)))
    position = iter(range(start, start + 10**9))
    return lambda now_s: trace[next(position) % len(trace)]
