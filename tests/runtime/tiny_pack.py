"""A task pack for the bundle of `tiny_bundle`, written with the onnx helpers alone."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from onnx import helper
from safetensors.numpy import save_file

from slimpath.runtime.bundles.bundle import Bundle
from slimpath.runtime.bundles.encoder_spec import RouterSpec
from slimpath.runtime.bundles.graph_spec import GraphSpec
from slimpath.runtime.bundles.manifest import PACK_FILE
from slimpath.runtime.bundles.manifest_parts import Cost, WeightsSpec
from slimpath.runtime.bundles.weights import Weights, file_sha256
from slimpath.runtime.packs.manifest import (
    AddedParameters,
    PackBase,
    PackManifest,
    base_sha256,
    encode_pack_manifest,
)
from slimpath.runtime.tasks import TaskSpec
from slimpath.tests.runtime.tiny_bundle import DETAIL, DIM, EXPERTS, HIDDEN, PATCH, SIZES, WIDTHS, _Graph, _head

LAYOUT = TaskSpec("layout", "classes", 3, ("floor", "wall", "ceiling"), unit="class id")


def build_tiny_pack(folder: Path, bundle: Path, task: TaskSpec = LAYOUT, *, seed: int = 7, **changes: Any) -> Path:
    """Write a pack for `bundle` into `folder`, which is made; `changes` replace fields of its pack.json."""
    base = Bundle.open(bundle).manifest
    folder.mkdir(parents=True)
    save_file(_tensors(task, seed, base.is_moe, bool(base.encoder.detail_channels)), folder / "weights.safetensors")
    weights = Weights(folder / "weights.safetensors")
    graphs = [
        _write(folder, weights, task, size_hw, width, bool(base.encoder.detail_channels))
        for size_hw in SIZES
        for width in WIDTHS
    ]
    router = RouterSpec((f"router.{task.name}",), (f"router_bias.{task.name}",)) if base.is_moe else None
    manifest = PackManifest(
        pack_version=1,
        slimpath_version="0",
        licence="Apache-2.0",
        base=PackBase(base.name, base_sha256(base)),
        task=task,
        graphs=tuple(graphs),
        weights=WeightsSpec("weights.safetensors", weights.bytes, file_sha256(weights.path), weights.header.sha256),
        parameters=AddedParameters(DIM * EXPERTS + EXPERTS, 0, HIDDEN * (DIM + task.channels), 4000),
        router=router,
    )
    (folder / PACK_FILE).write_bytes(encode_pack_manifest(msgspec.structs.replace(manifest, **changes)))
    return folder


def rewrite(folder: Path, **changes: Any) -> Path:
    """Change fields of a pack's pack.json."""
    manifest = msgspec.json.decode((folder / PACK_FILE).read_bytes(), type=PackManifest)
    (folder / PACK_FILE).write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, **changes)))
    return folder


def _tensors(task: TaskSpec, seed: int, moe: bool, detail: bool) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {
        f"{task.name}.up": (HIDDEN, DIM),
        f"{task.name}.down": (HIDDEN, task.channels),
    }
    if detail:
        shapes[f"{task.name}.detail"] = (task.channels, DETAIL, 1, 1)
    if moe:
        shapes |= {f"router.{task.name}": (DIM, EXPERTS), f"router_bias.{task.name}": (EXPERTS,)}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def _write(
    folder: Path, weights: Weights, task: TaskSpec, size_hw: tuple[int, int], width: float, detail: bool
) -> GraphSpec:
    g, rows = _Graph(weights, "weights.safetensors"), int(HIDDEN * width)
    inputs, outputs = _head(g, task, size_hw, rows, detail)
    graph = helper.make_graph(
        g.nodes,
        "tiny",
        [helper.make_tensor_value_info(*i) for i in inputs],
        [helper.make_tensor_value_info(*o) for o in outputs],
        g.initializers,
    )
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()
    path = folder / f"head-{task.name}-{size_hw[0]}x{size_hw[1]}-w{width:g}.onnx"
    path.write_bytes(data)
    cells = (size_hw[0] // PATCH) * (size_hw[1] // PATCH)
    cost = Cost(flops_row=2 * (cells + 1) * rows * (DIM + task.channels))
    digest = hashlib.sha256(data).hexdigest()
    return GraphSpec(
        path.name, "head", size_hw, width, task.name, {"hidden": rows}, len(data), digest, g.weight_bytes,
        g.weight_bytes // 4, cost,
    )  # fmt: skip
