"""`--precision` of export, eval and plan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="exporting needs torch")
pytest.importorskip("onnxscript", reason="exporting needs onnxscript")


@pytest.mark.parametrize("to", ["bundle", "standalone"])
@pytest.mark.parametrize("int8", [False, True])
def test_int8_reaches_both_kinds_of_export(
    slimpath: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str, int8: bool
) -> None:
    from slimpath import export

    checkpoint = tmp_path / "model.safetensors"
    checkpoint.touch()
    seen: list[dict[str, Any]] = []

    def exported(*_: object, **options: Any) -> export.ExportReport:
        seen.append(options)
        return export.ExportReport(Path("made"), 1, 1, 1, 0.0, True)

    monkeypatch.setattr(export, f"export_{to}", exported)
    more = ["--precision", "int8"] if int8 else []
    done = slimpath("export", checkpoint, "--out", "made", "--to", to, *more)
    assert done.exit_code == 0, done.output
    assert [options["int8"] for options in seen] == [int8]


def test_an_unknown_precision_is_refused_by_name(slimpath: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    done = slimpath("export", tmp_path / "model.safetensors", "--out", "made", "--precision", "int7")
    assert done.exit_code == 2 and "int7" in done.stderr and "int8" in done.stderr


def test_a_precision_that_the_bundle_lacks_is_refused_with_those_it_has(slimpath: Callable[..., Any]) -> None:
    done = slimpath("plan", "--budget", "precision=bf16")
    assert done.exit_code == 2
    said = " ".join(done.stderr.split())
    assert "no graphs in bf16 that can be used here" in said and "there are fp32" in said
