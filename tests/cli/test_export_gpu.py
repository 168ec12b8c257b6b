"""`slimpath export --target gpu` and `--lint`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from slimpath.runtime import Bundle

pytest.importorskip("torch", reason="exporting needs torch")

Cli = Callable[..., Any]


def relu(path: Path, domain: str = "") -> Path:
    """One node; of a foreign domain TensorRT knows nothing."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 2)) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], domain=domain)], "g", ports[:1], ports[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), str(path))
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from slimpath.models import HeadConfig, build_preset, save_checkpoint

    model = build_preset("vit_micro", (HeadConfig("scene", "image_classes", 4),), depth=1, moe_blocks=())
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint") / "small.safetensors", model, {})


def test_a_graph_that_tensorrt_takes_passes(slimpath: Cli, tmp_path: Path) -> None:
    result = slimpath("export", relu(tmp_path / "good.onnx"), "--lint", "tensorrt")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "1 graph, 0 refusals by tensorrt\n"


def test_a_refusal_is_a_line_and_exit_code_2(slimpath: Cli, tmp_path: Path) -> None:
    bad = relu(tmp_path / "bad.onnx", "com.example")
    result = slimpath("export", bad, "--lint", "tensorrt-11")
    assert result.exit_code == 2
    assert "bad.onnx: Relu -> y: " in result.stdout and "[operator, TensorRT 11.x]" in result.stdout
    document = json.loads(slimpath("export", bad, "--lint", "tensorrt", "--json").stdout)
    assert document["passed"] is False and document["findings"][0]["rule"] == "operator"
    assert document["findings"][0]["releases"] == ["10", "11"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("{folder}", "--lint", "openvino"), "--lint knows tensorrt"),
        (("{folder}", "--lint", "tensorrt"), "has no graphs for GPUs"),
        (("nothing", "--lint", "tensorrt"), "there is no such file or folder"),
        (("{checkpoint}",), "where to write is missing"),
        (("{checkpoint}", "--out", "o", "--batch", "1x2"), "add --target gpu"),
        (("{checkpoint}", "--out", "o", "--target", "gpu", "--batch", "two"), "IMAGESxROWS"),
        (("{checkpoint}", "--out", "o", "--target", "gpu", "--encoders", "1:x"), "WIDTH:TOP_K"),
        (("{checkpoint}", "--out", "o", "--target", "gpu", "--encoders", "2"), "--encoders must be numbers"),
        (("{checkpoint}", "--out", "o.onnx", "--target", "gpu", "--to", "standalone"), "is for bundles"),
        (("{folder}", "--out", "o"), "no such checkpoint file"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    slimpath: Cli, tmp_path: Path, checkpoint: Path, arguments: tuple[str, ...], message: str
) -> None:
    places = {"{folder}": str(tmp_path), "{checkpoint}": str(checkpoint)}
    result = slimpath("export", *(places.get(argument, argument) for argument in arguments))
    assert result.exit_code == 2
    assert message in result.stderr and result.stderr.count("\n") == 1


def test_a_checkpoint_becomes_a_bundle_with_graphs_for_gpus_that_pass(
    slimpath: Cli, tmp_path: Path, checkpoint: Path
) -> None:
    out = tmp_path / "bundle"
    made = slimpath("export", checkpoint, "--out", out, "--target", "gpu", "--widths", "1", "--json")
    assert made.exit_code == 0, made.stderr
    report = json.loads(made.stdout)
    assert report["worst_error"] < 1e-4 and all(one["passed"] for one in report["agreements"])
    manifest = Bundle.open(out).manifest
    assert manifest.name == "small" and manifest.gpu is not None and manifest.gpu.precisions == ("fp16",)
    linted = slimpath("export", out, "--lint", "tensorrt")
    assert linted.exit_code == 0 and "0 refusals" in linted.stdout
    inspected = slimpath("inspect", out, "--verify")
    assert inspected.exit_code == 0, inspected.stderr
    assert "for GPUs: 2 graphs in fp16" in inspected.stdout and "at most 0.005" in inspected.stdout
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]  # steps on the way
