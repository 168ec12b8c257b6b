"""A bundle with experts of some size and the dispatch of a real one, made with the onnx helpers alone.

One MoE block, two tasks: `left` can reach the first two experts, `right` the next two, and nobody the last two.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper
from safetensors.numpy import save_file

from slimpath.runtime.bundles.encoder_spec import BlockExperts, EncoderSpec, ExpertPaths, RouterSpec
from slimpath.runtime.bundles.graph_spec import GraphSpec
from slimpath.runtime.bundles.manifest import Manifest, encode_manifest
from slimpath.runtime.bundles.manifest_parts import Cost, WeightsSpec
from slimpath.runtime.bundles.preprocessing import Preprocessing
from slimpath.runtime.bundles.weights import Weights, file_sha256
from slimpath.runtime.tasks import TaskSpec
from slimpath.tests.runtime.tiny_bundle import _Graph as GraphNodes

EXPERTS, TOP_K, PATCH, SIDE = 6, 2, 16, 64
CELLS = (SIDE // PATCH) ** 2
TASKS = tuple(TaskSpec(name, "image_classes", 3, ("a", "b", "c"), unit="probability") for name in ("left", "right"))
KEPT = {"left": (0, 1), "right": (2, 3)}


def build_expert_bundle(folder: Path, *, dim: int = 32, hidden: int = 4096) -> Path:
    """Write the bundle into `folder`, which is made; an expert weighs 2 * dim * hidden * 4 bytes."""
    folder.mkdir(parents=True)
    save_file(_tensors(dim, hidden), folder / "weights.safetensors")
    weights = Weights(folder / "weights.safetensors")
    graphs = [_write(folder, weights, dim, task) for task in (None, *TASKS)]
    manifest = Manifest(
        schema_version=1,
        name="experts",
        family="vit",
        slimpath_version="0",
        licence="Apache-2.0",
        tasks=TASKS,
        preprocessing=Preprocessing("stretch", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
        encoder=EncoderSpec(dim, 1, 1, PATCH, (0,), EXPERTS, TOP_K, 0, {t.name: _router(t.name) for t in TASKS}),
        sizes=((SIDE, SIDE),),
        widths=(1.0,),
        graphs=tuple(graphs),
        weights=WeightsSpec("weights.safetensors", weights.bytes, file_sha256(weights.path), weights.header.sha256),
    )
    (folder / "manifest.json").write_bytes(encode_manifest(manifest))
    return folder


def _router(task: str) -> RouterSpec:
    mass = tuple(0.5 if expert in KEPT[task] else 0.0 for expert in range(EXPERTS))
    paths = ExpertPaths(0.9, (BlockExperts(KEPT[task], mass, 1.0, 0.5),), 4, "made up", (f"router.{task}.open",))
    return RouterSpec((f"router.{task}.weight",), (f"router.{task}.bias",), paths)


def _tensors(dim: int, hidden: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)

    pattern = draw(hidden, dim)
    tensors: dict[str, np.ndarray] = {"patch": draw(dim, 3, PATCH, PATCH) / np.float32(16)}
    for expert in range(EXPERTS):
        for part, scale in (("up", 1.0), ("down", 0.1)):
            # The same pattern, shifted: drawing 200 MB would take seconds.
            tensors[f"encoder.blocks.0.experts.{part}.{expert}"] = np.roll(pattern, expert, axis=1) * np.float32(scale)
    for task in TASKS:
        tensors[f"head.{task.name}"] = draw(dim, task.channels)
        tensors[f"router.{task.name}.weight"] = draw(dim, EXPERTS) * np.float32(4)
        tensors[f"router.{task.name}.open"] = bias = draw(EXPERTS)
        kept = np.isin(np.arange(EXPERTS), KEPT[task.name])
        tensors[f"router.{task.name}.bias"] = np.where(kept, bias, -np.inf).astype(np.float32)
    return tensors


class _ScalarGraph(GraphNodes):
    def scalar(self, value: int) -> str:
        name = f"c{len(self.initializers)}"
        self.initializers.append(helper.make_tensor(name, TensorProto.INT64, [], [value]))
        return name


def _encoder(g: _ScalarGraph, dim: int) -> list:
    """The lowering of `export/lowering.py`, with ReLU: pairs ordered by expert, one feed-forward per expert."""
    patches = g.op("Conv", "image", g.weight("patch"), strides=[PATCH, PATCH])
    patches = g.op("Transpose", g.op("Reshape", patches, g.ints(0, dim, CELLS)), perm=[0, 2, 1])
    tokens = g.op("Gather", g.op("Concat", g.op("ReduceMean", patches, g.ints(1)), patches, axis=1), "image_index")
    logits = g.op("MatMul", tokens, g.op("Squeeze", "router", g.ints(1)))
    logits = g.op("Add", logits, "router_bias")
    g.op("TopK", logits, g.ints(TOP_K), axis=-1)
    g.nodes[-1].output.append("expert")
    weight = g.op("GatherElements", g.op("Softmax", logits, axis=-1), "expert", axis=-1)
    visited = g.op("Less", g.ints(*range(TOP_K)), g.op("Unsqueeze", "top_k", g.ints(1, 2)))
    weight = g.op("Mul", weight, g.op("Cast", visited, to=TensorProto.FLOAT))
    numbers = g.op("Unsqueeze", g.ints(*range(EXPERTS)), g.ints(1))
    chosen = g.op("Equal", numbers, g.op("Reshape", "expert", g.ints(1, -1)))
    pair = g.op("Squeeze", g.op("Gather", g.op("NonZero", chosen), g.ints(1), axis=0), g.ints(0))
    counts = g.op("ReduceSum", g.op("Cast", chosen, to=TensorProto.INT64), g.ints(1), keepdims=0)
    flat = g.op("Reshape", tokens, g.ints(-1, dim))
    g.op("Split", g.op("Gather", flat, g.op("Div", pair, g.ints(TOP_K))), counts, axis=0, out="part0")
    g.nodes[-1].output.extend(f"part{expert}" for expert in range(1, EXPERTS))
    answers = []
    for expert in range(EXPERTS):
        up, down = (g.weight(f"encoder.blocks.0.experts.{part}.{expert}") for part in ("up", "down"))
        hidden = g.op("Relu", g.op("Gemm", f"part{expert}", up, transB=1))
        answers.append(g.op("Gemm", hidden, down))
    positions = g.op("Range", g.scalar(0), g.op("Size", pair), g.scalar(1))
    place = g.op("ScatterElements", pair, pair, positions)
    answer = g.op("Gather", g.op("Concat", *answers, axis=0), place)
    shape = g.op("Concat", g.op("Shape", "expert"), g.ints(dim), axis=0)
    mixed = g.op("MatMul", g.op("Unsqueeze", weight, g.ints(2)), g.op("Reshape", answer, shape))
    g.op("Add", tokens, g.op("Squeeze", mixed, g.ints(2)), out="tokens")
    return [
        ("image", TensorProto.FLOAT, ["I", 3, SIDE, SIDE]), ("image_index", TensorProto.INT64, ["B"]),
        ("top_k", TensorProto.INT64, ["B"]), ("router", TensorProto.FLOAT, ["B", 1, dim, EXPERTS]),
        ("router_bias", TensorProto.FLOAT, ["B", 1, EXPERTS]),
    ]  # fmt: skip


def _write(folder: Path, weights: Weights, dim: int, task: TaskSpec | None) -> GraphSpec:
    g = _ScalarGraph(weights, "weights.safetensors")
    inputs: list
    if task is None:
        inputs, name, shape = _encoder(g, dim), "tokens", ["B", CELLS + 1, dim]
    else:
        inputs, name, shape = [("tokens", TensorProto.FLOAT, ["R", CELLS + 1, dim])], task.name, ["R", task.channels]
        pooled = g.op("ReduceMean", "tokens", g.ints(1), keepdims=0)
        g.op("Softmax", g.op("MatMul", pooled, g.weight(f"head.{task.name}")), axis=-1, out=name)
    graph = helper.make_graph(
        g.nodes, "experts", [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)], g.initializers,
    )  # fmt: skip
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()
    file = "encoder.onnx" if task is None else f"head-{task.name}.onnx"
    (folder / file).write_bytes(data)
    return GraphSpec(
        file, "encoder" if task is None else "head", (SIDE, SIDE), 1.0, None if task is None else task.name, {},
        len(data), hashlib.sha256(data).hexdigest(), g.weight_bytes, g.weight_bytes // 4, Cost(1000, 1000, 1000),
    )  # fmt: skip
