"""The comparison with another server: the same work on both sides, ratios round by round, targets told honestly."""

from __future__ import annotations

import importlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from slimpath.runtime.cpus import usable_cpus
from slimpath.tests.scripts import load_script

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def rival(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load_script("rival_litserve", monkeypatch)


@pytest.fixture
def throughput(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load_script("service_throughput", monkeypatch)


def answers() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {"semseg": rng.integers(0, 5, (50, 60), np.uint8), "depth": rng.random((50, 60), np.float32)}


def test_equal_answers_are_the_same_work_also_with_rounding(rival: ModuleType) -> None:
    rounded = {**answers(), "depth": answers()["depth"] + np.float32(1e-5)}
    rival.check_same(answers(), rounded)


@pytest.mark.parametrize(
    "other",
    [
        {"semseg": answers()["semseg"]},
        {**answers(), "depth": answers()["depth"][:, :-1]},
        {**answers(), "depth": answers()["depth"].astype(np.float64)},
        {**answers(), "depth": answers()["depth"] * 1.1},
        {**answers(), "semseg": (answers()["semseg"] + 1).astype(np.uint8)},
    ],
    ids=["a task is missing", "another size", "another type", "other values", "other classes"],
)
def test_a_server_that_does_less_or_other_work_is_no_rival(rival: ModuleType, other: dict[str, np.ndarray]) -> None:
    with pytest.raises(RuntimeError):
        rival.check_same(answers(), other)


def test_the_settings_that_were_tuned_are_taken(
    rival: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page = importlib.import_module("page")
    for module in (rival, page):
        monkeypatch.setattr(module, "MEASURED", tmp_path)
    assert rival.best_settings() == rival.Settings()
    best = replace(rival.Settings(), workers=2, threads=1, batch=4, batch_timeout_s=0.002)
    kept = {"sections": [{"title": "", "text": "", "figures": {"best": asdict(best)}}]}
    (tmp_path / f"{rival.PART}.json").write_text(json.dumps(kept))
    assert rival.best_settings() == best
    assert str(best) == "2 x 1 threads, spinning slimpath, batches of 4 in 2 ms, ZeroMQ, 1 HTTP"


def test_tuning_goes_through_all_stages_and_ends_with_the_fastest(
    rival: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Started:
        def __init__(self, python: str, settings: Any) -> None:
            self.url = settings

        def __enter__(self) -> Started:
            return self

        def __exit__(self, *error: object) -> None:
            pass

    def closed_loop(settings: Any, seconds: float, options: dict[str, str]) -> Any:
        rate = settings.workers + 5 * (settings.threads == 1) + settings.batch / 10 + settings.fast_queue
        report = SimpleNamespace(throughput_per_s=rate, latency_ms={"p99": 1e3 / rate})
        return SimpleNamespace(report=report)

    monkeypatch.setattr(rival, "LitServed", Started)
    monkeypatch.setattr(rival, "closed_loop", closed_loop)
    monkeypatch.setattr(rival, "version", lambda python: "LitServe 0")
    _, text, figures = rival.tune("python", 0.0, 2)
    best = rival.Settings(**figures["best"])
    assert (best.threads, best.batch, best.fast_queue) == (1, 8, True) and best.workers == max(2, usable_cpus())
    assert text.count("| best |") == 1 and "multiprocessing queue" in text and "2 HTTP" in text


def test_ratios_are_of_the_same_round(throughput: ModuleType) -> None:
    """A machine that slows down between rounds does so for both."""
    rates = {throughput.OURS: [20.0, 10.0, 5.0], "LitServe": [16.0, 8.0, 4.0]}
    tails = {throughput.OURS: [400.0, 800.0, 1600.0], "LitServe": [500.0, 1000.0, 2000.0]}
    rate, tail = throughput.beside("LitServe", rates, tails)
    assert "1.25 (1.25 to 1.25), target 1.0: met" in rate and rate.endswith("1.3 is not reached")
    assert "0.80 (0.80 to 0.80), target 1.0: met" in tail


def test_a_faster_rival_is_told(throughput: ModuleType) -> None:
    rates = {throughput.OURS: [8.0, 8.0], "LitServe": [10.0, 10.0]}
    tails = {throughput.OURS: [900.0, 900.0], "LitServe": [800.0, 800.0]}
    rate, tail = throughput.beside("LitServe", rates, tails)
    assert "0.80 (0.80 to 0.80), target 1.0: missed" in rate and "missed" in tail
