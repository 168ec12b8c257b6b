"""Small edits of a serialised ONNX graph, byte by byte: the base install has no onnx package.

Two are needed: weights that a library is to get from us instead of reading them from a file, and a look at how tokens
were routed. Field numbers are those of onnx.proto; protobuf never reuses one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ..errors import GraphError
from .protobuf import BYTES, VARINT, damaged, fields, text, varint, write_bytes, write_varint

_GRAPH = 7  # in a model
_NODE, _INITIALIZER, _INPUT, _OUTPUT, _VALUE_INFO = 1, 5, 11, 12, 13  # in a graph
_DTYPES: dict[int, str] = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 10: "float16",
    11: "float64", 12: "uint32", 13: "uint64",
}  # fmt: skip


@dataclass(frozen=True)
class ExternalWeight:
    """An initialiser whose bytes lie in a file beside the graph."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    location: str
    offset: int


def external_weights_as_inputs(data: bytes) -> tuple[bytes, list[ExternalWeight]]:
    """The same model with its external initialisers made inputs, and what each of them is.

    Args:
        data: bytes that `check_external_data` has passed.

    Raises:
        GraphError: not an ONNX file, or an external tensor of a type that NumPy does not have.
    """
    found: list[ExternalWeight] = []

    def edit(graph: bytes) -> bytes:
        kept = bytearray()
        for field, _, begin, stop, start in _fields_with_start(graph):
            weight = _read_external(graph[begin:stop]) if field == _INITIALIZER else None
            if weight is None:
                kept += graph[start:stop]
            else:
                found.append(weight[0])
                kept += write_bytes(_INPUT, _value_info(weight[0], weight[1]))
        return bytes(kept)

    return _edit_graph(data, edit), found


def routing_as_outputs(data: bytes) -> tuple[bytes, list[str]]:
    """The same model with what each TopK chooses from as further outputs, in order, and their names.

    In an encoder those are the routers' logits or probabilities, float32 [B, N, E], one per MoE block; none if dense.

    Raises:
        GraphError: not an ONNX file.
    """
    names: list[str] = []

    def edit(graph: bytes) -> bytes:
        infos: dict[str, bytes] = {}
        outputs: set[str] = set()
        for field, _, begin, stop, _ in _fields_with_start(graph):
            if field == _NODE:
                names.extend(_top_k_input(graph[begin:stop]))
            elif field in (_VALUE_INFO, _OUTPUT):
                infos[_string(graph[begin:stop], 1)] = graph[begin:stop]
                outputs.update([_string(graph[begin:stop], 1)] if field == _OUTPUT else [])
        added = [infos.get(name) or write_bytes(1, name.encode()) for name in names if name not in outputs]
        return graph + b"".join(write_bytes(_OUTPUT, info) for info in added)

    return _edit_graph(data, edit), names


def graph_ports(data: bytes) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of a model's inputs and outputs, in order.

    Raises:
        GraphError: not an ONNX file.
    """
    found: dict[int, list[str]] = {_INPUT: [], _OUTPUT: []}

    def read(graph: bytes) -> bytes:
        for field, _, begin, stop, _ in _fields_with_start(graph):
            if field in found:
                found[field].append(_string(graph[begin:stop], 1))
        return graph

    _edit_graph(data, read)
    return tuple(found[_INPUT]), tuple(found[_OUTPUT])


def _edit_graph(data: bytes, edit: Callable[[bytes], bytes]) -> bytes:
    edited = bytearray()
    for field, wire, begin, stop, start in _fields_with_start(data):
        if field == _GRAPH and wire == BYTES:
            edited += write_bytes(_GRAPH, edit(data[begin:stop]))
        else:
            edited += data[start:stop]
    return bytes(edited)


def _fields_with_start(data: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """(field, wire type, begin, end, start); `start` is where the field's key lies: where the one before it ended."""
    start = 0
    for field, wire, begin, stop in fields(data, 0, len(data)):
        yield field, wire, begin, stop, start
        start = stop


def _read_external(tensor: bytes) -> tuple[ExternalWeight, int] | None:
    """An external initialiser and the number of its type in ONNX; None if its data are inside the file."""
    name, data_type, external, dims, entries = "", 0, False, [], {}
    for field, wire, begin, stop in fields(tensor, 0, len(tensor)):
        if field == 1 and wire == VARINT:
            dims.append(varint(tensor, begin, stop)[0])
        elif field == 1 and wire == BYTES:
            while begin < stop:
                value, begin = varint(tensor, begin, stop)
                dims.append(value)
        elif field == 2 and wire == VARINT:
            data_type = varint(tensor, begin, stop)[0]
        elif field == 8 and wire == BYTES:
            name = text(tensor[begin:stop])
        elif field == 13 and wire == BYTES:
            entries[_string(tensor[begin:stop], 1)] = _string(tensor[begin:stop], 2)
        elif field == 14 and wire == VARINT:
            external = varint(tensor, begin, stop)[0] == 1
    if not external:
        return None
    if data_type not in _DTYPES:
        raise GraphError(f"tensor {name!r} has the ONNX type {data_type}, which NumPy does not have")
    try:
        location, offset = entries["location"], int(entries.get("offset", "0"))
    except (KeyError, ValueError):
        raise damaged(f"tensor {name!r} does not say where its data lie") from None
    return ExternalWeight(name, np.dtype(_DTYPES[data_type]), tuple(dims), location, offset), data_type


def _value_info(weight: ExternalWeight, data_type: int) -> bytes:
    shape = b"".join(write_bytes(1, write_varint(1, size)) for size in weight.shape)
    tensor_type = write_varint(1, data_type) + write_bytes(2, shape)
    return write_bytes(1, weight.name.encode()) + write_bytes(2, write_bytes(1, tensor_type))


def _top_k_input(node: bytes) -> list[str]:
    if _string(node, 4) != "TopK":
        return []
    inputs = [text(node[b:e]) for field, wire, b, e in fields(node, 0, len(node)) if field == 1 and wire == BYTES]
    return inputs[:1]


def _string(message: bytes, field: int) -> str:
    """The last string of that number in a message, "" without one."""
    found = ""
    for number, wire, begin, stop in fields(message, 0, len(message)):
        if number == field and wire == BYTES:
            found = text(message[begin:stop])
    return found
