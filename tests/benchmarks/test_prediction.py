"""The benchmark of predictions: its sums are right, and it runs from end to end."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import slimpath
from slimpath.tests.runtime.tiny_bundle import build_tiny_bundle
from slimpath.tests.scripts import load_script

FOLDER = Path(slimpath.__file__).parent / "benchmarks"


@pytest.fixture
def prediction(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load_script("prediction", monkeypatch)


def test_common_factor_is_taken_off(prediction: ModuleType):
    found = prediction.summary(np.array([0.2, 0.2, 0.2, 0.32, 0.08]))
    assert found["common_factor"] == pytest.approx(1.2) and found["median"] == pytest.approx(0.2)
    assert found["median_unbiased"] == pytest.approx(0.0) and found["worst"] == pytest.approx(0.32)
    assert found["p90_unbiased"] == pytest.approx(0.1)


def test_whole_benchmark_runs_and_leaves_its_tables(prediction: ModuleType, monkeypatch, tmp_path: Path):
    bundle, out = build_tiny_bundle(tmp_path / "bundle"), tmp_path / "out"
    monkeypatch.setattr(prediction, "IMAGE_SIZES_HW", ((32, 48), (60, 80)))
    arguments = ["--bundle", bundle, "--times", "1", "--count", "12", "--seconds", "0.5", "--out", out]
    monkeypatch.setattr(sys, "argv", ["prediction.py", *map(str, arguments)])
    prediction.main()
    document = json.loads((out / "prediction.json").read_text())
    assert document["configurations"] == 12 and document["latency_ms"]["least"] > 0
    row = document["profiles"]["1"]
    assert 0 <= row["errors"]["median"] <= row["errors"]["p90"] <= row["errors"]["worst"]
    assert set(row["groups"]["picture"]) <= {"48x32", "80x60"} and row["groups"]["tasks"]
    page = (out / "prediction.md").read_text()
    assert "| 1 s |" in page and "12 random configurations" in page
