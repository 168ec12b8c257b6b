"""The measuring method: in turn, medians, intervals that hold the truth."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path
from types import ModuleType

import pytest

import slimpath

FOLDER = Path(slimpath.__file__).parent / "benchmarks"


@pytest.fixture
def method() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_method", FOLDER / "method.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_candidates_take_turns_and_a_drifting_machine_cancels_out(
    method: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, order = [0.0], []
    speed = itertools.count(1)
    current = [1.0]

    def work(name: str, cost_s: float):
        def call() -> None:
            if not order or order[-1] != name:
                order.append(name)
                current[0] = 1 + 0.01 * (next(speed) // 2)  # slower and slower, the same for both of a pair
            clock[0] += cost_s * current[0]

        return call

    monkeypatch.setattr(method.time, "perf_counter", lambda: clock[0])
    timing = method.in_turn({"a": work("a", 0.002), "b": work("b", 0.001)}, repeats=10, runs=5)
    assert order[-20:] == ["a", "b"] * 10
    ratio, low, high = timing.ratio("a", "b")
    assert low <= ratio <= high and ratio == pytest.approx(2.0, rel=0.02)


def test_ratio_interval_holds_the_median_of_noisy_repeats(method: ModuleType) -> None:
    timing = method.Timing({"a": [2.0, 2.2, 1.9, 2.1, 2.0, 2.4], "b": [1.0, 1.1, 1.0, 1.0, 0.9, 1.0]})
    ratio, low, high = timing.ratio("a", "b")
    assert low <= ratio <= high and low < 2.05 < high + 0.2
    assert timing.median_ms("b") == 1.0


def test_machine_says_processor_system_and_versions(method: ModuleType) -> None:
    facts = method.machine()
    assert facts.keys() == {"processor", "system", "versions"} and "numpy" in facts["versions"]
