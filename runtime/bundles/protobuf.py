"""The few bytes of protobuf that slimpath reads and writes itself: the base install has no onnx package.

Reading trusts nothing: every length is checked against the end of its message. Numbers are unsigned, as in the wire
format. Fields come in the order of the bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import GraphError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def damaged(reason: str) -> GraphError:
    """The error for bytes that are no whole ONNX file."""
    return GraphError(f"not a whole ONNX file: {reason}", hint="copy or export the bundle again")


def fields(data: bytes, position: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """(field, wire type, begin, end) of each field of the message in data[position:end].

    Raises:
        GraphError: a field reaches past the end of the message, or is of a kind that ONNX does not have.
    """
    while position < end:
        key = data[position]  # one byte nearly always, as lengths are: half the time of asking varint
        position += 1
        if key >= 0x80:
            key, position = varint(data, position - 1, end)
        field, wire = key >> 3, key & 7
        begin = position
        if wire == BYTES:
            length = data[position] if position < end else 0x80
            begin += 1
            if length >= 0x80:
                length, begin = varint(data, position, end)
            position = begin + length
        elif wire == VARINT:
            if position < end and data[position] < 0x80:
                position += 1
            else:
                _, position = varint(data, position, end)
        elif wire == FIXED64:
            position += 8
        elif wire == FIXED32:
            position += 4
        else:  # groups: ONNX has none
            raise damaged(f"wire type {wire} at byte {begin}")
        if position > end or not 1 <= field < 1 << 29:
            raise damaged(f"field {field} at byte {begin} reaches past the end of its message")
        yield field, wire, begin, position


def varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """The number that starts at `position`, and where the next thing starts.

    Raises:
        GraphError: it is cut off, or longer than ten bytes.
    """
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            raise damaged(f"it ends inside a number at byte {position}")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position
    raise damaged(f"a number of more than 10 bytes at byte {position}")


def text(raw: bytes) -> str:
    """A string field; bytes that are no UTF-8 are shown escaped."""
    return raw.decode("utf-8", "backslashreplace")


def write_varint(field: int, value: int) -> bytes:
    """A numeric field."""
    return _number(field << 3 | VARINT) + _number(value)


def write_bytes(field: int, payload: bytes) -> bytes:
    """A field that holds bytes, a string or a message."""
    return _number(field << 3 | BYTES) + _number(len(payload)) + payload


def _number(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
