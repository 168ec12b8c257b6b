"""The header of a safetensors file: 8 bytes of length, then JSON that says where each tensor lies.

Read by hand, because offsets into the file are what external data and memory maps need. Nothing in it is believed:
lengths are bounded, and every tensor must lie inside the file, fill its shape, and overlap no other.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import BinaryIO

import msgspec

from ..errors import WeightsError

MAX_HEADER_BYTES = 100 << 20  # the safetensors library's own bound
_TYPES_BY_BYTES = {
    1: ("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"),
    2: ("U16", "I16", "F16", "BF16"),
    4: ("U32", "I32", "F32"),
    8: ("U64", "I64", "F64"),
}
ITEM_BYTES = {dtype: size for size, dtypes in _TYPES_BY_BYTES.items() for dtype in dtypes}


@dataclass(frozen=True)
class TensorEntry:
    """Where one tensor lies: `offset` from the start of the file, in bytes."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


@dataclass(frozen=True)
class SafetensorsHeader:
    """All tensors by name, the free-form metadata, and the SHA-256 of the length bytes and the JSON."""

    tensors: dict[str, TensorEntry]
    metadata: dict[str, str]
    sha256: str
    header_bytes: int


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def read_safetensors_header(file: BinaryIO, file_bytes: int) -> SafetensorsHeader:
    """Read and check the header at the start of an open file of `file_bytes` bytes.

    Raises:
        WeightsError: not a safetensors file, cut off, or a header that contradicts itself or the file.
    """
    prefix = file.read(8)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or not 2 <= length <= min(MAX_HEADER_BYTES, file_bytes - 8):
        raise _damaged(f"its header would have {length} bytes, the file has {file_bytes}")
    text = file.read(length)
    if len(text) < length:
        raise _damaged(f"its header ends after {len(text)} of {length} bytes")
    try:
        raw = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        metadata = msgspec.json.decode(raw.pop("__metadata__", b"{}"), type=dict[str, str])
        entries = {name: msgspec.json.decode(entry, type=_Entry) for name, entry in raw.items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(f"its header is not what safetensors writes: {error}") from None
    data_start = 8 + length
    tensors = {name: _place(name, entry, data_start) for name, entry in entries.items()}
    _check_layout(tensors, data_start, file_bytes)
    return SafetensorsHeader(tensors, metadata, hashlib.sha256(prefix + text).hexdigest(), data_start)


def _damaged(reason: str) -> WeightsError:
    return WeightsError(f"the weights file is not a whole safetensors file: {reason}", hint="copy the bundle again")


def _place(name: str, entry: _Entry, data_start: int) -> TensorEntry:
    begin, end = entry.data_offsets
    if entry.dtype not in ITEM_BYTES:
        raise _damaged(f"tensor {name!r} has the unknown type {entry.dtype!r}")
    if any(size < 0 for size in entry.shape) or len(entry.shape) > 32:
        raise _damaged(f"tensor {name!r} has the shape {list(entry.shape)[:32]}")
    expected = math.prod(entry.shape) * ITEM_BYTES[entry.dtype]
    if not 0 <= begin <= end or end - begin != expected:
        raise _damaged(f"tensor {name!r} lies at {begin} to {end}, but {expected} bytes fill its shape")
    return TensorEntry(entry.dtype, entry.shape, data_start + begin, expected)


def _check_layout(tensors: dict[str, TensorEntry], data_start: int, file_bytes: int) -> None:
    position, last = data_start, "the header"
    for name, entry in sorted(tensors.items(), key=lambda item: (item[1].offset, item[1].nbytes)):
        if entry.offset < position:
            raise _damaged(f"tensor {name!r} overlaps {last!r}")
        position, last = entry.offset + entry.nbytes, name
    if position > file_bytes:
        raise _damaged(f"tensor {last!r} ends at byte {position}, the file at {file_bytes}")
