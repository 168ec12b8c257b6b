"""Files beside a result appear whole, and any reader of JSON understands them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slimpath.training.files import write_json


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    nan, inf = float("nan"), float("inf")
    write_json(tmp_path / "report.json", {"rows": [{"value": nan, "low": -inf}, (inf, 0.5)], "name": "NaN", "n": 1})

    def refuse(word: str) -> None:
        pytest.fail(f"{word} is no JSON")

    found = json.loads((tmp_path / "report.json").read_text(), parse_constant=refuse)
    assert found == {"rows": [{"value": None, "low": None}, [None, 0.5]], "name": "NaN", "n": 1}


def test_document_that_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    write_json(tmp_path / "report.json", {"old": True})
    with pytest.raises(TypeError):
        write_json(tmp_path / "report.json", {"new": object()})
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    assert json.loads((tmp_path / "report.json").read_text()) == {"old": True}
