"""What planning costs: `python benchmarks/planning.py` prints a table for docs/planner.md.

The bundled model's manifest with made-up latencies (FLOPs at 150 GFLOP/s, each graph up to 10 % off, so that no two
cost the same): as many distinct points as a profile gives. CPU time of the calling thread, median over requests.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from typing import Any

from method import machine, table

from slimpath.runtime import Planner, bundled_path
from slimpath.runtime.bundles.manifest import GraphSpec, read_manifest
from slimpath.runtime.planning.costs import FlopsCosts, PartCost

FLOPS_PER_MS = 150e6
REPEATS = 400


class MadeUpProfile(FlopsCosts):
    """Every price known, none of them measured."""

    name = "profile"
    key = "made up"
    headroom = 1.1

    def encoder(self, graph: GraphSpec, *, images: int, rows: int, top_k: int) -> PartCost:
        return _priced(f"{graph.file} {rows} {top_k}", super().encoder(graph, images=images, rows=rows, top_k=top_k))

    def head(self, graph: GraphSpec, *, rows: int) -> PartCost:
        return _priced(f"{graph.file} {rows}", super().head(graph, rows=rows))

    def call(self, size_hw: tuple[int, int], tasks: Sequence[str]) -> PartCost:
        return _priced(f"call {len(tasks)}", super().call(size_hw, tasks))


def _priced(what: str, cost: PartCost) -> PartCost:
    latency_ms = 0.5 + cost.flops / FLOPS_PER_MS * random.Random(what).uniform(0.9, 1.1)
    return PartCost(cost.flops, latency_ms, cost.weights_mb, 4.0, 20 * latency_ms, False)


def median_us(call: Callable[[Any], object], arguments: Iterator[Any], repeats: int = REPEATS) -> float:
    """Median CPU time of one call, in microseconds; a call is timed in tens, as the clock is coarse."""
    samples = []
    for _ in range(repeats // 10):
        ten = [next(arguments) for _ in range(10)]
        started = time.thread_time()
        for argument in ten:
            call(argument)
        samples.append((time.thread_time() - started) / 10 * 1e6)
    return statistics.median(samples)


def main() -> None:
    manifest = read_manifest((bundled_path() / "manifest.json").read_bytes())
    planner, names = Planner(manifest, MadeUpProfile()), list(manifest.task_names)
    rng = random.Random(0)

    def new_preferences(count: int) -> Iterator[dict[str, float]]:
        while True:
            yield {name: rng.uniform(0.5, 4) for name in names[:count]}

    def new_numbers() -> Iterator[float]:
        while True:
            yield rng.uniform(20, 50)

    plan, again = planner.plan, {"depth": 2, "edge": 1}
    measured_us = {
        "the same request again": median_us(lambda tasks: plan(tasks, "20ms"), repeat("depth=2,semseg")),
        "the same, tasks as a dict": median_us(lambda tasks: plan(tasks, "20ms"), repeat(again)),
        "6 tasks, another slowdown each time": median_us(lambda n: plan(None, "60ms", slowdown=n / 30), new_numbers()),
        "6 tasks, another budget each time": median_us(lambda n: plan(None, f"{n}ms"), new_numbers()),
        "6 tasks, two limits, another each time": median_us(lambda n: plan(None, f"{n}ms,20MB"), new_numbers()),
        "2 tasks, preferences never seen before": median_us(lambda t: plan(t, "20ms"), new_preferences(2), 100),
        "6 tasks, preferences never seen before": median_us(lambda t: plan(t, "30ms"), new_preferences(6), 100),
        "the same, two limits": median_us(lambda t: plan(t, "30ms,20MB"), new_preferences(6), 50),
    }
    print(table(["request", "microseconds"], [[what, f"{float(f'{us:.3g}'):,g}"] for what, us in measured_us.items()]))
    print("; ".join(machine().values()))


if __name__ == "__main__":
    main()
