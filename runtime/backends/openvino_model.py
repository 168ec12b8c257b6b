"""A bundle's graph as an OpenVINO model: its weights mapped, its routers and counts marked to stay in fp32.

OpenVINO never opens the weights file. The graph is handed over without them, and each weight is then put in as a
constant that lies in our own mapping of the file, at the place that the containment check passed. What the library
makes of them when it compiles is its own copy, in its own layout.

Routing is decided by small differences, so in bf16 tokens go to other experts; and how many each expert gets is summed,
which bf16 rounds from 256 on, so that the parts no longer add up. OpenVINO keeps an operation in fp32 if
it carries the runtime attribute below, which Python cannot set on a model, but which the IR format holds: the model,
still without weights, goes through IR once. Both names of the attribute are written (`precise` up to 2025,
`DisablePrecisionConversion` since 2026); a version ignores the one that it does not know. `kept_in_fp32` looks
afterwards at what was really compiled.
"""

from __future__ import annotations

import io
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from ..bundles.onnx_edit import ExternalWeight, external_weights_as_inputs
from ..bundles.onnx_guard import check_external_data
from ..errors import BackendError

_KEEP = (("DisablePrecisionConversion", {"value": "dynamic:f16,bf16"}), ("precise", {}))
_LOW = ("bf16", "f16")
_PRODUCTS = {"MatMul", "FullyConnected"}
# Operations of a router, by what they are called in a model, and in a compiled one.
_ROUTER = _PRODUCTS | {"TopK", "Softmax", "Add", "Eltwise"}
_ROUTER |= {"Gather", "Slice", "StridedSlice", "Squeeze", "Unsqueeze", "Reshape", "Transpose", "Reorder"}
# Operations that count the tokens of each expert, likewise, up to the comparison that they count.
_SPLITS = {"VariadicSplit", "Split"}
_COUNT = {"Convert", "ReduceSum", "Reduce", "Reorder", "Reshape"}


def read_model(ov: Any, core: Any, graph: bytes, folder: Path, *, fp32_routers: bool) -> Any:
    """The model of a checked graph.

    Args:
        ov: the module `openvino`.
        core: its Core.
        folder: where the weights file lies.
        fp32_routers: mark the routers and the counts; needed when the model is to be compiled to anything below fp32.

    Raises:
        BackendError: the weights file is not there, not a regular file, or too short.
        GraphError: the graph refers to anything but one weights file beside it.
    """
    skeleton, weights = external_weights_as_inputs(graph)
    model = core.read_model(io.BytesIO(skeleton))
    if fp32_routers:
        model = _keep_routers(ov, core, model)
    if weights:
        _fill(ov, model, weights, _open_weights(graph, weights, folder))
    return model


def kept_in_fp32(compiled: Any) -> bool:
    """Whether every expert choice of a compiled model, all that it is computed from, and every count run in fp32."""
    nodes = compiled.get_runtime_model().get_ops()
    for split in nodes:
        count = list(_count(split, _kind))
        while count and _kind(count[-1]) != "Reduce":  # what the sum reads: zeros and ones, exact in anything
            count.pop()
        computed = _kind(split) in _SPLITS and split.get_input_size() == 3 and _kind(_source(split, 2)) != "Const"
        if computed and not count:
            return False  # compiled to something that this does not know
        if any(_runtime_info(node, "runtimePrecision") in _LOW for node in count):
            return False
    for top_k in [node for node in nodes if _kind(node) == "TopK"]:
        router = list(_router(top_k, _kind))
        if not any(_kind(node) in _PRODUCTS for node in router):
            return False  # compiled to something that this does not know
        if any(_runtime_info(node, "runtimePrecision") in _LOW for node in router):
            return False
    return True


def _open_weights(graph: bytes, weights: list[ExternalWeight], folder: Path) -> np.ndarray:
    """The weights file, mapped; writes would stay private, and nobody makes any."""
    name = weights[0].location
    path = folder / name
    try:
        status = path.lstat()
        bare = name == os.path.basename(name) and name not in ("", ".", "..")
        if not bare or not stat.S_ISREG(status.st_mode):
            raise BackendError(f"{path}: the weights must be a regular file beside the graph")
        check_external_data(graph, name, status.st_size)
        return np.memmap(path, np.uint8, mode="c")
    except (OSError, ValueError) as error:
        raise BackendError(f"{path}: the weights cannot be mapped: {error}") from error


def _fill(ov: Any, model: Any, weights: list[ExternalWeight], mapped: np.ndarray) -> None:
    """Put a constant in the place of each weight's input."""
    by_name = {weight.name: weight for weight in weights}
    for parameter in list(model.get_parameters()):
        weight = by_name.get(parameter.get_friendly_name())
        if weight is None:
            continue
        view = np.ndarray(weight.shape, weight.dtype, buffer=mapped, offset=weight.offset)
        if not view.flags.aligned:
            view = view.copy()
        constant = ov.op.Constant(view, shared_memory=True)
        constant.set_friendly_name(weight.name)
        for user in parameter.output(0).get_target_inputs():
            user.replace_source_output(constant.output(0))
        model.remove_parameter(parameter)
    model.validate_nodes_and_infer_types()


def _keep_routers(ov: Any, core: Any, model: Any) -> Any:
    """The same model with its routers and counts marked; as it is where it has none."""
    marked = {node.get_friendly_name() for node in _router_nodes(ov, model)}
    marked |= {node.get_friendly_name() for split in model.get_ops() for node in _count(split, _type)}
    if not marked:
        return model
    with tempfile.TemporaryDirectory(prefix="slimpath-") as scratch:
        xml, bin_ = Path(scratch, "model.xml"), Path(scratch, "model.bin")
        ov.serialize(model, str(xml), str(bin_))
        tree = ElementTree.parse(xml)
        constants = bin_.read_bytes()
    for layer in tree.getroot().iter("layer"):
        if layer.get("name") in marked:
            info = layer.find("rt_info")
            if info is None:
                info = ElementTree.Element("rt_info")
                layer.insert(0, info)
            for name, values in _KEEP:
                ElementTree.SubElement(info, "attribute", {"name": name, "version": "0", **values})
    return core.read_model(io.BytesIO(ElementTree.tostring(tree.getroot())), io.BytesIO(constants))


def _router_nodes(ov: Any, model: Any) -> Iterator[Any]:
    """Every router, and the LayerNorm that it reads, if it reads one: its result is not rounded on the way."""
    top_ks = [node for node in model.get_ops() if _type(node) == "TopK"]
    for node in [node for top_k in top_ks for node in _router(top_k, _type)]:
        # The CPU plugin would make other operations of these, and lose the attribute on the way.
        if _type(node) == "Softmax":
            _replace(node, ov.opset1.softmax(node.input_value(0), len(node.get_output_partial_shape(0)) - 1))
        elif _type(node) == "Unsqueeze":
            _replace(node, _as_reshape(ov, node))
    for top_k in top_ks:
        for node in _router(top_k, _type):
            yield node
            if _type(node) in _PRODUCTS:
                yield from _norm(_source(node, 0))


def _as_reshape(ov: Any, unsqueeze: Any) -> Any:
    """The same as a Reshape, whose 0 keeps an axis in its place; the Unsqueeze itself where that cannot say it."""
    given, wanted = unsqueeze.get_input_partial_shape(0), unsqueeze.get_output_partial_shape(0)
    unknown = [place for place, size in enumerate(wanted) if size.is_dynamic]
    if unknown != [place for place, size in enumerate(given) if size.is_dynamic]:
        return unsqueeze  # then `kept_in_fp32` finds it
    sizes = [0 if size.is_dynamic else size.get_length() for size in wanted]
    return ov.opset1.reshape(unsqueeze.input_value(0), np.array(sizes, np.int64), special_zero=True)


def _replace(node: Any, other: Any) -> None:
    if other is node:
        return
    other.set_friendly_name(node.get_friendly_name())
    other.output(0).set_names(node.output(0).get_names())
    for user in node.output(0).get_target_inputs():
        user.replace_source_output(other.output(0))


def _router(top_k: Any, kind: Callable[[Any], str]) -> Iterator[Any]:
    """A router: TopK, softmax, logits, and where the product's weights and biases come from; not the tokens."""
    stack, seen = [top_k], set()
    while stack:
        node = stack.pop()
        if node.get_friendly_name() in seen or kind(node) not in _ROUTER:
            continue
        seen.add(node.get_friendly_name())
        yield node
        first = 1 if kind(node) in _PRODUCTS else 0
        stack += [_source(node, place) for place in range(first, node.get_input_size())]
        # Experts may be ranked by logits, and weighed by a softmax of the same.
        users = [user.get_node() for output in node.outputs() for user in output.get_target_inputs()]
        stack += [user for user in users if kind(user) == "Softmax"]


def _count(split: Any, kind: Callable[[Any], str]) -> Iterator[Any]:
    """What computes the lengths of a split, last first; nothing where they are constant, or it is no split."""
    node = _source(split, 2) if kind(split) in _SPLITS and split.get_input_size() == 3 else None
    while node is not None and kind(node) in _COUNT:
        yield node
        node = _source(node, 0)


def _norm(node: Any) -> list[Any]:
    """The operations of a LayerNorm that ends in `node`; none if none does."""
    found = []
    while _type(node) in ("Add", "Multiply", "MVN") and len(found) < 3:
        found.append(node)
        if _type(node) == "MVN":
            return found
        node = _source(node, 0)
    return []


def _source(node: Any, place: int) -> Any:
    return node.input(place).get_source_output().get_node()


def _type(node: Any) -> str:
    """What a node of a model is."""
    return node.get_type_name()


def _kind(node: Any) -> str:
    """What a node of a compiled model is."""
    return _runtime_info(node, "layerType")


def _runtime_info(node: Any, key: str) -> str:
    value = node.get_rt_info()[key]
    return value if isinstance(value, str) else value.astype(str)
