"""What `engine()` adds to preprocessing, graphs and postprocessing: `python benchmarks/overhead.py`.

Every session is wrapped so that the time inside its runs is known; the rest of a call, less what it says of
preprocessing and postprocessing, is the engine's own: planning, batching, feeding, the Result. The target is 0.3 ms.
A second table says where it goes (`overhead_where.py`).
Keeps its table for docs/benchmarks.md, unless --quick.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import numpy as np
from method import table
from overhead_sessions import TimedBackend, overheads_ms
from overhead_where import where
from page import keep

from slimpath.runtime import Bundle, Engine
from slimpath.runtime.bundles.bundled import bundled_path

TARGET_MS = 0.3
WORDS = """
The engine's own code takes a fraction of this while its data and instructions are in the caches. Every run of a session
drives them out, so each of the seven runs of six tasks is followed by some 60 us of Python from memory.
"""


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
    print(text, flush=True)
    ways, raw = where(bundle, repeats // 2, runs // 2)
    tried = table(["own time, ms", "one task", f"{len(names)} tasks"], ways)
    print(f"\n{tried}")
    if not arguments.quick:
        title = f"`{bundle.manifest.name}`, one picture of 480 x 640"
        keep("overhead", [(title, text, medians), ("Where it goes, and what was tried", f"{tried}\n{WORDS}", raw)])


if __name__ == "__main__":
    main()
