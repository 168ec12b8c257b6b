"""Where an .onnx file says that its weights lie, checked before any library follows it.

An ONNX tensor may name any file as its external data. Before a graph is handed to a backend, this walks the protobuf
bytes (the base install has no onnx package) along every path of messages on which a tensor can lie: initialisers,
attributes, sub-graphs, functions, sparse tensors and training information. Each external tensor must refer to the
bundle's weights file by its bare name, inside its length. The bytes are not trusted: lengths and depth are bounded.

Field numbers are those of onnx.proto; protobuf never reuses one.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from ..errors import GraphError
from .protobuf import BYTES, VARINT, damaged, fields, text, varint

_MAX_DEPTH = 100  # protobuf's own bound, like the next
_MAX_BYTES = 1 << 31

# message -> field -> message. Only what leads to a tensor; everything else is skipped by its length.
_PATHS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
# Fields that hold one message. Protobuf merges repeated ones, so two halves could make a third thing: refused.
_SINGULAR = {("model", 7), ("training", 1), ("training", 2), ("attribute", 5), ("attribute", 6), ("attribute", 22)}
_SINGULAR |= {("sparse", 1), ("sparse", 2)}
_ITEM_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
_PLAIN_INT = re.compile(r"0|[1-9][0-9]{0,17}")


@dataclass(frozen=True)
class ExternalTensor:
    """One reference into the weights file."""

    name: str
    offset: int
    length: int


def check_external_data(data: bytes, weights_file: str, weights_bytes: int) -> list[ExternalTensor]:
    """Every external tensor of a serialised ModelProto, each proven to lie inside the weights file.

    Args:
        weights_file: the only location that is allowed, a bare file name.
        weights_bytes: that file's length.

    Raises:
        GraphError: not a protobuf message, cut off, or a tensor that points anywhere else; it names the tensor.
    """
    if len(data) > _MAX_BYTES:
        raise damaged(f"{len(data)} bytes are more than protobuf allows")
    found: list[ExternalTensor] = []
    has_graph = False
    stack = [("model", 0, len(data), 0)]
    while stack:
        kind, start, end, depth = stack.pop()
        if depth > _MAX_DEPTH:
            raise damaged(f"messages are nested more than {_MAX_DEPTH} deep")
        if kind == "tensor":
            tensor = _read_tensor(data, start, end)
            if tensor is not None:
                found.append(_check_tensor(*tensor, weights_file, weights_bytes))
            continue
        paths, seen = _PATHS[kind], set()
        for field, wire, begin, stop in fields(data, start, end):
            if field not in paths:
                if field == 4 and kind == "node" and data[begin:stop] == b"EPContext":
                    raise GraphError(
                        "a node holds a compiled blob (EPContext), which a device would run unseen",
                        hint="do not use this bundle: engines are only made here",
                    )
                continue
            if wire != BYTES or (field in seen and (kind, field) in _SINGULAR):
                raise damaged(f"field {field} of a {kind} is malformed or repeated")
            seen.add(field)
            has_graph = has_graph or (kind == "model" and field == 7)
            stack.append((paths[field], begin, stop, depth + 1))
    if not has_graph:
        raise damaged("there is no graph in it")
    return found


def _read_tensor(data: bytes, start: int, end: int) -> tuple[str, dict[str, str], int | None] | None:
    """(name, external entries, bytes that fill its shape) of a TensorProto; None if its data are inside the file."""
    name, external, entries = "", False, {}
    dims: list[int] = []
    item_bytes = 0
    for field, wire, begin, stop in fields(data, start, end):
        if field == 8 and wire == BYTES:
            name = text(data[begin:stop])
        elif field == 13:
            key, value = _read_entry(data, begin, stop) if wire == BYTES else ("", "")
            if key in entries or not key:
                raise GraphError(f"tensor {name!r} states the {key or 'unnamed entry'} of its external data twice")
            entries[key] = value
        elif field == 14 and wire == VARINT:
            external = external or varint(data, begin, stop)[0] != 0
        elif field == 1 and wire == VARINT:
            dims.append(varint(data, begin, stop)[0])
        elif field == 1 and wire == BYTES:
            while begin < stop:
                value, begin = varint(data, begin, stop)
                dims.append(value)
        elif field == 2 and wire == VARINT:
            item_bytes = _ITEM_BYTES.get(varint(data, begin, stop)[0], 0)
    if not external and not entries:
        return None
    return name, entries, math.prod(dims) * item_bytes if item_bytes and len(dims) <= 32 else None


def _read_entry(data: bytes, start: int, end: int) -> tuple[str, str]:
    texts = {1: "", 2: ""}
    for field, wire, begin, stop in fields(data, start, end):
        if field in texts and wire == BYTES:
            texts[field] = text(data[begin:stop])
    return texts[1], texts[2]


def _check_tensor(
    name: str, entries: dict[str, str], expected: int | None, weights_file: str, weights_bytes: int
) -> ExternalTensor:
    where = f"tensor {name!r}"
    location = entries.get("location", "")
    if location != weights_file:
        raise GraphError(
            f"{where} has its data in {location!r}, outside the bundle's weights file {weights_file!r}",
            hint="do not use this bundle: graphs may only refer to the weights beside them",
        )
    surplus = set(entries) - {"location", "offset", "length", "checksum"}
    if surplus:
        raise GraphError(f"{where} has external data with unknown entries: {', '.join(sorted(surplus))}")
    numbers = []
    for key in ("offset", "length"):
        stated = entries.get(key, "")
        if not _PLAIN_INT.fullmatch(stated):
            raise GraphError(f"{where}: the {key} of its data must be a whole number of bytes, got {stated!r}")
        numbers.append(int(stated))
    offset, length = numbers
    if offset + length > weights_bytes:
        raise GraphError(
            f"{where} has its data at bytes {offset} to {offset + length}, but {weights_file} has only {weights_bytes}",
            hint="copy the bundle again",
        )
    if expected is not None and length != expected:
        raise GraphError(f"{where} has {length} bytes of data, but its shape takes {expected}")
    return ExternalTensor(name, offset, length)
