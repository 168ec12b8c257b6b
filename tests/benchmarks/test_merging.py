"""The table of merging: its sums are right, it says what it was made from, and an interrupted run goes on."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import slimpath
from slimpath.tests.scripts import load_script

pytest.importorskip("tqdm", reason="rendering rooms needs tqdm")

FOLDER = Path(slimpath.__file__).parent / "benchmarks"
SINGLE = {"semseg": 0.2, "depth": 1.0, "edge": 0.5}


@pytest.fixture
def merging(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load_script("merging", monkeypatch)


def found(semseg: float) -> dict[str, Any]:
    values = {"single fine-tunes": SINGLE, "average": {**SINGLE, "semseg": semseg}}
    return {"values": values, "chosen": {"ties": 0.5}, "cosines": [-0.1, 0.25], "cpu_s": 90}


def test_gain_is_the_mean_of_relative_gains_in_the_direction_of_each_metric(merging: ModuleType):
    worse = {"semseg": 0.1, "depth": 1.3, "edge": 0.5}  # half of the mIoU, 1.3 times the RMSE, the same F
    assert merging.against(worse, SINGLE) == pytest.approx((-0.5 - 0.3 + 0) / 3)
    assert merging.against(SINGLE, SINGLE) == 0


def test_table_has_means_deviations_and_what_it_was_made_from(merging: ModuleType):
    text = merging.page_text([found(0.1), found(0.2)], merging.Size())
    assert "| single fine-tunes | 0.200 ± 0.000 | 1.000 ± 0.000 | 0.500 ± 0.000 | +0.0 ± 0.0 |" in text
    # -50 % and 0 % of one task in three: -16.7 and 0.
    assert "| average | 0.150 ± 0.071 | 1.000 ± 0.000 | 0.500 ± 0.000 | -8.3 ± 11.8 |" in text
    assert text.startswith("`python benchmarks/merging.py --seeds 2`, ") and "3 minutes of CPU time" in text
    assert "semseg, mIoU ↑" in text and "depth, RMSE ↓" in text and "-0.10 to 0.25" in text


def test_seed_that_is_done_is_not_measured_again(merging: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    asked = []

    def one_seed(size: Any, seed: int, *rest: Any) -> dict[str, Any]:
        asked.append((size.base_steps, seed))
        return found(0.1)

    monkeypatch.setattr(merging, "one_seed", one_seed)
    first = merging.done(merging.Size(), 0, tmp_path)
    assert merging.done(merging.Size(), 0, tmp_path) == first and asked == [(600, 0)]
    merging.done(merging.Size(), 1, tmp_path)
    merging.done(merging.Size(base_steps=7), 0, tmp_path)
    assert asked == [(600, 0), (600, 1), (7, 0)]


def test_no_room_serves_two_purposes(merging: ModuleType):
    size = merging.Size()
    starts = {
        merging.TRAINING: size.training,
        merging.MERGING: size.merging,
        merging.CHOOSING: size.choosing,
        merging.TESTING: size.testing,
    }
    ends = [first + count for first, count in sorted(starts.items())]
    assert all(end <= following for end, following in zip(ends, sorted(starts)[1:]))
