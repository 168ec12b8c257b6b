"""Decoders after TaskExpert as graphs for GPUs: they pass the linter and the parity gate, and share their experts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir
import pytest

from slimpath.export.gpu import check, lint_file
from slimpath.export.gpu.precision import to_float16
from slimpath.export.gpu.trace import Job, trace_job
from slimpath.export.gpu.weights import GpuTensors
from slimpath.models import HeadConfig, MultiTaskModel
from slimpath.models.fold import folded

TASKS = (HeadConfig("depth", "depth", 1), HeadConfig("edge", "probability", 1))


@pytest.mark.parametrize("backbone", ["vit", "swin"])
def test_head_passes_the_parity_gate_and_the_linter(
    make_model: Callable[..., MultiTaskModel], tmp_path: Path, backbone: str
) -> None:
    model = folded(make_model(f"taskexpert_{backbone}_micro", TASKS))
    job = Job(model.config.image_hw, 0.5, 0, "depth", 2, 2)
    graph = trace_job(model, job)
    ir.save(graph, str(tmp_path / "fp32.onnx"))
    case = check.parity.encoder_case(model, 1.0, check.parity.default_rows(model))
    assert check.head_parity(model, job, check.onnxruntime_run(str(tmp_path / "fp32.onnx")), case, "fp32").passed
    to_float16(graph)
    ir.save(graph, str(tmp_path / "fp16.onnx"))
    for precision in ("fp32", "fp16"):
        assert lint_file(tmp_path / f"{precision}.onnx") == []


def test_encoder_with_taps_passes_them_too(make_model: Callable[..., MultiTaskModel], tmp_path: Path) -> None:
    model = make_model("taskexpert_m3vit_micro", TASKS, depth=2)
    job = Job(model.config.image_hw, 0.5, 2, None, 1, 2)
    ir.save(trace_job(model, job), str(tmp_path / "encoder.onnx"))
    assert check.encoder_parity(model, job, check.onnxruntime_run(str(tmp_path / "encoder.onnx"))).passed
    assert lint_file(tmp_path / "encoder.onnx") == []


def test_experts_are_stored_once_for_all_tasks_and_widths(make_model: Callable[..., MultiTaskModel]) -> None:
    model = make_model("taskexpert_vit_micro", TASKS, depth=2)
    tensors, stored = GpuTensors(), []
    for task, width in (("depth", 1.0), ("edge", 1.0), ("edge", 0.5)):
        tensors.collect(trace_job(model, Job(model.config.image_hw, width, 0, task, 1, 1)), model.config.image_hw)
        stored.append({name for name in tensors._widest if "decoder_experts." in name})
    assert stored[0] and stored[0] == stored[1] == stored[2]
