"""int8 written into a graph as QuantizeLinear and DequantizeLinear pairs, which TensorRT turns into int8 products.

Quantised are dense products and convolutions with stored weights: attention's projections, dense feed-forward parts,
1x1 and patch convolutions of decoders. Symmetric, as TensorRT asks: weights with a scale per output, from the full
width, so that a narrow width is a prefix of the same codes; activations with one scale, from calibration pictures.
Experts keep float16: their weights are gathered before the product, and a product of gathered codes is none that
TensorRT knows. Attention's own two products, transposed and depthwise convolutions stay, too.

This comes before `precision.to_float16`, which makes scales float16; they are kept where float16 has all its digits.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir

LIMIT = 127  # -128 stays unused, so that the grid is symmetric
SMALLEST_SCALE = 2.0**-14  # the smallest normal float16
PERCENTILE = 99.99  # of a run's magnitudes: what lies beyond is clipped
Feeds = Iterable[dict[str, np.ndarray]]


def quantised_nodes(model: ir.Model) -> list[ir.Node]:
    """The products and convolutions that become int8; the first layer of an encoder, which reads pixels, does not."""
    found = []
    for node in model.graph:
        if node.op_type not in ("Gemm", "Conv") or node.inputs[0] is None or node.inputs[0].is_graph_input():
            continue
        weight = node.inputs[1]
        groups = node.attributes["group"].as_int() if "group" in node.attributes else 1
        if weight is not None and weight.const_value is not None and groups == 1:
            found.append(node)
    return found


def activation_ranges(
    model: ir.Model, feeds: Feeds, folder: Path, open_run: Callable[[str], Callable]
) -> dict[str, float]:
    """Largest magnitude, but for outliers, of everything that a quantised node reads, by name; over all feeds.

    Args:
        folder: for the graph while it is run.
        open_run: from a path to a function of inputs that gives outputs by name.
    """
    watched = model.clone()
    names = list(dict.fromkeys(str(node.inputs[0].name) for node in quantised_nodes(watched)))  # type: ignore[union-attr]
    values = {value.name: value for node in watched.graph for value in node.outputs}
    known = {value.name for value in watched.graph.outputs}
    watched.graph.outputs.extend(values[name] for name in names if name not in known)
    path, data = folder / "calibrate.onnx", folder / "calibrate.data"
    ir.save(watched, str(path), external_data=data.name)
    try:
        run, ranges = open_run(str(path)), dict.fromkeys(names, 0.0)
        for inputs in feeds:
            answers = run(inputs)
            for name in names:
                ranges[name] = max(ranges[name], float(np.percentile(np.abs(answers[name]), PERCENTILE)))
    finally:
        path.unlink(missing_ok=True)
        data.unlink(missing_ok=True)
    return ranges


def quantise(model: ir.Model, ranges: Mapping[str, float], full: Mapping[str, np.ndarray]) -> None:
    """Put pairs before both operands of every quantised node, in place.

    Args:
        ranges: of the activations, by name.
        full: the weights at full width, by name.
    """
    read: dict[str, ir.Value] = {}
    weights: dict[tuple[str, int], ir.Value] = {}  # several nodes may read one: adapters that all tasks share
    for node in quantised_nodes(model):
        value, weight, axis = node.inputs[0], node.inputs[1], _output_axis(node)
        assert value is not None and value.name is not None and weight is not None and weight.name is not None
        if value.name not in read:
            read[value.name] = _through_int8(model, value, ranges[value.name], node)
        if (weight.name, axis) not in weights:
            weights[weight.name, axis] = _weight_from_int8(model, weight, full[weight.name], axis, node)
        node.replace_input_with(0, read[value.name])
        node.replace_input_with(1, weights[weight.name, axis])
    for name, value in list(model.graph.initializers.items()):
        if not value.uses():
            del model.graph.initializers[name]


def weight_codes(array: np.ndarray, full: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes int8 and scales float32 of a weight that is a prefix of `full`, a scale per entry of `axis`."""
    others = tuple(place for place in range(full.ndim) if place != axis)
    scale = np.maximum(np.abs(full).max(axis=others) / LIMIT, SMALLEST_SCALE)
    # Rounded as the graph holds it, upwards, so that nothing clips.
    short = scale.astype(np.float16)
    short = np.where(short.astype(np.float64) < scale, np.nextafter(short, np.float16(np.inf)), short)
    scale = short[: array.shape[axis]].astype(np.float32)
    spread = scale.reshape([-1 if place == axis else 1 for place in range(array.ndim)])
    return np.clip(np.rint(array / spread), -LIMIT, LIMIT).astype(np.int8), scale


def _output_axis(node: ir.Node) -> int:
    """Axis of a weight along which its outputs lie."""
    transposed = node.op_type == "Gemm" and "transB" in node.attributes and node.attributes["transB"].as_int()
    return 0 if node.op_type == "Conv" or transposed else 1


def _through_int8(model: ir.Model, value: ir.Value, largest: float, before: ir.Node) -> ir.Value:
    size = np.float16(max(largest / LIMIT, SMALLEST_SCALE))
    scale = _initializer(model, f"{value.name}_scale", np.array(size, dtype=np.float32))
    zero = _initializer(model, f"{value.name}_zero", np.array(0, dtype=np.int8))
    codes = _node(
        model, "QuantizeLinear", [value, scale, zero], f"{value.name}_int8", value.shape, ir.DataType.INT8, before
    )
    return _node(
        model, "DequantizeLinear", [codes, scale, zero], f"{value.name}_back", value.shape, value.dtype, before
    )


def _weight_from_int8(model: ir.Model, weight: ir.Value, full: np.ndarray, axis: int, before: ir.Node) -> ir.Value:
    assert weight.const_value is not None
    codes, scale = weight_codes(weight.const_value.numpy(), full, axis)
    inputs = [
        _initializer(model, f"{weight.name}.int8", codes),
        _initializer(model, f"{weight.name}.int8_scale", scale),
        _initializer(model, f"{weight.name}.int8_zero", np.zeros(len(scale), dtype=np.int8)),
    ]
    name = f"{weight.name}_back"
    return _node(model, "DequantizeLinear", inputs, name, weight.shape, weight.dtype, before, axis=axis)


def _initializer(model: ir.Model, name: str, array: np.ndarray) -> ir.Value:
    tensor = ir.tensor(array, name=name)
    made = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    model.graph.register_initializer(made)
    return made


def _node(
    model: ir.Model,
    operator: str,
    inputs: list[ir.Value],
    name: str,
    shape: ir.Shape | None,
    dtype: ir.DataType | None,
    before: ir.Node,
    **attributes: int,
) -> ir.Value:
    node = ir.node(operator, inputs, attributes)
    output = node.outputs[0]
    assert dtype is not None
    output.name, output.shape, output.type = name, shape, ir.TensorType(dtype)
    model.graph.insert_before(before, node)
    return output
