"""Are budgets in ms kept, and used? `python benchmarks/budgets.py`: 1,000 requests, a neighbour for half of them.

Random tasks, preferences and budgets between what the cheapest and the dearest configuration take (95th percentile,
predicted; with the neighbour as much more as it slows down). A budget is kept when one engine() call, planning
included, takes at most 1.1 x the budget. How far budgets are used is measured for some of the requests: the median
latency of the plan that was chosen over that of the dearest one on the planner's Pareto set whose measured 95th
percentile fits.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from film import frames
from method import table
from neighbour import Neighbour
from page import keep

from slimpath.runtime import Engine, Plan
from slimpath.runtime.profiling.calibrate import calibrate

ADAPT_S = 1.0
PREFERENCES = (1.0, 2.0, 4.0)
CURVE_POINTS = 40
USED_SAMPLES, USED_RUNS = 40, 25


@dataclass(frozen=True)
class Asked:
    """One request and what became of it."""

    tasks: dict[str, float]
    budget_ms: float
    took_ms: float
    at_s: float
    plan: Plan

    @property
    def kept(self) -> bool:
        return self.took_ms <= 1.1 * self.budget_ms


def requests(engine: Engine, rng: np.random.Generator) -> Iterator[tuple[dict[str, float], tuple[float, float]]]:
    """Random tasks with preferences, and the range of feasible budgets, without end."""
    names = list(engine.tasks)
    while True:
        chosen = rng.permutation(names)[: rng.integers(1, len(names) + 1)]
        tasks = {str(task): float(rng.choice(PREFERENCES)) for task in chosen}
        curve = engine.curve(tasks, points=CURVE_POINTS)
        ends = [plan.p95_ms for plan in (curve[0], curve[-1])]
        assert ends[0] is not None and ends[1] is not None, "no profile"
        yield tasks, (1.02 * ends[0], 1.1 * ends[1])


def ask(
    engine: Engine, pictures: Iterator[np.ndarray], rng: np.random.Generator, *, goes_on: Callable[[int, float], bool]
) -> list[Asked]:
    """Requests back to back, while `goes_on(count, seconds)`."""
    found: list[Asked] = []
    started = time.perf_counter()
    for tasks, (least_ms, most_ms) in requests(engine, rng):
        if not goes_on(len(found), time.perf_counter() - started):
            return found
        controller = engine.controller
        slower = 1.0 if controller is None else max(controller.slowdown, 1.0)
        budget_ms = float(np.exp(rng.uniform(np.log(least_ms * slower), np.log(most_ms * slower))))
        image = next(pictures)
        before = time.perf_counter()
        result = engine(image, tasks, f"{budget_ms:.3f}ms")
        after = time.perf_counter()
        found.append(Asked(tasks, budget_ms, (after - before) * 1e3, after - started, result.plan))
    raise AssertionError("requests have no end")


def used(engine: Engine, asked: Asked, pictures: Iterator[np.ndarray]) -> float:
    """Median latency of the chosen plan over that of the dearest whose measured 95th percentile fits the budget."""

    def measure(plan: Plan) -> tuple[float, float]:
        samples = []
        for _ in range(USED_RUNS):
            image, before = next(pictures), time.perf_counter()
            engine(image, budget=plan)
            samples.append((time.perf_counter() - before) * 1e3)
        return float(np.median(samples)), float(np.quantile(samples, 0.95))

    chosen_ms, _ = measure(asked.plan)
    curve = engine.curve(asked.tasks, points=CURVE_POINTS)
    low, high = 0, len(curve)  # the dearest that fits is in [low, high); latencies rise along the curve
    best_ms = chosen_ms if low else 0.0
    while low < high:
        middle = (low + high) // 2
        median_ms, p95_ms = measure(curve[middle])
        if p95_ms <= asked.budget_ms:
            best_ms, low = median_ms, middle + 1
        else:
            high = middle
    return chosen_ms / best_ms if best_ms else 1.0


def summary(name: str, asked: list[Asked]) -> list[str]:
    """One line of the table."""
    kept = np.mean([one.kept for one in asked])
    share = np.median([one.took_ms / one.budget_ms for one in asked])
    late = np.quantile([one.took_ms / one.budget_ms for one in asked], [0.95, 0.99])
    return [name, str(len(asked)), f"{kept:.1%}", f"{share:.2f}", f"{late[0]:.2f}", f"{late[1]:.2f}"]


HEAD = ["", "requests", "within 1.1 x budget", "took / budget, median", "p95", "p99"]


def measure(count: int, seed: int, calibrate_s: float) -> tuple[str, str, dict[str, object]]:
    """Title, table and raw figures."""
    rng = np.random.default_rng(seed)
    film = [cv2.cvtColor(frame, cv2.COLOR_BGR2RGB) for frame in frames(30.0, 2.0, (480, 640))]
    pictures = itertools.cycle(film)
    with Engine.load() as engine:
        if engine.profile is None:
            calibrate(engine, time_limit_s=calibrate_s, images=film[::6]).save()
    with Engine.load() as engine:
        engine.warm()
        settled = ask(engine, pictures, rng, goes_on=lambda number, seconds: number < 30)
        alone = ask(engine, pictures, rng, goes_on=lambda number, seconds: number < count // 2)
        with Neighbour():
            adapting = ask(engine, pictures, rng, goes_on=lambda number, seconds: seconds < ADAPT_S)
            disturbed = ask(engine, pictures, rng, goes_on=lambda number, seconds: number < count - count // 2)
        recovering = ask(engine, pictures, rng, goes_on=lambda number, seconds: seconds < ADAPT_S)
        after = ask(engine, pictures, rng, goes_on=lambda number, seconds: number < count // 10)
        sample = [alone[int(index)] for index in rng.choice(len(alone), min(USED_SAMPLES, len(alone)), replace=False)]
        uses = [used(engine, one, pictures) for one in sample]
        name = engine.bundle.manifest.name
    phases = {
        "first 30": settled, "alone": alone, "first second with a neighbour": adapting, "with a neighbour": disturbed,
        "first second without it": recovering, "alone again": after,
    }  # fmt: skip
    text = table(HEAD, [summary(phase, asked) for phase, asked in phases.items() if asked])
    low, middle, high = np.quantile(uses, [0.1, 0.5, 0.9])
    text += (
        f"\nUse of the budget: {middle:.0%} of the dearest configuration whose measured p95 fits "
        f"(median of {len(uses)} requests alone; 10 % below {low:.0%}, 10 % above {high:.0%}).\n"
    )
    raw: dict[str, Any] = {
        phase: [[one.budget_ms, one.took_ms, one.at_s] for one in asked] for phase, asked in phases.items()
    }
    return f"Budgets in milliseconds, {count} requests (`{name}`)", text, {**raw, "used": uses}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--calibrate", type=float, default=60.0, help="seconds, where there is no profile yet")
    parser.add_argument("--quick", action="store_true", help="nothing is kept")
    arguments = parser.parse_args()
    title, text, raw = measure(arguments.requests, arguments.seed, arguments.calibrate)
    print(f"\n## {title}\n\n{text}")
    if not arguments.quick:
        keep("budgets", [(title, text, raw)])


if __name__ == "__main__":
    main()
