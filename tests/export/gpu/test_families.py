"""Every family of networks becomes graphs for GPUs that pass the linter and the parity gate, with adapters too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir
import pytest

from slimpath.export.gpu import check, lint_file
from slimpath.export.gpu.precision import to_float16
from slimpath.export.gpu.trace import Job, trace_job
from slimpath.models import MultiTaskModel
from slimpath.models.fold import folded

FAMILIES = {
    "dense": ("vit_micro", {"depth": 2}, 0, (2, 2)),
    "experts that read the block's input, renormalised": (
        "m3vit_micro",
        {"depth": 2, "gate_input": "block", "gate_mode": "renormalised"},
        2,
        (2, 3),
    ),
    "windows": ("swin_micro", {}, 0, (1, 1)),
    "windows with adapters": ("mtlora_micro", {}, 0, (1, 2)),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_encoder_passes_the_parity_gate_and_the_linter(
    make_model: Callable[..., MultiTaskModel], tmp_path: Path, family: str
) -> None:
    preset, settings, top_k, (images, rows) = FAMILIES[family]
    model = folded(make_model(preset, **settings))
    job = Job(model.config.image_hw, 0.5, top_k, None, images, rows)
    graph = trace_job(model, job)
    ir.save(graph, str(tmp_path / "fp32.onnx"))
    seen = check.encoder_parity(model, job, check.onnxruntime_run(str(tmp_path / "fp32.onnx")))
    assert seen.passed, seen
    to_float16(graph)
    ir.save(graph, str(tmp_path / "fp16.onnx"))
    for precision in ("fp32", "fp16"):
        assert lint_file(tmp_path / f"{precision}.onnx") == []


def test_a_head_of_several_levels_passes_too(make_model: Callable[..., MultiTaskModel], tmp_path: Path) -> None:
    model = folded(make_model("swin_micro"))
    job = Job(model.config.image_hw, 0.5, 0, "depth", 2, 2)
    ir.save(trace_job(model, job), str(tmp_path / "head.onnx"))
    case = check.parity.encoder_case(model, 1.0, check.parity.default_rows(model))
    assert check.head_parity(model, job, check.onnxruntime_run(str(tmp_path / "head.onnx")), case, "fp32").passed
    assert lint_file(tmp_path / "head.onnx") == []
