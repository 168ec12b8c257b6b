"""docs/devices.md claims nothing that docs/devices.json does not say, and that file nothing without evidence."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

import slimpath
from slimpath.runtime.backends import AUTO, backend_names

ROOT = Path(slimpath.__file__).parent


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("devices_table", ROOT / "benchmarks" / "devices_table.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_table_is_that_of_the_data(script: ModuleType):
    text = script.PAGE.read_text()
    assert script.page(text, script.read()) == text, "run: python benchmarks/devices_table.py"


def test_a_page_without_the_marks_is_refused(script: ModuleType):
    with pytest.raises(SystemExit, match="has no"):
        script.page("# Devices\n", script.read())


def test_every_backend_has_a_row_and_every_row_every_device(script: ModuleType):
    data = script.read()
    rows = [row["what"] for row in data["rows"]]
    assert {name for name in backend_names() if name != AUTO} <= set(rows) and len(set(rows)) == len(rows)
    for row in data["rows"]:
        assert set(row["levels"]) == set(data["devices"])
        assert set(row["levels"].values()) <= set(data["levels"])


def test_evidence_is_in_the_repository(script: ModuleType):
    for row in script.read()["rows"]:
        assert row["evidence"], row["what"]
        for path in row["evidence"]:
            assert (ROOT / path).exists(), path


def test_levels_are_the_four_of_the_page(script: ModuleType):
    text = script.PAGE.read_text()
    levels = set(script.read()["levels"].values()) - {"-"}
    assert len(levels) == 4 and all(f"- **{level}**:" in text for level in levels)
