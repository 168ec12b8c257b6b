"""A bundle of a few kilobytes, written with the onnx helpers alone: the engine is tested without export and torch.

It has all that a real one has: sizes, widths that are prefixes of one weights file, task routers, top_k, detail, and
one task of each kind. The network means nothing, but every input changes the outputs.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from safetensors.numpy import save_file

from slimpath.runtime.bundles.accuracy import Accuracy
from slimpath.runtime.bundles.encoder_spec import EncoderSpec, RouterSpec
from slimpath.runtime.bundles.graph_spec import GraphSpec
from slimpath.runtime.bundles.manifest import Manifest, encode_manifest
from slimpath.runtime.bundles.manifest_parts import Cost, WeightsSpec
from slimpath.runtime.bundles.preprocessing import Preprocessing
from slimpath.runtime.bundles.weights import Weights, file_sha256
from slimpath.runtime.tasks import TaskSpec

DIM, HIDDEN, EXPERTS, TOP_K, DETAIL, PATCH = 8, 8, 4, 2, 2, 16
SIZES = ((32, 48), (32, 32))
WIDTHS = (0.5, 1.0)
TASKS = (
    TaskSpec("semseg", "classes", 5, ("wall", "floor", "bed", "door", "lamp"), unit="class id"),
    TaskSpec("depth", "depth", 1, unit="m"),
    TaskSpec("normals", "normals", 3, unit="unit vector"),
    TaskSpec("edge", "probability", 1, unit="probability"),
    TaskSpec("scene", "image_classes", 3, ("kitchen", "bedroom", "office"), unit="probability"),
)
PREPROCESSING = Preprocessing("letterbox", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "rgb", (124, 116, 104))


def build_tiny_bundle(folder: Path, *, moe: bool = True, detail: bool = True, accuracies: bool = True) -> Path:
    """Write the bundle into `folder`, which is made."""
    folder.mkdir(parents=True)
    save_file(_tensors(moe), folder / "weights.safetensors")
    weights = Weights(folder / "weights.safetensors")
    graphs = []
    for size_hw in SIZES:
        for width in WIDTHS:
            graphs.append(_write(folder, weights, "encoder", size_hw, width, None, moe, detail))
            graphs.extend(_write(folder, weights, "head", size_hw, width, task, moe, detail) for task in TASKS)
    manifest = Manifest(
        schema_version=1,
        name="tiny",
        family="vit",
        slimpath_version="0",
        licence="Apache-2.0",
        tasks=TASKS,
        preprocessing=PREPROCESSING,
        encoder=EncoderSpec(
            DIM, 1, 1, PATCH, (0,) if moe else (), EXPERTS if moe else 0, TOP_K if moe else 0, DETAIL if detail else 0,
            {t.name: RouterSpec((f"router.{t.name}",), (_bias_name(t.name),)) for t in TASKS} if moe else {},
        ),
        sizes=SIZES,
        widths=WIDTHS,
        graphs=tuple(graphs),
        weights=WeightsSpec(
            "weights.safetensors", weights.bytes, file_sha256(weights.path), weights.header.sha256
        ),
        accuracies=_accuracies(moe) if accuracies else (),
    )  # fmt: skip
    (folder / "manifest.json").write_bytes(encode_manifest(manifest))
    return folder


def _bias_name(task: str) -> str | None:
    return None if task == "depth" else f"router_bias.{task}"  # a router may have none


def _tensors(moe: bool) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    tensors = {
        "patch": draw(DIM, 3, PATCH, PATCH), "class_token": draw(1, 1, DIM), "detail": draw(DETAIL, 3, 4, 4),
        "up": draw(HIDDEN, DIM), "down": draw(HIDDEN, DIM), "experts": draw(EXPERTS, DIM),
    }  # fmt: skip
    for task in TASKS:
        tensors[f"{task.name}.up"], tensors[f"{task.name}.down"] = draw(HIDDEN, DIM), draw(HIDDEN, task.channels)
        tensors[f"{task.name}.detail"] = draw(task.channels, DETAIL, 1, 1)
        if moe:
            tensors[f"router.{task.name}"], tensors[f"router_bias.{task.name}"] = draw(DIM, EXPERTS) * 5, draw(EXPERTS)
    return tensors


class _Graph:
    """Collects nodes; weights are referred to in the safetensors file, whole or their first rows."""

    def __init__(self, weights: Weights, weights_file: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.weight_bytes = 0
        self._weights, self._file = weights, weights_file

    def op(self, kind: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        name = out or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def weight(self, name: str, rows: int | None = None) -> str:
        entry = self._weights.header.tensors[name]
        shape = entry.shape if rows is None else (rows, *entry.shape[1:])
        length = 4 * int(np.prod(shape))
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", self._file), ("offset", entry.offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))
        self.initializers.append(tensor)
        self.weight_bytes += length
        return name

    def ints(self, *values: int) -> str:
        name = f"c{len(self.initializers)}"
        self.initializers.append(helper.make_tensor(name, TensorProto.INT64, [len(values)], values))
        return name

    def floats(self, *values: float) -> str:
        name = f"c{len(self.initializers)}"
        self.initializers.append(helper.make_tensor(name, TensorProto.FLOAT, [len(values)], values))
        return name

    def mlp(self, tokens: str, up: str, down: str, rows: int) -> str:
        hidden = self.op("MatMul", tokens, self.op("Transpose", self.weight(up, rows), perm=[1, 0]))
        return self.op("MatMul", self.op("Relu", hidden), self.weight(down, rows))


def _encoder(g: _Graph, size_hw: tuple[int, int], rows: int, moe: bool, detail: bool) -> tuple[list, list]:
    cells = (size_hw[0] // PATCH) * (size_hw[1] // PATCH)
    patches = g.op("Conv", "image", g.weight("patch"), strides=[PATCH, PATCH])
    flat = g.op("Transpose", g.op("Reshape", patches, g.ints(0, DIM, cells)), perm=[0, 2, 1])
    images = g.op("Shape", "image", start=0, end=1)
    class_token = g.op("Expand", g.weight("class_token"), g.op("Concat", images, g.ints(1, 1), axis=0))
    shared = g.op("Concat", class_token, flat, axis=1)
    shared = g.op("Add", shared, g.mlp(shared, "up", "down", rows))
    of_rows = g.op("Gather", shared, "image_index", axis=0)
    inputs = [("image", TensorProto.FLOAT, ["I", 3, *size_hw]), ("image_index", TensorProto.INT64, ["B"])]
    outputs: list = [("tokens", TensorProto.FLOAT, ["B", cells + 1, DIM])]
    if moe:
        inputs += [
            ("top_k", TensorProto.INT64, ["B"]),
            ("router", TensorProto.FLOAT, ["B", 1, DIM, EXPERTS]),
            ("router_bias", TensorProto.FLOAT, ["B", 1, EXPERTS]),
        ]
        router = g.op("Squeeze", "router", g.ints(1))
        gates = g.op("Softmax", g.op("Add", g.op("MatMul", of_rows, router), "router_bias"), axis=-1)
        share = g.op("Unsqueeze", g.op("Cast", "top_k", to=TensorProto.FLOAT), g.ints(1, 2))
        mixed = g.op("Mul", g.op("MatMul", gates, g.weight("experts")), share)
        g.op("Add", of_rows, mixed, out="tokens")
    else:
        g.op("Identity", of_rows, out="tokens")
    if detail:
        g.op("Conv", "image", g.weight("detail"), strides=[4, 4], out="detail_out")
        g.nodes[-1].output[0] = "detail"
        g.nodes[-1].input[1] = "detail_weight"
        g.initializers[-1].name = "detail_weight"
        outputs.append(("detail", TensorProto.FLOAT, ["I", DETAIL, size_hw[0] // 4, size_hw[1] // 4]))
    return inputs, outputs


def _head(g: _Graph, task: TaskSpec, size_hw: tuple[int, int], rows: int, detail: bool) -> tuple[list, list]:
    rows_hw = size_hw[0] // PATCH, size_hw[1] // PATCH
    cells, channels = rows_hw[0] * rows_hw[1], task.channels
    inputs: list = [("tokens", TensorProto.FLOAT, ["R", cells + 1, DIM])]
    raw = g.mlp("tokens", f"{task.name}.up", f"{task.name}.down", rows)
    if task.kind == "image_classes":
        first = g.op("Gather", raw, g.ints(0), axis=1)
        g.op("Softmax", g.op("Squeeze", first, g.ints(1)), axis=-1, out=task.name)
        return inputs, [(task.name, TensorProto.FLOAT, ["R", channels])]
    dense = g.op("Slice", raw, g.ints(1), g.ints(cells + 1), g.ints(1))
    dense = g.op("Reshape", g.op("Transpose", dense, perm=[0, 2, 1]), g.ints(0, channels, *rows_hw))
    dense = g.op("Resize", dense, "", g.floats(1, 1, PATCH, PATCH), mode="linear")
    if detail:
        inputs.append(("detail", TensorProto.FLOAT, ["R", DETAIL, size_hw[0] // 4, size_hw[1] // 4]))
        fine = g.op("Conv", "detail", g.weight(f"{task.name}.detail"))
        dense = g.op("Add", dense, g.op("Resize", fine, "", g.floats(1, 1, 4, 4), mode="linear"))
    if task.kind == "normals":
        g.op("LpNormalization", dense, axis=1, p=2, out=task.name)
    else:
        last = {"classes": "Identity", "depth": "Exp", "probability": "Sigmoid"}[task.kind]
        g.op(last, dense, out=task.name)
    return inputs, [(task.name, TensorProto.FLOAT, ["R", channels, *size_hw])]


def _write(
    folder: Path, weights: Weights, kind: str, size_hw: tuple[int, int], width: float, task: TaskSpec | None,
    moe: bool, detail: bool,
) -> GraphSpec:  # fmt: skip
    g, rows = _Graph(weights, "weights.safetensors"), int(HIDDEN * width)
    if task is None:
        inputs, outputs = _encoder(g, size_hw, rows, moe, detail)
        # Multiply-adds of the matrix products and the convolutions, twice.
        cells = (size_hw[0] // PATCH) * (size_hw[1] // PATCH)
        image_flops = 2 * cells * DIM * 3 * PATCH * PATCH + 2 * 2 * (cells + 1) * rows * DIM
        cost = Cost(image_flops, 2 * (cells + 1) * DIM * EXPERTS * moe, 2 * (cells + 1) * DIM * moe)
    else:
        inputs, outputs = _head(g, task, size_hw, rows, detail)
        cells = (size_hw[0] // PATCH) * (size_hw[1] // PATCH)
        cost = Cost(flops_row=2 * (cells + 1) * rows * (DIM + task.channels))
    graph = helper.make_graph(
        g.nodes, "tiny", [helper.make_tensor_value_info(*i) for i in inputs],
        [helper.make_tensor_value_info(*o) for o in outputs], g.initializers,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    prefix = kind if task is None else f"{kind}-{task.name}"
    path = folder / f"{prefix}-{size_hw[0]}x{size_hw[1]}-w{width:g}.onnx"
    data = model.SerializeToString()
    path.write_bytes(data)
    return GraphSpec(
        path.name, "encoder" if task is None else "head", size_hw, width, None if task is None else task.name,
        {"hidden": rows}, len(data), hashlib.sha256(data).hexdigest(), g.weight_bytes, g.weight_bytes // 4, cost,
    )  # fmt: skip


def _accuracies(moe: bool) -> tuple[Accuracy, ...]:
    """Wider is better, of every kind; depth's metric is an error, so lower is better there."""
    found = []
    for task in TASKS:
        for encoder_width in WIDTHS:
            for top_k in range(1, TOP_K + 1) if moe else (0,):
                for decoder_width in WIDTHS:
                    gain = 0.5 * encoder_width + 0.1 * top_k + 0.2 * decoder_width
                    values = ("RMSE", False, 2 - gain) if task.kind == "depth" else ("mIoU", True, 0.1 + gain / 2)
                    trivial = 2.0 if task.kind == "depth" else 0.1
                    which = (task.name, encoder_width, top_k, decoder_width)
                    found.append(Accuracy(*which, *values, None, None, trivial, 8, "made up"))
    return tuple(found)
