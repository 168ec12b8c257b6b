"""How ratios are measured: side by side in one process, in turn, warmed up, many times; medians with intervals.

One repeat times each candidate for `runs` calls, in turn (A B A B ...), so that a machine that speeds up or slows
down does so for all of them. The ratio of a repeat is that of its medians; the figure is the median over repeats, its
interval the 95 % bootstrap over repeats. A candidate against itself (A/A) shows how good the method is.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np

PACKAGES = ("slimpath", "onnxruntime", "numpy", "opencv-python-headless", "torch", "onnx")


@dataclass(frozen=True)
class Timing:
    """Median milliseconds of every repeat, by candidate."""

    repeats_ms: Mapping[str, list[float]]

    def median_ms(self, name: str) -> float:
        return statistics.median(self.repeats_ms[name])

    def ratio(self, name: str, base: str) -> tuple[float, float, float]:
        """Median ratio name / base over repeats, and its 95 % bootstrap interval."""
        return interval(np.array(self.repeats_ms[name]) / np.array(self.repeats_ms[base]))


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Median of some repeats' figures, and its 95 % bootstrap interval."""
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(values, size=(2000, len(values))), axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    return float(np.median(values)), float(low), float(high)


def verdict(value: tuple[float, float, float], target: float) -> str:
    """A target is met if the lower bound of the interval is at or under it."""
    return "met" if value[1] <= target else "missed"


def in_turn(candidates: Mapping[str, Callable[[], object]], *, repeats: int, runs: int, warm_up: int = 5) -> Timing:
    """Time callables in turn; see the head of this file."""
    for call in candidates.values():
        for _ in range(warm_up):
            call()
    medians: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, call in candidates.items():
            medians[name].append(_median_ms(call, runs))
    return Timing(medians)


def _median_ms(call: Callable[[], object], runs: int) -> float:
    samples = []
    for _ in range(runs):
        started = time.perf_counter()
        call()
        samples.append((time.perf_counter() - started) * 1e3)
    return statistics.median(samples)


def machine() -> dict[str, str]:
    """What a figure depends on, in words."""
    info = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next(
        (line.split(":", 1)[1].strip() for line in info if line.startswith("model name")), platform.processor()
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return {
        "processor": f"{model}, {cores} cores",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": ", ".join(versions),
    }


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def with_interval(value: tuple[float, float, float]) -> str:
    return f"{value[0]:.2f} ({value[1]:.2f} to {value[2]:.2f})"
