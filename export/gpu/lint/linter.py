"""Go through a graph, node by node, and say what TensorRT would refuse, why, and what to do instead."""

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir

from ...errors import ExportError
from .rules import EVERYWHERE, NAMED
from .table import DATA_INPUTS, OTHER_OUTPUTS, RELEASES, Release, releases

_NAMES = {
    ir.DataType.FLOAT: "float32",
    ir.DataType.DOUBLE: "float64",
    ir.DataType.FLOAT8E4M3FN: "float8",
    ir.DataType.FLOAT4E2M1: "float4",
}
_DOMAINS = ("", "ai.onnx")
_STATIC = "trace with fixed sizes: one graph for each batch (slimpath export --target gpu does)"


@dataclass(frozen=True)
class Finding:
    """One refusal.

    Args:
        node: its operator and first output, or the input, output or graph that it is about.
        releases: of TensorRT that refuse it.
    """

    file: str
    node: str
    rule: str
    releases: tuple[str, ...]
    problem: str
    way_on: str

    def __str__(self) -> str:
        where = f"TensorRT {' and '.join(f'{name}.x' for name in self.releases)}"
        return f"{self.file}: {self.node}: {self.problem} [{self.rule}, {where}]; {self.way_on}"


def lint_files(paths: Iterable[Path], wanted: Sequence[str] = RELEASES) -> list[Finding]:
    """`lint_file` for several."""
    return [finding for path in paths for finding in lint_file(path, wanted)]


def lint_file(path: Path, wanted: Sequence[str] = RELEASES) -> list[Finding]:
    """Everything that the wanted releases would refuse in an .onnx file.

    Raises:
        ExportError: the file is no ONNX model.
    """
    try:
        proto = onnx.load(str(path), load_external_data=False)
        if not proto.graph.node:
            raise ExportError(f"{path}: an ONNX model with nodes was expected, this has none")
    except (ValueError, TypeError, OSError) as error:
        raise ExportError(f"{path}: is no ONNX model: {error}") from error
    except Exception as error:  # protobuf's DecodeError is of a module that is private in some versions
        if type(error).__name__ != "DecodeError":
            raise
        raise ExportError(f"{path}: is no ONNX model: {error}") from error
    return lint_model(proto, path.name, path.parent, wanted)


def lint_model(
    proto: onnx.ModelProto, name: str, folder: Path | None = None, wanted: Sequence[str] = RELEASES
) -> list[Finding]:
    """Everything that the wanted releases would refuse in a model.

    Args:
        folder: where its external data lie, if it has any.
    """
    outside = list(_outside(proto, name, wanted))
    if outside:  # nothing is read from there
        return outside
    with contextlib.suppress(onnx.shape_inference.InferenceError):  # what has no type or shape is a finding
        proto = onnx.shape_inference.infer_shapes(proto)
    model = ir.from_proto(proto)
    if folder is not None:
        ir.external_data.set_base_dir(model.graph, str(folder))
    found: dict[tuple[str, str, str, str], list[str]] = {}
    for release in releases():
        if release.name in wanted:
            for place, rule, problem, way_on in _graph_problems(model, release):
                found.setdefault((place, rule, problem, way_on), []).append(release.name)
    return [
        Finding(name, place, rule, tuple(by), problem, way_on) for (place, rule, problem, way_on), by in found.items()
    ]


_Problem = tuple[str, str, str, str]  # where, rule, what is wrong, a way on


def _graph_problems(model: ir.Model, release: Release) -> Iterator[_Problem]:
    opset, (low, high) = model.graph.opset_imports.get("", 0), release.opset
    if not low <= opset <= high:
        yield "graph", "opset", f"opset {opset}, supported are {low} to {high}", f"export with opset {min(high, 20)}"
    for value in (*model.graph.inputs, *model.graph.outputs):
        yield from _port_problems(value)
    for node in model.graph.all_nodes():
        where = f"{node.op_type} -> {node.outputs[0].name if node.outputs else 'nothing'}"
        for rule, problem, way_on in _node_problems(node, release):
            yield where, rule, problem, way_on


def _port_problems(value: ir.Value) -> Iterator[_Problem]:
    kind = _type_name(value.dtype)
    if kind not in ("float32", "int32"):
        yield str(value.name), "port_type", f"is {kind}", "cross the boundary in float32 or int32, and cast inside"
    if value.producer() is None and (value.shape is None or not all(isinstance(axis, int) for axis in value.shape)):
        yield str(value.name), "shape", f"has the shape {value.shape}, expected numbers only", _STATIC


def _node_problems(node: ir.Node, release: Release) -> Iterator[tuple[str, str, str]]:
    if node.domain not in _DOMAINS or node.op_type not in release.types:
        name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        yield "operator", f"TensorRT's parser knows no operator {name}", "write it with standard ONNX operators"
        return
    if not release.types[node.op_type]:
        yield "operator", f"{node.op_type} is not supported", "write it with operators that are"
        return
    yield from _type_problems(node, release)
    yield from _shape_problems(node, release)
    for rule in EVERYWHERE:
        yield from ((rule.__name__, *problem) for problem in rule(node, release))
    for name in release.rules[node.op_type]:
        yield from ((name, *problem) for problem in NAMED[name](node, release))


def _type_problems(node: ir.Node, release: Release) -> Iterator[tuple[str, str, str]]:
    allowed = release.types[node.op_type]
    places = DATA_INPUTS.get(node.op_type, tuple(range(len(node.inputs))))
    data = [node.inputs[place] for place in places if place < len(node.inputs)]
    outputs = [] if node.op_type in OTHER_OUTPUTS else list(node.outputs[:1])
    for value in (*data, *outputs):
        if value is None:
            continue
        kind = _type_name(value.dtype)
        if kind not in allowed:
            yield (
                "type",
                f"'{value.name}' is {kind}; {node.op_type} takes {', '.join(sorted(allowed))}",
                "cast to one of these around it",
            )


def _shape_problems(node: ir.Node, release: Release) -> Iterator[tuple[str, str, str]]:
    constants = [value for value in node.inputs if value is not None and value.const_value is not None]
    made = [value for value in node.outputs if value.uses() or value.is_graph_output()]
    for value in (*constants, *made):
        shape = value.const_value.shape if value.const_value is not None else value.shape
        if shape is None or not all(isinstance(axis, int) for axis in shape):
            yield "shape", f"'{value.name}' has the shape {shape}, expected numbers only", _STATIC
        elif len(shape) > release.axes:
            yield "shape", f"'{value.name}' has {len(shape)} axes, at most {release.axes} are supported", "join axes"
        elif math.prod(axis for axis in shape if isinstance(axis, int)) > release.elements:
            yield "shape", f"'{value.name}' has over {release.elements} elements", "take a smaller batch or size"


def _outside(proto: onnx.ModelProto, name: str, wanted: Sequence[str]) -> Iterator[Finding]:
    """Weights that lie anywhere but beside the graph."""
    for tensor in proto.graph.initializer:
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), None)
        if location is not None and (not location or location in (".", "..") or set(location) & set("/\\:\0")):
            problem = f"its data lie in {location!r}, not beside the graph"
            yield Finding(name, tensor.name, "weights", tuple(wanted), problem, "export again: use bare file names")


def _type_name(dtype: ir.DataType | None) -> str:
    return "of unknown type" if dtype is None else _NAMES.get(dtype, dtype.name.lower())
