"""The tiny bundle with graphs for GPUs beside its own: they compute the same, with fixed batches and a fixed top_k."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import msgspec
from onnx import TensorProto, helper

from slimpath.runtime.bundles.gpu_spec import GPU_WEIGHTS_FILE, GpuGraphSpec, GpuPort, GpuSpec
from slimpath.runtime.bundles.manifest import encode_manifest, read_manifest
from slimpath.runtime.bundles.manifest_parts import WeightsSpec
from slimpath.runtime.bundles.weights import Weights, file_sha256
from slimpath.runtime.tasks import TaskSpec
from slimpath.tests.runtime.tiny_bundle import (
    DETAIL,
    DIM,
    EXPERTS,
    HIDDEN,
    PATCH,
    SIZES,
    TASKS,
    WIDTHS,
    _Graph,
    build_tiny_bundle,
)

CONFIGURATIONS = ((0.5, 1), (1.0, 1), (1.0, 2))
BATCHES = ((1, 1), (1, 5), (2, 4))
PRECISIONS = ("fp32", "fp16")
_KINDS = {"float32": TensorProto.FLOAT, "int32": TensorProto.INT32}

Ports = list[tuple[str, str, list[int]]]


def build_gpu_bundle(folder: Path, *, moe: bool = True, detail: bool = True) -> Path:
    """Write the bundle into `folder`, which is made. Dense, its encoders have an image for each row and no index."""
    build_tiny_bundle(folder, moe=moe, detail=detail, accuracies=False)
    shutil.copy(folder / "weights.safetensors", folder / GPU_WEIGHTS_FILE)
    weights = Weights(folder / GPU_WEIGHTS_FILE)
    batches = BATCHES if moe else ((1, 1), (2, 2))
    configurations = CONFIGURATIONS if moe else ((0.5, 0), (1.0, 0))
    graphs: list[GpuGraphSpec] = []
    for size_hw in SIZES:
        for precision in PRECISIONS:
            for width, top_k in configurations:
                for images, rows in batches:
                    made = _encoder(weights, size_hw, width, top_k, images, rows, precision, detail)
                    graphs.append(
                        _write(folder, *made, "encoder", size_hw, width, top_k, None, images, rows, precision)
                    )
            for task in TASKS:
                for width in WIDTHS:
                    for rows in sorted({1} | {images for images, _ in batches}):
                        made = _head(weights, task, size_hw, width, rows, precision, detail)
                        where = ("head", size_hw, width, 0, task.name, rows, rows, precision)
                        graphs.append(_write(folder, *made, *where))
    spec = GpuSpec(
        WeightsSpec(GPU_WEIGHTS_FILE, weights.bytes, file_sha256(weights.path), weights.header.sha256),
        configurations,
        batches,
        PRECISIONS,
        tuple(graphs),
        "chosen",
    )
    path = folder / "manifest.json"
    path.write_bytes(encode_manifest(msgspec.structs.replace(read_manifest(path.read_bytes()), gpu=spec)))
    return folder


def _mlp(g: _Graph, tokens: str, up: str, down: str, width: float, precision: str) -> str:
    """The product of tiny_bundle, in fp16 where that is the precision."""
    if precision == "fp32":
        return g.mlp(tokens, up, down, int(HIDDEN * width))
    half = TensorProto.FLOAT16
    up_half = g.op("Cast", g.op("Transpose", g.weight(up, int(HIDDEN * width)), perm=[1, 0]), to=half)
    hidden = g.op("Relu", g.op("MatMul", g.op("Cast", tokens, to=half), up_half))
    product = g.op("MatMul", hidden, g.op("Cast", g.weight(down, int(HIDDEN * width)), to=half))
    return g.op("Cast", product, to=TensorProto.FLOAT)


def _encoder(
    weights: Weights, size_hw: tuple[int, int], width: float, top_k: int, images: int, rows: int, precision: str,
    detail: bool,
) -> tuple[_Graph, Ports, Ports]:  # fmt: skip
    g = _Graph(weights, GPU_WEIGHTS_FILE)
    cells = (size_hw[0] // PATCH) * (size_hw[1] // PATCH)
    flat = g.op("Reshape", g.op("Conv", "image", g.weight("patch"), strides=[PATCH, PATCH]), g.ints(0, DIM, cells))
    class_token = g.op("Expand", g.weight("class_token"), g.ints(images, 1, DIM))
    shared = g.op("Concat", class_token, g.op("Transpose", flat, perm=[0, 2, 1]), axis=1)
    shared = g.op("Add", shared, _mlp(g, shared, "up", "down", width, precision))
    inputs: Ports = [("image", "float32", [images, 3, *size_hw])]
    outputs: Ports = [("tokens", "float32", [rows, cells + 1, DIM])]
    if top_k:
        inputs.append(("image_index", "int32", [rows]))
        inputs += [("router", "float32", [rows, 1, DIM, EXPERTS]), ("router_bias", "float32", [rows, 1, EXPERTS])]
        of_rows = g.op("Gather", shared, "image_index", axis=0)
        scores = g.op("Add", g.op("MatMul", of_rows, g.op("Squeeze", "router", g.ints(1))), "router_bias")
        mixed = g.op("MatMul", g.op("Softmax", scores, axis=-1), g.weight("experts"))
        g.op("Add", of_rows, g.op("Mul", mixed, g.floats(float(top_k))), out="tokens")
    else:
        g.op("Identity", shared, out="tokens")
    if detail:
        g.op("Conv", "image", g.weight("detail"), strides=[4, 4], out="detail")
        g.nodes[-1].input[1] = g.initializers[-1].name = "detail_weight"
        outputs.append(("detail", "float32", [images, DETAIL, size_hw[0] // 4, size_hw[1] // 4]))
    return g, inputs, outputs


def _head(
    weights: Weights, task: TaskSpec, size_hw: tuple[int, int], width: float, rows: int, precision: str, detail: bool
) -> tuple[_Graph, Ports, Ports]:
    g = _Graph(weights, GPU_WEIGHTS_FILE)
    cells_hw = size_hw[0] // PATCH, size_hw[1] // PATCH
    cells = cells_hw[0] * cells_hw[1]
    inputs: Ports = [("tokens", "float32", [rows, cells + 1, DIM])]
    raw = _mlp(g, "tokens", f"{task.name}.up", f"{task.name}.down", width, precision)
    if task.kind == "image_classes":
        first = g.op("Squeeze", g.op("Gather", raw, g.ints(0), axis=1), g.ints(1))
        g.op("Softmax", first, axis=-1, out=task.name)
        return g, inputs, [(task.name, "float32", [rows, task.channels])]
    dense = g.op("Slice", raw, g.ints(1), g.ints(cells + 1), g.ints(1))
    dense = g.op("Reshape", g.op("Transpose", dense, perm=[0, 2, 1]), g.ints(0, task.channels, *cells_hw))
    dense = g.op("Resize", dense, "", g.floats(1, 1, PATCH, PATCH), mode="linear")
    if detail:
        inputs.append(("detail", "float32", [rows, DETAIL, size_hw[0] // 4, size_hw[1] // 4]))
        fine = g.op("Conv", "detail", g.weight(f"{task.name}.detail"))
        dense = g.op("Add", dense, g.op("Resize", fine, "", g.floats(1, 1, 4, 4), mode="linear"))
    if task.kind == "normals":
        g.op("LpNormalization", dense, axis=1, p=2, out=task.name)
    else:
        g.op({"classes": "Identity", "depth": "Exp", "probability": "Sigmoid"}[task.kind], dense, out=task.name)
    return g, inputs, [(task.name, "float32", [rows, task.channels, *size_hw])]


def _write(
    folder: Path, g: _Graph, inputs: Ports, outputs: Ports, kind: Any, size_hw: tuple[int, int], width: float,
    top_k: int, task: str | None, images: int, rows: int, precision: str,
) -> GpuGraphSpec:  # fmt: skip
    values = [[helper.make_tensor_value_info(n, _KINDS[k], s) for n, k, s in ports] for ports in (inputs, outputs)]
    taken, given = values
    halves = [
        node.output[0] for node in g.nodes if node.op_type == "Cast" and node.attribute[0].i == TensorProto.FLOAT16
    ]
    known = [helper.make_tensor_value_info(name, TensorProto.FLOAT16, None) for name in halves]
    graph = helper.make_graph(g.nodes, "tiny", taken, given, g.initializers, value_info=known)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    name = f"gpu-{kind}-{task or ''}-{size_hw[0]}x{size_hw[1]}-w{width:g}-k{top_k}-i{images}r{rows}-{precision}.onnx"
    data = model.SerializeToString()
    (folder / name).write_bytes(data)
    ports = [tuple(GpuPort(n, k, tuple(s)) for n, k, s in side) for side in (inputs, outputs)]  # type: ignore[arg-type]
    return GpuGraphSpec(
        name, kind, size_hw, width, top_k, task, images, rows, precision, len(data), hashlib.sha256(data).hexdigest(),
        g.weight_bytes, int(1e6 * width * rows), ports[0], ports[1],
    )  # fmt: skip
