"""What a manifest may say of graphs for GPUs; one without them is read as ever."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from slimpath.runtime.bundles.gpu_spec import GpuGraphSpec, GpuPort, GpuSpec
from slimpath.runtime.bundles.manifest import Manifest, encode_manifest, read_manifest
from slimpath.runtime.bundles.manifest_parts import Cost, WeightsSpec
from slimpath.runtime.errors import ManifestError
from slimpath.tests.runtime.plan_cases import SHA, SIZE, make_manifest

PORTS = {
    "inputs": (GpuPort("image", "float32", (1, 3, 32, 32)),),
    "outputs": (GpuPort("tokens", "float32", (1, 5, 8)),),
}


def gpu_graph(**fields: Any) -> GpuGraphSpec:
    plain: dict[str, Any] = {
        "file": "e1.onnx", "kind": "encoder", "size_hw": SIZE, "width": 1.0, "top_k": 2, "task": None, "images": 1,
        "rows": 1, "precision": "fp16", "bytes": 1, "sha256": SHA, "weight_bytes": 1, "flops": 1, **PORTS,
    }  # fmt: skip
    return GpuGraphSpec(**{**plain, **fields})


def gpu(*graphs: GpuGraphSpec, **fields: Any) -> GpuSpec:
    plain: dict[str, Any] = {
        "weights": WeightsSpec("weights-gpu.safetensors", 100, SHA, SHA), "configurations": ((1.0, 2),),
        "batches": ((1, 1),), "precisions": ("fp16",), "source": "chosen",
        "graphs": graphs or (gpu_graph(), gpu_graph(file="h.onnx", kind="head", top_k=0, task="depth")),
    }  # fmt: skip
    return GpuSpec(**{**plain, **fields})


def with_gpu(spec: GpuSpec | None) -> Manifest:
    plain = make_manifest({1.0: Cost(1, 1)}, {"depth": {1.0: 1}}, 2)
    return msgspec.structs.replace(plain, gpu=spec)


def test_survives_the_round_trip_and_lists_its_files() -> None:
    manifest = with_gpu(gpu())
    assert read_manifest(encode_manifest(manifest)) == manifest
    assert set(manifest.files) >= {"weights-gpu.safetensors", "e1.onnx", "h.onnx", "w"}


def test_a_manifest_from_before_there_were_such_graphs_is_read() -> None:
    document = json.loads(encode_manifest(with_gpu(None)))
    del document["gpu"]
    manifest = read_manifest(json.dumps(document).encode())
    assert manifest.gpu is None and manifest == with_gpu(None)


def test_finds_a_graph_by_what_it_is_for() -> None:
    spec = gpu()
    found = spec.graph("encoder", SIZE, 1.0, top_k=2, precision="fp16")
    assert found is not None and found.file == "e1.onnx"
    assert spec.graph("head", SIZE, 1.0, task="depth", precision="fp16") is not None
    assert spec.graph("encoder", SIZE, 1.0, top_k=1, precision="fp16") is None
    assert spec.graph("encoder", SIZE, 1.0, top_k=2, rows=2, precision="fp16") is None


WRONG: dict[str, tuple[GpuSpec, str]] = {
    "a file twice": (gpu(gpu_graph(), gpu_graph(rows=2)), "files of their own"),
    "a file of the bundle": (gpu(gpu_graph(file="w")), "files of their own"),
    "a path": (gpu(gpu_graph(file="../e.onnx")), "a bare file name"),
    "no digest": (gpu(gpu_graph(sha256="x")), "64 lower-case hex digits"),
    "an unknown size": (gpu(gpu_graph(size_hw=(64, 64))), r"graphs\[0\]\.size_hw"),
    "a precision that is not listed": (gpu(gpu_graph(precision="int8")), r"graphs\[0\]\.precision"),
    "an unknown precision": (gpu(gpu_graph(precision="fp8"), precisions=("fp8",)), r"gpu\.precisions"),
    "an unknown task": (gpu(gpu_graph(), gpu_graph(file="h", kind="head", top_k=0, task="sky")), r"graphs\[1\]\.task"),
    "an encoder with a task": (gpu(gpu_graph(task="depth")), r"graphs\[0\]\.task"),
    "too many experts": (gpu(gpu_graph(top_k=3)), r"graphs\[0\]\.top_k"),
    "an encoder without its top-k": (gpu(gpu_graph(top_k=0)), r"graphs\[0\]\.top_k"),
    "fewer rows than images": (gpu(gpu_graph(images=2)), r"graphs\[0\]\.rows"),
    "no ports": (gpu(gpu_graph(inputs=())), r"graphs\[0\]\.inputs"),
    "an axis of 0": (gpu(gpu_graph(inputs=(GpuPort("image", "float32", (0, 3)),))), r"graphs\[0\]\.image"),
    "too large a port": (gpu(gpu_graph(inputs=(GpuPort("image", "float32", (1 << 16, 1 << 15)),))), r"\.image"),
    "negative bytes": (gpu(gpu_graph(weight_bytes=-1)), r"graphs\[0\]\.bytes"),
    "the same graph twice": (gpu(gpu_graph(), gpu_graph(file="e2.onnx")), "one graph of a description"),
    "an encoder that is missing": (gpu(gpu_graph(), batches=((1, 1), (1, 2))), "for every configuration, batch and"),
    "no batches": (gpu(gpu_graph(), batches=()), r"gpu\.batches"),
}


@pytest.mark.parametrize("name", WRONG)
def test_refuses_contradictions_by_name(name: str) -> None:
    spec, message = WRONG[name]
    with pytest.raises(ManifestError, match=message):
        encode_manifest(with_gpu(spec))
