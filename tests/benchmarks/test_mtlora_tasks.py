"""The table of tasks: every way that it compares computes the same, it is written between its marks, and says how."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import slimpath
from slimpath.models import HeadConfig, build_preset, folded
from slimpath.tests.scripts import load_script

FOLDER = Path(slimpath.__file__).parent / "benchmarks"
PAIR = (HeadConfig("semseg", "classes", 3), HeadConfig("depth", "depth", 1))
REPEATS = {"one": [10.0, 20.0], "again": [10.0, 20.0], "all": [11.0, 24.0], "apart": [20.0, 40.0]}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load_script("mtlora_tasks", monkeypatch)


def test_every_way_gives_the_same_answers(script: ModuleType) -> None:
    torch.manual_seed(0)
    model = folded(build_preset("mtlora_micro", PAIR).eval())
    with torch.no_grad():
        for parameter in model.adapters.parameters():
            parameter.normal_(std=0.1)
        images, index, names = torch.randn(2, 3, 64, 64), torch.tensor([1, 0, 1]), ["depth", "semseg", "semseg"]
        wanted = model.encode(images, index, names, width=0.5)
        model.encoder.thin = True  # as exported
        for way in script.WAYS:
            with script.exported_as(way):
                found = model.encode(images, index, names, width=0.5)
            for one, other in zip((wanted.tokens_BND, *wanted.levels), (found.tokens_BND, *found.levels), strict=True):
                torch.testing.assert_close(other, one, atol=1e-4, rtol=1e-4, msg=way)
    with pytest.raises(ValueError, match="way must be one of"), script.exported_as("fast"):
        pass


def test_page_has_the_tables_and_the_command_between_its_marks(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.md"
    start, end = "<!-- figures, written by benchmarks/mtlora_tasks.py -->", "<!-- end of figures -->"
    page.write_text(f"before\n{start}\nstale\n{end}\nafter\n")
    monkeypatch.setattr(sys, "argv", ["mtlora_tasks.py", "--write", "--folder", "/home/me/kept"])
    monkeypatch.setattr(script, "PAGE", page)
    monkeypatch.setattr(script, "RAW", tmp_path / "raw.json")
    costs = {"m3lora_small": {"one": 9.0e9, "ratio": 3.5, "own": 30_000}}
    figures = {"side": 448, "widths": {"1": REPEATS}, "ways": {"a way": REPEATS}, "vits": {"m3lora_small": REPEATS}}
    script.keep({**figures, "costs": costs}, "2 repeats of 1 run")
    text = page.read_text()
    assert text.startswith(f"before\n{start}") and text.endswith(f"{end}\nafter\n") and "stale" not in text
    assert "`python benchmarks/mtlora_tasks.py --write --folder DIR`" in text and "2 repeats of 1 run" in text
    assert "| 1 | 15.0 | 17.5 | 30.0 | 1.15 (1.10 to 1.20) | 2.00 (2.00 to 2.00) | 1.00 (1.00 to 1.00) | met |" in text
    assert "| a way | 15.0 | 17.5 | 30.0 | 1.15" in text and "| 3.50 | 9.00 | 30,000 |" in text
    assert "cores" in text and json.loads((tmp_path / "raw.json").read_text())["side"] == 448


def test_target_is_missed_where_the_lower_bound_is_above_it(script: ModuleType) -> None:
    slow = {**REPEATS, "all": [15.0, 30.0]}
    assert "missed" in script.widths_table({"1": slow}) and "missed" not in script.widths_table({"1": REPEATS})
