"""Real latencies, with noisy neighbours and without, for the tests: `python benchmarks/record_latencies.py`.

Answers one request over and over with the bundled model while other processes come and go, in one recording: alone,
beside one that counts (one core), alone, beside one that multiplies matrices (all cores), alone. Writes
tests/fixtures/latency_trace.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
from method import machine
from neighbour import Neighbour

from slimpath.runtime import Engine

OUT = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "latency_trace.json"


def main() -> None:
    """Record and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--phase", type=float, default=5.0, help="seconds of each of the five phases")
    parser.add_argument("--tasks", default="depth")
    parser.add_argument("--budget", default="0.5")
    arguments = parser.parse_args()
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    answers: list[tuple[float, float]] = []
    with Engine.load() as engine:
        plan = engine.plan(arguments.tasks, arguments.budget)
        for _ in range(30):
            engine(image, budget=plan)
        started = time.perf_counter()

        def answer_until(end_s: float) -> None:
            while (before := time.perf_counter()) < started + end_s:
                engine(image, budget=plan)
                after = time.perf_counter()
                answers.append((round(after - started, 4), round((after - before) * 1e3, 3)))

        neighbours = []
        answer_until(arguments.phase)
        for how in ("counts", "multiplies"):
            with Neighbour(how) as neighbour:
                from_s = neighbour.since_s - started
                answer_until(from_s + arguments.phase)
            to_s = time.perf_counter() - started
            neighbours.append({"how": how, "from_s": round(from_s, 3), "to_s": round(to_s, 3)})
            answer_until(to_s + arguments.phase)
    alone = statistics.median(ms for at_s, ms in answers if at_s < neighbours[0]["from_s"])
    document = {
        "what": f"engine() of {engine.bundle.manifest.name}, tasks {arguments.tasks}, budget {arguments.budget}, "
        "back to back; each of `neighbours` is another process",
        "machine": machine(),
        "median_alone_ms": alone,
        "neighbours": neighbours,
        "answers_s_ms": answers,
    }
    OUT.write_text(json.dumps(document) + "\n")
    print(f"{len(answers)} answers, median alone {alone:.2f} ms: {OUT}")


if __name__ == "__main__":
    main()
