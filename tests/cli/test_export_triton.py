"""`slimpath export --to triton`: what reaches the exporter, what is printed, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from slimpath.cli.app import app
from slimpath.runtime import bundled_path

pytest.importorskip("torch", reason="export needs it")
pytest.importorskip("onnxscript", reason="export needs it")

BUNDLE = str(bundled_path())


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["export", *arguments, "--to", "triton"])


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The exporter itself has tests of its own, in tests/export/triton; here it only notes how it was called."""
    from slimpath.export import triton
    from slimpath.export.triton.onnx_models import OnnxModel

    made: list[dict[str, Any]] = []

    def export(source: Path, out: Path, **options: Any) -> triton.TritonReport:
        options.pop("progress")("model", 0, 1)
        made.append({"source": source, "out": out, **options})
        models = (OnnxModel("rooms_w050", 0.5, 1000, 2e-6), OnnxModel("rooms_w100", 1.0, 1000, None))
        return triton.TritonReport(out, "rooms", models, 25_000_000, 23_000_000)

    monkeypatch.setattr(triton, "export_triton", export)
    return made


def test_options_reach_the_exporter(calls: list[dict[str, Any]], tmp_path: Path):
    out = str(tmp_path / "models")
    done = run(BUNDLE, "--out", out, "--name", "rooms", "--tasks", "depth, edge", "--widths", "0.5,1", "--no-check")
    assert done.exit_code == 0, done.output
    assert calls == [
        {
            "source": Path(BUNDLE), "out": Path(out), "name": "rooms", "tasks": ["depth", "edge"],
            "widths": [0.5, 1.0], "check": False,
        }
    ]  # fmt: skip


def test_every_model_and_its_difference_are_printed(calls: list[dict[str, Any]], tmp_path: Path):
    lines = run(BUNDLE, "--out", str(tmp_path / "models")).stdout.splitlines()
    assert lines[0].startswith("rooms: any tasks, any budget")
    assert lines[1] == "rooms_w050: ONNX, width 0.5, largest difference 2.0e-06"
    assert lines[2] == "rooms_w100: ONNX, width 1"
    assert lines[3].endswith("models: 25.00 MB, of which 23.00 MB are weights")


def test_json_is_one_document(calls: list[dict[str, Any]], tmp_path: Path):
    document = json.loads(run(BUNDLE, "--out", str(tmp_path / "models"), "--json").stdout)
    assert document["python_model"] == "rooms"
    assert document["onnx_models"]["rooms_w050"] == {"width": 0.5, "worst_error": 2e-6}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([BUNDLE], "where to write is missing"),
        (["gone", "--out", "x"], "there is no such bundle or checkpoint"),
        ([BUNDLE, "--out", "x", "--width", "0.5"], "--widths and --no-check alone"),
        ([BUNDLE, "--out", "x", "--size", "64x64"], "export a bundle with the other options first"),
        ([BUNDLE, "--out", "x", "--precision", "int8"], "--to triton takes"),
        ([BUNDLE, "--out", "x", "--widths", "2"], "--widths must be numbers"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_exit_code_2(calls: list[dict[str, Any]], arguments: list[str], words: str):
    done = run(*arguments)
    assert done.exit_code == 2 and words in done.stderr and done.stderr.count("\n") == 1
    assert calls == []
