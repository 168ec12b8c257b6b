"""float16 written into a graph: TensorRT 11 takes every type from the graph, and chooses none itself.

Products, convolutions and the element-wise work between them become float16. These stay float32: the routers (logits,
softmax, choice, weights), norms, softmax, whatever counts (the places of tokens among those of their expert), functions
that float16 spoils, and the last element-wise steps before an output. Inputs and outputs are always float32.
"""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from ...runtime.bundles import graph_names as names
from ..errors import GraphBuildError

FP32, FP16 = ir.DataType.FLOAT, ir.DataType.FLOAT16
#: Computed in float32 wherever they stand.
ALWAYS_FP32 = frozenset({
    "LayerNormalization", "Softmax", "LogSoftmax", "Exp", "Log", "Sqrt", "Reciprocal", "Pow", "Div",
    "Sigmoid", "ReduceMean", "ReduceL2", "TopK",
})  # fmt: skip
#: Moves data: takes whatever type its data have, so that no cast is added.
_MOVES = frozenset({
    "Reshape", "Transpose", "Slice", "Split", "Gather", "Squeeze", "Unsqueeze", "Expand", "Identity",
    "Flatten", "Concat",
})  # fmt: skip
#: Work that is worth float16; what comes after the last of it is the tail of a graph.
_HEAVY = frozenset({
    "MatMul", "Gemm", "Conv", "ConvTranspose", "Resize", "Gelu", "Einsum",
})  # fmt: skip
#: Inputs of an operator that keep their type, from this one on.
_KEPT_FROM = {"Resize": 1}


def to_float16(model: ir.Model) -> None:
    """Change a float32 graph in place; constants are rounded once.

    Raises:
        GraphBuildError: a constant does not fit float16.
    """
    single = _single_precision_nodes(model)
    converted: dict[tuple[int, ir.DataType], ir.Value] = {}
    for node in list(model.graph):
        wanted = FP32 if node in single else FP16
        if node.op_type in _MOVES and node not in single:
            wanted = _dtype_of_data(node)
        for place, value in enumerate(node.inputs[: _KEPT_FROM.get(node.op_type)]):
            if value is not None and value.dtype in (FP32, FP16) and value.dtype != wanted:
                node.replace_input_with(place, _as_type(model, value, wanted, node, converted))
        if node.op_type == "Cast" and node.attributes["to"].as_int() == FP32.value:
            continue  # from whole numbers or truth values
        for output in node.outputs:
            if output.dtype == FP32:
                output.type = ir.TensorType(wanted)  # a new one: copies of a graph share theirs
    _outputs_to_float32(model)
    for name, value in list(model.graph.initializers.items()):
        if not value.uses():
            del model.graph.initializers[name]


def _dtype_of_data(node: ir.Node) -> ir.DataType:
    """The widest type among the computed values that a node moves; constants follow it, alone they are float16."""
    computed = [value.dtype for value in node.inputs if value is not None and not value.is_initializer()]
    return FP32 if FP32 in computed else FP16


def _as_type(
    model: ir.Model,
    value: ir.Value,
    wanted: ir.DataType,
    before: ir.Node,
    converted: dict[tuple[int, ir.DataType], ir.Value],
) -> ir.Value:
    key = id(value), wanted
    if key not in converted:
        suffix = "fp16" if wanted == FP16 else "fp32"
        if value.const_value is not None:
            converted[key] = _rounded_constant(model, value, wanted, f"{value.name}@{suffix}")
        else:
            cast = ir.node("Cast", [value], {"to": wanted.value}, name=None)
            output = cast.outputs[0]
            output.name, output.shape, output.type = f"{value.name}_{suffix}", value.shape, ir.TensorType(wanted)
            model.graph.insert_before(before, cast)
            converted[key] = output
    return converted[key]


def _rounded_constant(model: ir.Model, value: ir.Value, wanted: ir.DataType, name: str) -> ir.Value:
    assert value.const_value is not None
    exact = value.const_value.numpy()
    with np.errstate(over="ignore"):
        rounded = exact.astype(wanted.numpy())
    if not np.isfinite(rounded).all() and np.isfinite(exact).all():
        raise GraphBuildError(f"'{value.name}' holds numbers up to {np.abs(exact).max():.3g}, too large for float16")
    tensor = ir.tensor(rounded, name=name)
    made = ir.Value(name=name, shape=ir.Shape(rounded.shape), type=ir.TensorType(wanted), const_value=tensor)
    model.graph.register_initializer(made)
    return made


def _outputs_to_float32(model: ir.Model) -> None:
    for place, output in enumerate(model.graph.outputs):
        if output.dtype != FP16:
            continue
        producer, name = output.producer(), output.name
        assert producer is not None
        output.name = f"{name}_fp16"
        cast = ir.node("Cast", [output], {"to": FP32.value}, name=None)
        made = cast.outputs[0]
        made.name, made.shape, made.type = name, output.shape, ir.TensorType(FP32)
        model.graph.append(cast)
        model.graph.outputs[place] = made


def _single_precision_nodes(model: ir.Model) -> set[ir.Node]:
    single = _lineage(model) | _tail(model)
    return single | {node for node in model.graph if node.op_type in ALWAYS_FP32}


def _lineage(model: ir.Model) -> set[ir.Node]:
    """Nodes that work on what comes from the routers or from counting, up to where it weighs something else.

    Counts go beyond 2048, where float16 skips whole numbers: even the cast back to indices must read float32.
    """
    values = {value for value in model.graph.inputs if value.name in (names.ROUTER, names.ROUTER_BIAS)}
    nodes: set[ir.Node] = set()
    for node in model.graph:
        given = [value for value in node.inputs if value is not None]
        counts = node.op_type == "Cast" and given[0].dtype is not None and not given[0].dtype.is_floating_point()
        if not counts and not any(value in values for value in given):
            continue
        if node.op_type == "Mul" and any(value not in values and value.const_value is None for value in given):
            continue  # the weight of an answer
        nodes.add(node)
        values.update(value for value in node.outputs if value.dtype == FP32)
    return nodes


def _tail(model: ir.Model) -> set[ir.Node]:
    """Nodes after which nothing heavy comes, on any way to an output."""
    return _without_heavy_descendants(model, lambda node: node.op_type in _HEAVY)


def _without_heavy_descendants(model: ir.Model, heavy: Callable[[ir.Node], bool]) -> set[ir.Node]:
    tail: set[ir.Node] = set()
    for node in reversed(list(model.graph)):
        readers = {use.node for value in node.outputs for use in value.uses()}
        if not heavy(node) and readers <= tail:
            tail.add(node)
    return tail
