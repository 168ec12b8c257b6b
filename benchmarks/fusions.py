"""Rewrites of an encoder graph that were tried: ONNX Runtime's own fused operators, which its optimiser leaves out.

    attention   query x key, softmax, x value and their transposes -> com.microsoft.MultiHeadAttention
    norms       residual sum + LayerNormalization -> com.microsoft.SkipLayerNormalization, the sum as a second output

`benchmarks/tried.py` measures them. Both give the same answers to 2e-6; neither is faster, so exports are plain ONNX.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import onnx
from onnx import helper, numpy_helper

DOMAIN = "com.microsoft"


def fuse_attention(data: bytes) -> bytes:
    """Every softmax between two products becomes one operator."""
    model = onnx.load_model_from_string(data)
    graph = model.graph
    made_by, readers, constants = _made_by(graph), _readers(graph), _constants(graph)
    replaced: dict[str, list[onnx.NodeProto]] = {}
    gone: set[str] = set()
    for number, softmax in enumerate(node for node in graph.node if node.op_type == "Softmax"):
        scores = made_by[softmax.input[0]]
        if scores.op_type != "MatMul" or made_by[scores.input[0]].op_type != "Mul":
            continue  # a router's
        scaled, keys = made_by[scores.input[0]], made_by[scores.input[1]]
        split = made_by[made_by[made_by[scaled.input[0]].input[0]].input[0]]  # Squeeze <- Slice <- Transpose
        mixed = readers[softmax.output[0]][0]
        back = readers[mixed.output[0]][0]
        flat = readers[back.output[0]][0]
        shaped = made_by[split.input[0]]
        for slice_ in readers[split.output[0]]:
            gone |= {slice_.output[0], readers[slice_.output[0]][0].output[0]}
        gone |= {node.output[0] for node in (split, scaled, keys, scores, softmax, mixed, back, flat)}
        _, count, heads, _, size = (int(side) for side in constants[shaped.input[1]])
        scale = float(constants[scaled.input[1]])
        replaced[flat.output[0]] = _attention(graph, f"fused{number}", shaped, flat, count, heads, size, scale)
    return _with_nodes(model, (new for node in graph.node for new in _kept(node, replaced, gone)))


def _attention(
    graph: onnx.GraphProto, name: str, shaped: onnx.NodeProto, flat: onnx.NodeProto, count: int, heads: int, size: int,
    scale: float,
) -> list[onnx.NodeProto]:  # fmt: skip
    graph.initializer.append(numpy_helper.from_array(np.array([0, count, heads * size], np.int64), f"{name}_shape"))
    parts = [f"{name}_{part}" for part in ("query", "key", "value")]
    nodes = [helper.make_node("Split", [shaped.output[0]], [f"{part}5" for part in parts], axis=3, num_outputs=3)]
    nodes += [helper.make_node("Reshape", [f"{part}5", f"{name}_shape"], [part]) for part in parts]
    nodes.append(
        helper.make_node("MultiHeadAttention", parts, [f"{name}_out"], domain=DOMAIN, num_heads=heads, scale=scale)
    )
    return [*nodes, helper.make_node("Reshape", [f"{name}_out", flat.input[1]], [flat.output[0]])]


def fuse_norms(data: bytes) -> bytes:
    """Every residual sum that is normalised becomes one operator with both outputs."""
    model = onnx.load_model_from_string(data)
    made_by = _made_by(model.graph)
    norms = {
        node.input[0]: node
        for node in model.graph.node
        if node.op_type == "LayerNormalization"
        and node.input[0] in made_by
        and made_by[node.input[0]].op_type == "Add"
        and not any(name.endswith("position") for name in made_by[node.input[0]].input)  # broadcast over images
    }
    replaced, gone = {}, {norm.output[0] for norm in norms.values()}
    for total, norm in norms.items():
        epsilon = next(helper.get_attribute_value(item) for item in norm.attribute if item.name == "epsilon")
        replaced[total] = [
            helper.make_node(
                "SkipLayerNormalization", [*made_by[total].input, norm.input[1], norm.input[2]],
                [norm.output[0], "", "", total], domain=DOMAIN, epsilon=epsilon,
            )
        ]  # fmt: skip
    return _with_nodes(model, (new for node in model.graph.node for new in _kept(node, replaced, gone)))


REWRITES: dict[str, Callable[[bytes], bytes]] = {
    "MultiHeadAttention": fuse_attention,
    "SkipLayerNormalization": fuse_norms,
}


def _kept(node: onnx.NodeProto, replaced: dict[str, list[onnx.NodeProto]], gone: set[str]) -> list[onnx.NodeProto]:
    if node.output[0] in replaced:
        return replaced[node.output[0]]
    return [] if node.output[0] in gone else [node]


def _with_nodes(model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> bytes:
    copies = []
    for node in nodes:
        copies.append(onnx.NodeProto())
        copies[-1].CopyFrom(node)
    del model.graph.node[:]
    model.graph.node.extend(copies)
    if all(opset.domain != DOMAIN for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return model.SerializeToString()


def _made_by(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    return {name: node for node in graph.node for name in node.output}


def _readers(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    found: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found


def _constants(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    own = (tensor for tensor in graph.initializer if tensor.data_location != onnx.TensorProto.EXTERNAL)
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in own}
