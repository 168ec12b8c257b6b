"""What `engine()` adds to preprocessing, graphs and postprocessing: `python benchmarks/overhead.py`.

Every session is wrapped so that the time inside its runs is known; the rest of a call, less what it says of
preprocessing and postprocessing, is the engine's own: planning, batching, feeding, the Result. The target is 0.3 ms.
Keeps its table for docs/benchmarks.md, unless --quick.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from method import table
from page import keep

from slimpath.runtime import Bundle, Engine
from slimpath.runtime.backends.base import Session, Tier
from slimpath.runtime.backends.ort import OrtBackend
from slimpath.runtime.bundles.bundled import bundled_path

TARGET_MS = 0.3


class TimedBackend(OrtBackend):
    """ONNX Runtime, remembering how long the runs of all its sessions took."""

    def __init__(self) -> None:
        super().__init__()
        self.spent_s = 0.0

    def load(self, graph: bytes, folder: Path, *, tier: Tier = "packed") -> TimedSession:  # type: ignore[override]
        return TimedSession(super().load(graph, folder, tier=tier), self)


class TimedSession:
    """A session whose runs are timed, feeds and outputs included."""

    def __init__(self, session: Session, backend: TimedBackend) -> None:
        self.inputs, self.outputs = session.inputs, session.outputs
        self._session, self._backend = session, backend

    def run(self, feeds: Mapping[str, np.ndarray], *, shrink: bool = False) -> dict[str, np.ndarray]:
        started = time.perf_counter()
        outputs = self._session.run(feeds, shrink=shrink)
        self._backend.spent_s += time.perf_counter() - started
        return outputs

    def memory_bytes(self) -> int | None:
        return self._session.memory_bytes()

    def close(self) -> None:
        self._session.close()


def overheads_ms(engine: Engine, backend: TimedBackend, tasks: list[str], budget: str | None, runs: int) -> list[float]:
    """The engine's own milliseconds of every call; half of the calls warm up and do not count."""
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    samples = []
    for _ in range(2 * runs):
        backend.spent_s = 0.0
        started = time.perf_counter()
        result = engine(image, tasks, budget)
        total_ms = (time.perf_counter() - started) * 1e3
        parts_ms = result.timings_ms["preprocess"] + result.timings_ms["postprocess"] + backend.spent_s * 1e3
        samples.append(total_ms - parts_ms)
    return samples[runs:]


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=None, help="a bundle; the bundled model by default")
    parser.add_argument("--quick", action="store_true", help="few runs, nothing written")
    arguments = parser.parse_args()
    repeats, runs = (2, 10) if arguments.quick else (10, 50)
    bundle = Bundle.open(arguments.bundle or bundled_path())
    backend = TimedBackend()
    engine = Engine(bundle, backend, tier="packed")
    names = list(bundle.manifest.task_names)
    cases = [
        ("one task", names[:1], None),
        ("one task, at half the FLOPs", names[:1], "0.5"),
        ("all tasks", names, None),
    ]
    medians: dict[str, list[float]] = {case[0]: [] for case in cases}
    for _ in range(repeats):
        for name, tasks, budget in cases:
            medians[name].append(statistics.median(overheads_ms(engine, backend, tasks, budget, runs)))
    rows, rng = [], np.random.default_rng(0)
    for name, values in medians.items():
        draws = np.median(rng.choice(values, (2000, len(values))), axis=1)
        low, high = np.percentile(draws, [2.5, 97.5])
        verdict = "met" if low <= TARGET_MS else "missed"
        rows.append([name, f"{statistics.median(values):.3f} ({low:.3f} to {high:.3f})", f"{TARGET_MS}", verdict])
    text = table(["call", "own time, ms", "target", "verdict"], rows)
    print(text)
    if not arguments.quick:
        keep("overhead", [(f"`{bundle.manifest.name}`, one picture of 480 x 640", text, medians)])


if __name__ == "__main__":
    main()
