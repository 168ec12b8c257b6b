"""The slope of a server's memory: found where there is one, not seen where there is none."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from slimpath.tests.scripts import load_script

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
TIMES_S = [2.0 * number for number in range(600)]  # 20 minutes


@pytest.fixture
def soak(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load_script("service_soak", monkeypatch)


def memory_mb(mb_per_h: float, seed: int) -> list[float]:
    """A level that wanders for seconds, as arenas do, and grows."""
    noise = np.random.default_rng(seed).normal(0, 1, len(TIMES_S))
    wandering = np.convolve(noise, np.ones(10) / 10, mode="same")
    return [300 + mb_per_h / 3600 * time + float(off) for time, off in zip(TIMES_S, wandering)]


def test_the_interval_of_a_flat_memory_nearly_always_holds_zero(soak: ModuleType) -> None:
    held = 0
    for seed in range(10):
        _, low, high = soak.slope_mb_per_h(TIMES_S, memory_mb(0.0, seed), 60.0)
        held += low <= 0 <= high
    assert held >= 7


def test_a_leak_of_ten_megabytes_an_hour_is_seen(soak: ModuleType) -> None:
    slope, low, high = soak.slope_mb_per_h(TIMES_S, memory_mb(10.0, 0), 60.0)
    assert low > 1.0
    assert slope == pytest.approx(10.0, abs=3.0)
    assert low < slope < high
