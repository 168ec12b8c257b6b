"""What switching costs: `python benchmarks/switching.py`.

    tasks    alternating between tasks, against staying on each                                    target <= 1.05
    warm     the first answer at any width after `warm()`, over its steady latency                 target <= 50 ms
    cold     the same in a new engine that loaded nothing (libraries imported, files in the page cache) <= 250 ms

Whole engine, one task, from a 480 x 640 array. Steady is the median once the configuration is packed. Prints tables
and keeps them for docs/benchmarks.md unless --quick.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from graphs import photographs, small_bundle
from method import in_turn, table, with_interval
from page import Section, keep

from slimpath.runtime import Bundle, Engine
from slimpath.runtime.bundles.bundled import bundled_path

WARM_MS, COLD_MS, TASKS_RATIO = 50.0, 250.0, 1.05

TITLES = {"tasks": "alternating tasks against staying on one", "first": "the first answer at a width"}


def tasks(bundle: Bundle, image: np.ndarray, repeats: int, runs: int) -> tuple[str, dict[str, Any]]:
    """A round through all tasks, against the sum of what each takes alone, again and again."""
    names = list(bundle.manifest.task_names)
    rows, raw = [], {}
    with Engine.load(bundle, tier="packed", profile=None) as engine:
        for width in (1.0, min(bundle.manifest.widths)):
            calls = _rounds(engine, image, names, f"width={width:g}")
            timing = in_turn(calls, repeats=repeats, runs=runs)
            raw[f"{width:g}"] = dict(timing.repeats_ms)
            staying = np.sum([timing.repeats_ms[name] for name in names], axis=0)
            ratio = _ratio(np.array(timing.repeats_ms["alternating"]), staying)
            cells = [f"{width:g}", f"{timing.median_ms('alternating') / len(names):.2f}"]
            cells += [f"{statistics.median(staying) / len(names):.2f}", with_interval(ratio)]
            rows.append([*cells, "met" if ratio[1] <= TASKS_RATIO else "missed"])
    head = ["width", "alternating, ms a task", "staying, ms a task", "alternating / staying", f"<= {TASKS_RATIO}"]
    return table(head, rows), raw


def _rounds(engine: Engine, image: np.ndarray, names: list[str], budget: str) -> dict[str, Callable[[], object]]:
    """Each task by itself, and all of them in turn."""
    calls: dict[str, Callable[[], object]] = {name: lambda name=name: engine(image, name, budget) for name in names}
    calls["alternating"] = lambda: [engine(image, name, budget) for name in names]
    return calls


def _ratio(left: np.ndarray, right: np.ndarray) -> tuple[float, float, float]:
    """Median and 95 % bootstrap interval over repeats, as in `Timing.ratio`."""
    ratios = left / right
    medians = np.median(np.random.default_rng(0).choice(ratios, (2000, len(ratios))), axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    return float(np.median(ratios)), float(low), float(high)


def first_answers(bundle: Bundle, image: np.ndarray, engines: int, runs: int) -> tuple[str, dict[str, Any]]:
    """First answers at each width, in engines of their own, after `warm()` and without."""
    task = bundle.manifest.task_names[0]
    widths = sorted(bundle.manifest.widths, reverse=True)
    over: dict[str, dict[str, list[float]]] = {f"{width:g}": {"warm": [], "cold": [], "steady": []} for width in widths}
    for _ in range(engines):
        for width in widths:  # a cold engine each: nothing of another width may be there
            over[f"{width:g}"]["cold"].append(_first_ms(bundle, image, task, width))
        with Engine.load(bundle, profile=None) as engine:
            engine.warm()
            for width in widths:
                over[f"{width:g}"]["warm"].append(_call_ms(engine, image, task, width))
            engine.warm(task, [f"width={width:g}" for width in widths])
            engine.sessions.wait()
            for width in widths:
                times = [_call_ms(engine, image, task, width) for _ in range(runs)]
                over[f"{width:g}"]["steady"].append(statistics.median(times))
    rows = []
    for width, found in over.items():
        steady = statistics.median(found["steady"])
        cells = [width, f"{steady:.1f}"]
        for name, target in (("warm", WARM_MS), ("cold", COLD_MS)):
            extra = sorted(value - steady for value in found[name])
            verdict = "met" if extra[-1] <= target else "missed"
            cells += [f"{statistics.median(extra):.1f}, at most {extra[-1]:.1f}", verdict]
        rows.append(cells)
    head = ["width", "steady, ms", "first after warm(), over it", f"<= {WARM_MS:g}", "first without, over it"]
    return table([*head, f"<= {COLD_MS:g}"], rows), over


def _first_ms(bundle: Bundle, image: np.ndarray, task: str, width: float) -> float:
    with Engine.load(bundle, profile=None) as engine:
        return _call_ms(engine, image, task, width)


def _call_ms(engine: Engine, image: np.ndarray, task: str, width: float) -> float:
    started = time.perf_counter()
    engine(image, task, f"width={width:g}")
    return (time.perf_counter() - started) * 1e3


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=None, help="only this bundle")
    parser.add_argument("--small", type=Path, default=None, help="m3vit_small with random weights; exported if missing")
    parser.add_argument("--quick", action="store_true", help="the bundled model alone, few repeats, nothing written")
    arguments = parser.parse_args()
    repeats, runs, engines = (3, 5, 2) if arguments.quick else (10, 50, 8)
    image = photographs(1)[0]
    found: list[Section] = []
    with tempfile.TemporaryDirectory(prefix="slimpath-switching-") as name:
        bundles = [Bundle.open(arguments.bundle or bundled_path())]
        if not (arguments.bundle or arguments.quick):
            bundles.append(small_bundle(arguments.small or Path(name) / "m3vit_small"))
        for bundle in bundles:
            with Engine.load(bundle, profile=None) as engine:
                engine(image)  # imports the libraries, brings the files into the page cache
            parts = {
                "tasks": tasks(bundle, image, repeats, runs),
                "first": first_answers(bundle, image, engines, max(runs // 2, 5)),
            }
            for part, (text, raw) in parts.items():
                found.append((f"`{bundle.manifest.name}`: {TITLES[part]}", text, raw))
                print(f"\n### {bundle.manifest.name}: {part}\n\n{text}", flush=True)
    if not arguments.quick:
        keep("switching", found)


if __name__ == "__main__":
    main()
