"""The table of adapting: its sums and verdicts are right, and it says what it was made from."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import slimpath
from slimpath.tests.scripts import load_script

pytest.importorskip("tqdm", reason="rendering rooms needs tqdm")

FOLDER = Path(slimpath.__file__).parent / "benchmarks"


@pytest.fixture
def adapt(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load_script("adapt", monkeypatch)


def seeds(adapt: ModuleType, labelled: tuple[float, float]) -> list[dict[str, Any]]:
    """Two seeds; all networks answer alike but one."""

    def found(semseg: float) -> dict[str, Any]:
        plain = {"semseg": 0.1, "depth": 2.0, "edge": 0.2}
        values = {
            name: {width: dict(plain) for width in ("0.5", "1")}
            for name in (adapt.CUT, adapt.FISHER, adapt.MAGNITUDE, adapt.ALONE, adapt.LABELLED)
        }
        values[adapt.LABELLED]["0.5"] = {"semseg": semseg, "depth": 1.0, "edge": 0.2}
        return {"values": values, "cpu_s": 60}

    return [found(semseg) for semseg in labelled]


def test_better_means_by_more_than_the_deviation_of_the_gains_in_the_direction_of_the_metric(adapt: ModuleType) -> None:
    near, far = seeds(adapt, (0.1, 0.2)), seeds(adapt, (0.2, 0.22))
    asked = (adapt.LABELLED, adapt.CUT, "0.5")
    assert not adapt.beaten(near, *asked, "semseg")  # better by 0.05, the deviation is 0.07
    assert adapt.beaten(far, *asked, "semseg") and adapt.beaten(far, *asked, "depth")
    assert not adapt.beaten(far, *asked, "edge") and not adapt.beaten(far, adapt.CUT, adapt.LABELLED, "0.5", "depth")


def test_verdicts_count_narrow_widths_alone_and_name_what_is_not_better(adapt: ModuleType) -> None:
    text = adapt.verdicts(seeds(adapt, (0.2, 0.22)))
    assert "*adapted with labels* against *cut*: in 2 of 3 cases; not for edge at 0.5." in text
    assert "*adapted without labels* against *cut*: in 0 of 3 cases; not for semseg at 0.5, depth" in text


def test_table_has_means_deviations_and_what_it_was_made_from(adapt: ModuleType) -> None:
    text = adapt.page_text(seeds(adapt, (0.2, 0.22)), adapt.Plan())
    assert text.startswith("`python benchmarks/adapt.py --seeds 2 --write`, ") and "2 minutes of CPU time" in text
    assert "| 0.5 | adapted with labels | 0.210 ± 0.014 | 1.000 ± 0.000 | 0.200 ± 0.000 |" in text
    assert "| 1 | as trained | 0.100" in text and "| 1 | ordered" not in text
    assert "semseg, mIoU ↑" in text and "depth, RMSE ↓" in text


def test_page_has_the_place_that_the_table_goes_to(adapt: ModuleType) -> None:
    marked = importlib.import_module("page").with_figures(adapt.PAGE.read_text(encoding="utf-8"), "adapt.py", "a table")
    assert marked.count("\n\na table\n\n") == 1


def test_seed_that_is_done_is_not_measured_again(
    adapt: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []

    def one_seed(plan: Any, seed: int, *rest: Any) -> dict[str, Any]:
        asked.append(seed)
        return {"x": {}}

    monkeypatch.setattr(adapt, "one_seed", one_seed)
    first = adapt.done(adapt.Plan(), 0, tmp_path)
    assert adapt.done(adapt.Plan(), 0, tmp_path) == first and asked == [0]
    adapt.done(adapt.Plan(), 1, tmp_path)
    assert asked == [0, 1]
