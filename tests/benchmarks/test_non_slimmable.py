"""The share of another network's gain: 1 of its own, a half of twice the gain, and only of the same scenes."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from slimpath.tests.scripts import load_script
from slimpath.training.bootstrap import Bootstrap
from slimpath.training.eval_measure import Evidence
from slimpath.training.eval_runner import Configuration
from slimpath.training.metrics import Accuracy

IMAGES = 200
FULL = Configuration("scene", 1.0, 4, 1.0)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load_script("non_slimmable", monkeypatch)


def evaluation(right: int, source: str = "rooms") -> SimpleNamespace:
    """Of `IMAGES` pictures so many rightly answered, of which trivially 40."""
    sums = {
        answered: np.stack([np.arange(IMAGES) < answered, np.ones(IMAGES)], 1).astype(float) for answered in (right, 40)
    }
    evidence = Evidence({"scene": Accuracy()}, {FULL: sums[right]}, {"scene": sums[40]}, {"scene": sums[40]})
    report = SimpleNamespace(source=source, scenes=IMAGES)
    return SimpleNamespace(evidence=evidence, bootstrap=Bootstrap(IMAGES, resamples=400), report=report)


def test_a_network_has_all_of_its_own_gain(script: ModuleType) -> None:
    found = script.beside(evaluation(120), evaluation(120))
    assert (found.mean.value, found.mean.low, found.mean.high) == (1.0, 1.0, 1.0)
    assert "reached" in script.section("both", "rooms", found)


def test_half_the_gain_is_a_half_and_misses_the_goal(script: ModuleType) -> None:
    found = script.beside(evaluation(80), evaluation(120))
    assert found.mean.value == pytest.approx(0.5)
    assert 0.35 < found.mean.low < 0.5 < found.mean.high < 0.65
    assert found.rows[0][2:5] == ["0.2", "0.6", "0.4"]
    assert "missed" in script.section("both", "rooms", found)


def test_other_scenes_are_refused(script: ModuleType) -> None:
    with pytest.raises(ValueError, match="not the same scenes"):
        script.beside(evaluation(80), evaluation(120, "others"))
