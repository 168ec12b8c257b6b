"""Rules of single operators, named in `tensorrt.json`, and rules of our own that hold for every node.

A rule looks at one node for one release and yields what is wrong with it and a way on.
"""

from collections.abc import Callable, Iterator

import numpy as np
import onnx_ir as ir

from .table import Release

Problem = tuple[str, str]  # what is wrong, a way on
Rule = Callable[[ir.Node, Release], Iterator[Problem]]

_RESIZE_PLACES = ("half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners")
_WAIT = {
    "If": "trace the branch that is taken: one graph for each configuration",
    "Loop": "unroll it: the number of rounds is known when the graph is made",
    "Scan": "unroll it: the number of rounds is known when the graph is made",
    "NonZero": "use the `blocked` lowering of the experts: slimpath export --target gpu",
    "NonMaxSuppression": "keep a fixed number of candidates by TopK, and suppress after the graph",
    "Unique": "count with comparisons against every possible value",
    "Compress": "keep all, with a mask",
}
_NOTHING_CONSTANT = "make it an initialiser"


def constant(node: ir.Node, place: int) -> np.ndarray | None:
    """The value of an input that is known before the graph runs, else None."""
    value = node.inputs[place] if place < len(node.inputs) else None
    if value is None:
        return None
    if value.const_value is not None:
        return value.const_value.numpy()
    maker = value.producer()
    if maker is not None and maker.op_type == "Constant" and len(maker.attributes) == 1:
        (attribute,) = maker.attributes.values()
        held = attribute.value  # type: ignore[union-attr]
        return held.numpy() if isinstance(held, ir.TensorProtocol) else np.asarray(held)
    return None


def attribute(node: ir.Node, name: str, default: object) -> object:
    """An attribute's value, or what ONNX takes where there is none."""
    found = node.attributes.get(name)
    value = default if found is None else found.value  # type: ignore[union-attr]
    return value.decode() if isinstance(value, bytes) else value


def no_waiting(node: ir.Node, release: Release) -> Iterator[Problem]:
    """Nothing whose work or shape depends on the data: a CUDA graph cannot hold it, the host would have to look."""
    if node.op_type in _WAIT:
        yield "what it does depends on the data, so the device waits for the host", _WAIT[node.op_type]


def unique_writes(node: ir.Node, release: Release) -> Iterator[Problem]:
    """Scatters whose result cannot depend on the order of writing."""
    if node.op_type not in ("ScatterND", "ScatterElements", "Scatter"):
        return
    way = "give every update a place of its own, then gather and add (export/gpu/lowering.py does)"
    reduction = attribute(node, "reduction", "none")
    if reduction != "none":
        yield f"reduction {reduction!r}: updates of one place race, or need a plugin", way
    indices = constant(node, 1)
    if indices is None:
        if node.op_type == "ScatterND":
            yield "whether its indices repeat is not known before it runs", way
        return
    axis = int(attribute(node, "axis", 0))  # type: ignore[call-overload]
    lines = indices.reshape(-1, indices.shape[-1]) if node.op_type == "ScatterND" else np.moveaxis(indices, axis, -1)
    if node.op_type == "ScatterND":
        repeated = len(np.unique(lines, axis=0)) < len(lines)
    else:
        rows = lines.reshape(-1, lines.shape[-1])
        repeated = any(len(np.unique(row)) < len(row) for row in rows)
    if repeated:
        yield "its indices repeat, so which update wins is not defined", way


def short_indices(node: ir.Node, release: Release) -> Iterator[Problem]:
    """No whole numbers of 64 bits are computed: TopK's are cast to 32 bits by everything that reads them."""
    for output in node.outputs:
        if output.dtype != ir.DataType.INT64 or not output.uses() or node.op_type == "Constant":
            continue
        casts = [
            use.node.op_type == "Cast" and use.node.attributes["to"].as_int() == ir.DataType.INT32
            for use in output.uses()
        ]
        if node.op_type == "TopK" and casts and all(casts):
            continue
        yield f"'{output.name}' is computed in int64", "cast indices to int32 where they arise"


def kept_in_float32(node: ir.Node, release: Release) -> Iterator[Problem]:
    """Norms, softmax and the choice of experts lose too much in 16 bits."""
    short = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
    if node.op_type in ("LayerNormalization", "Softmax", "LogSoftmax", "TopK"):
        for value in node.inputs[:1]:
            if value is not None and value.dtype is not None and value.dtype in short:
                yield f"runs in {value.dtype.name.lower()}", "cast its input to float32 (export/gpu/precision.py does)"


def one_type(node: ir.Node, release: Release) -> Iterator[Problem]:
    """A strongly typed network casts nothing by itself."""
    if node.op_type not in _ONE_TYPE:
        return
    found = {value.dtype for value in node.inputs if value is not None and value.dtype is not None}
    if len(found) > 1:
        listed = ", ".join(sorted(dtype.name.lower() for dtype in found))
        yield f"mixes {listed}", "put a Cast before it: TensorRT 11 is always strongly typed"


def topk(node: ir.Node, release: Release) -> Iterator[Problem]:
    count = constant(node, 1)
    if count is None:
        yield "k is not known before it runs", "fix k: one graph for each top-k"
    elif int(count.reshape(-1)[0]) > release.topk:
        yield f"k is {int(count.reshape(-1)[0])}, at most {release.topk} is supported", "sort in parts"
    if not attribute(node, "sorted", 1):
        yield "sorted=0 is not supported", "set sorted=1"


def resize(node: ir.Node, release: Release) -> Iterator[Problem]:
    place = attribute(node, "coordinate_transformation_mode", "half_pixel")
    if place not in _RESIZE_PLACES:
        yield f"coordinate_transformation_mode {place!r}", f"use one of {', '.join(_RESIZE_PLACES)}"
    if attribute(node, "mode", "nearest") not in ("nearest", "linear"):
        yield f"mode {attribute(node, 'mode', 'nearest')!r}", "use nearest or linear"
    if attribute(node, "antialias", 0):
        yield "antialiasing is not supported", "blur by a convolution before it"
    if attribute(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
        yield "only the aspect ratio policy 'stretch' is supported", "give both sizes"
    if constant(node, 2) is None and constant(node, 3) is None:
        yield "its scales or sizes are not known before it runs", _NOTHING_CONSTANT


def quantize(node: ir.Node, release: Release) -> Iterator[Problem]:
    if constant(node, 1) is None:
        yield "its scale is not known before it runs", "calibrate before the export, and store the scale"
    zero = constant(node, 2)
    if zero is None:
        yield "no zero point: the codes would be uint8", "give a zero point of int8 zeros"
    elif zero.dtype == np.uint8:
        yield "its codes are uint8", "quantise symmetrically to int8"
    elif np.any(zero != 0):
        yield "its zero point is not 0", "quantise symmetrically"


def one_output(node: ir.Node, release: Release) -> Iterator[Problem]:
    if any(output.uses() for output in node.outputs[1:]):
        yield "only its first output is supported", "compute what else is needed by nodes of its own"


def pool(node: ir.Node, release: Release) -> Iterator[Problem]:
    dilations = attribute(node, "dilations", [])
    if any(step != 1 for step in dilations):  # type: ignore[union-attr, attr-defined]
        yield f"dilations {list(dilations)}", "use dilations of 1"  # type: ignore[call-overload]


def constant_1(node: ir.Node, release: Release) -> Iterator[Problem]:
    given = node.inputs[1] if len(node.inputs) > 1 else None
    if given is not None and constant(node, 1) is None:
        yield f"its second input, '{given.name}', is not known before it runs", _NOTHING_CONSTANT


def loop_in_10(node: ir.Node, release: Release) -> Iterator[Problem]:
    if release.name == "10":
        yield "the parser of 10.1 makes a loop of it, element by element", "multiply by a triangle of ones instead"


def no_reduction(node: ir.Node, release: Release) -> Iterator[Problem]:
    if attribute(node, "reduction", "none") != "none":
        yield "a reduction is not supported", "write once to every place"


def inference(node: ir.Node, release: Release) -> Iterator[Problem]:
    mode = constant(node, 2)
    if len(node.inputs) > 2 and node.inputs[2] is not None and (mode is None or bool(mode.reshape(-1)[0])):
        yield "it is set to training", "export in evaluation mode"


def rank_4(node: ir.Node, release: Release) -> Iterator[Problem]:
    value = node.inputs[0]
    most = 4 if release.name == "10" else 5
    if value is not None and value.shape is not None and not 4 <= len(value.shape) <= most:
        yield f"its input has {len(value.shape)} axes, supported are 4 to {most}", "reshape to 4 axes"


def gemm_scale(node: ir.Node, release: Release) -> Iterator[Problem]:
    value = node.inputs[0]
    scaled = attribute(node, "alpha", 1.0) != 1.0 or attribute(node, "beta", 1.0) != 1.0
    if scaled and value is not None and value.dtype != ir.DataType.FLOAT:
        yield "alpha or beta other than 1: the parser multiplies by a float32 constant", "multiply the weight instead"


_ONE_TYPE = frozenset({
    "Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Sum", "MatMul", "Gemm", "Conv", "ConvTranspose",
    "Concat", "LayerNormalization",
})  # fmt: skip
EVERYWHERE: tuple[Rule, ...] = (no_waiting, unique_writes, short_indices, kept_in_float32, one_type)
NAMED: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        topk, resize, quantize, one_output, pool, constant_1, loop_in_10, no_reduction, inference, rank_4, gemm_scale,
    )
}  # fmt: skip
