"""The page of figures is put together from what each script kept, and from nothing else."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from slimpath.tests.scripts import load_script

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "argv", [str(BENCHMARKS / "overhead.py"), "--runs", "3"])
    module = load_script("page", monkeypatch)
    monkeypatch.setattr(module, "MEASURED", tmp_path / "measured")
    monkeypatch.setattr(module, "PAGE", tmp_path / "benchmarks.md")
    return module


def test_what_a_script_keeps_is_on_the_page_with_its_command_and_machine(page: ModuleType) -> None:
    page.keep("overhead", [("One picture", "| a |\n| --- |\n| 1 |\n", {"ms": [0.123456789]})])
    text = page.PAGE.read_text()
    assert "## What `engine()` adds" in text and "### One picture\n\n| a |" in text
    assert "python benchmarks/overhead.py --runs 3" in text
    assert "cores" in text and "onnxruntime" in text
    assert page.kept("overhead")["sections"][0]["figures"] == {"ms": [0.12346]}


def test_parts_keep_the_order_of_the_page_whatever_the_order_of_measuring(page: ModuleType) -> None:
    for part in ("memory", "encoder"):
        page.keep(part, [(part, "text", {})])
    text = page.PAGE.read_text()
    assert text.index("## The encoder by itself") < text.index("## Memory")


def test_sections_that_were_not_measured_again_stay_as_they_were(
    page: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = ("Throughput", "adds", "Overload")
    page.keep_beside("service_load", [("Overload in bursts", "old", {}), ("Throughput, 8", "old", {"n": 1})], order)
    monkeypatch.setattr(sys, "argv", ["service_load.py", "--only", "throughput", "--litserve", "/home/me/venv/python"])
    page.keep_beside("service_load", [("Throughput, 9", "new", {"n": 2})], order)
    first, second = page.kept("service_load")["sections"]
    assert first["title"] == "Throughput, 9" and first["figures"] == {"n": 2}
    assert "new\n`python benchmarks/service_load.py --only throughput --litserve DIR`" in first["text"]
    assert second["title"] == "Overload in bursts" and "old\n`python benchmarks/overhead.py --runs 3`" in second["text"]
    assert "/home" not in page.PAGE.read_text()


def test_figures_go_between_the_marks_of_their_script_alone(page: ModuleType) -> None:
    def marked(name: str, words: str) -> str:
        return f"{name}\n\n<!-- figures, written by benchmarks/{name} -->\n\n{words}\n\n<!-- end of figures -->\n"

    before = marked("one.py", "old") + marked("two.py", "old")
    assert page.with_figures(before, "two.py", "\nnew\n") == marked("one.py", "old") + marked("two.py", "new")
    with pytest.raises(SystemExit, match=r"the page has no <!-- figures, written by benchmarks/three\.py"):
        page.with_figures(before, "three.py", "new")


def test_nothing_half_written_is_left(page: ModuleType) -> None:
    page.keep("memory", [("a", "b", {})])
    assert sorted(path.name for path in page.MEASURED.parent.rglob("*") if path.is_file()) == [
        "benchmarks.md",
        "memory.json",
    ]


def test_every_script_of_the_page_exists_and_explains_itself(page: ModuleType) -> None:
    for _, (script, *_) in (*page.PARTS.values(), *page.OWN_PAGES.values()):
        assert (BENCHMARKS / script).read_text().startswith('"""'), script


def test_the_page_in_the_repository_is_what_the_kept_figures_make(monkeypatch: pytest.MonkeyPatch) -> None:
    module = load_script("page", monkeypatch)
    text = module.PAGE.read_text()
    found = [path for path in module.MEASURED.glob("*.json") if path.stem in module.PARTS]
    assert found
    for kept in found:
        for section in json.loads(kept.read_text())["sections"]:
            assert section["text"].strip() in text, f"{kept.name}: run python benchmarks/page.py"
