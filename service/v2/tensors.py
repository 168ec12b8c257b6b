"""Tensors of the wire: the input `image` becomes images, answers become binary data or JSON.

Axes: N images, H height, W width. All binary data are little-endian and row-major.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from typing import Any

import msgspec
import numpy as np

from .header import InputTensor, bad

INPUT = "image"
ACCEPTED = "BYTES [-1] (image files) or UINT8 [-1, -1, -1, 3] (RGB pixels)"
DATATYPES = frozenset(
    ("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BF16",
     "BYTES")
)  # fmt: skip
_MAX_DIM = 1 << 31
_NO_MARKS = bytes(byte for byte in range(256) if byte not in b"[],")
Image = bytes | np.ndarray


def input_size(tensor: InputTensor) -> int | None:
    """Bytes that the tensor takes behind the header; None where its data are in the JSON.

    Raises:
        HttpError: 400; neither or both are there, or the size is no size.
    """
    for name in tensor.parameters:
        if name.startswith("shared_memory"):
            raise bad(f"input {tensor.name!a}: this server has no shared-memory extension", hint="send the data itself")
    size = tensor.parameters.get("binary_data_size")
    if size is None:
        if tensor.data is msgspec.UNSET:
            raise bad(f"input {tensor.name!a} has neither data nor binary_data_size")
        return None
    if tensor.data is not msgspec.UNSET:
        raise bad(f"input {tensor.name!a} has both data and binary_data_size")
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise bad(f"input {tensor.name!a}: binary_data_size must be a whole number from 0 up")
    return size


def read_images(tensor: InputTensor, binary: memoryview | None, *, max_images: int, max_pixels: float) -> list[Image]:
    """The images of the tensor `image`.

    Args:
        binary: its data, None where they are in the JSON.
        max_pixels: of one image.

    Returns:
        For BYTES the image files; for UINT8 arrays [H, W, 3] that refer to `binary`.

    Raises:
        HttpError: 400; another datatype, shape or size than the tensor says or the model reads.
    """
    if tensor.datatype not in DATATYPES:
        raise bad(f"input {INPUT!r}: unknown datatype {tensor.datatype[:32]!a}", hint=f"expected {ACCEPTED}")
    if tensor.datatype not in ("BYTES", "UINT8"):
        raise bad(f"input {INPUT!r} has the datatype {tensor.datatype}, expected {ACCEPTED}")
    shape = _checked_shape(tensor, max_images, max_pixels)
    if tensor.datatype == "BYTES":
        files = _split_bytes(binary, shape[0]) if binary is not None else _base64_files(tensor, shape[0])
        return list(files)
    if binary is None:
        return list(_json_pixels(tensor, shape))
    expected = math.prod(shape)
    if len(binary) != expected:
        raise bad(f"unexpected size for input {INPUT!r}: {shape} takes {expected} bytes, got {len(binary)}")
    return list(np.frombuffer(binary, np.uint8).reshape(shape))


def _checked_shape(tensor: InputTensor, max_images: int, max_pixels: float) -> list[int]:
    shape = tensor.shape
    wanted = 1 if tensor.datatype == "BYTES" else 4
    fits = len(shape) == wanted and all(0 < size < _MAX_DIM for size in shape) and (wanted == 1 or shape[3] == 3)
    if not fits:
        raise bad(f"input {INPUT!r} has the shape {str(shape)[:64]}, expected {ACCEPTED}")
    if shape[0] > max_images:
        raise bad(f"{shape[0]} images in one request, at most {max_images} are answered", hint="send several requests")
    if wanted == 4 and shape[1] * shape[2] > max_pixels:
        pixels, most = shape[1] * shape[2] / 1e6, max_pixels / 1e6
        raise bad(f"the image is too large: {pixels:.1f} megapixels, at most {most:g} are read")
    return shape


def _split_bytes(data: memoryview, count: int) -> list[bytes]:
    """Elements of a BYTES tensor: each 4 bytes of length and as many bytes."""
    found: list[bytes] = []
    position = 0
    for _ in range(count):
        if position + 4 > len(data):
            raise bad(f"unexpected size for input {INPUT!r}: its data end before element {len(found)}")
        (length,) = struct.unpack_from("<I", data, position)
        position += 4
        if position + length > len(data):
            left = len(data) - position
            raise bad(f"input {INPUT!r}: element {len(found)} says {length} bytes, {left} are left")
        found.append(bytes(data[position : position + length]))
        position += length
    if position != len(data):
        raise bad(f"unexpected size for input {INPUT!r}: {len(data) - position} bytes behind its {count} elements")
    return found


def _base64_files(tensor: InputTensor, count: int) -> list[bytes]:
    _check_count(bytes(tensor.data), [count])  # type: ignore[arg-type]  # Raw is a buffer
    texts = _json_data(tensor.data, list[str])
    if len(texts) != count:
        raise bad(f"input {INPUT!r}: {len(texts)} elements for the shape [{count}]")
    try:
        return [base64.b64decode(text, validate=True) for text in texts]
    except (binascii.Error, ValueError):
        raise bad(f"input {INPUT!r}: in JSON an image file is base64 text", hint="or send the tensor binary") from None


def _json_pixels(tensor: InputTensor, shape: list[int]) -> np.ndarray:
    """Nested or flat numbers as uint8 [N, H, W, 3].

    Their brackets and commas are compared with the shape first, and the brackets then left out: a list for each pixel
    would take ten times the bytes of its text.
    """
    data = bytes(tensor.data)  # type: ignore[arg-type]  # Raw is a buffer
    depth = _leading_brackets(data)
    if depth not in (1, len(shape)):
        raise bad(f"input {INPUT!r}: data must be flat or nested like the shape, got {depth} levels")
    _check_count(data, shape)
    if data.translate(None, _NO_MARKS) != _marks(shape if depth > 1 else [math.prod(shape)]):
        raise bad(f"input {INPUT!r}: its data do not have the shape {shape}")
    numbers = _json_data(b"[" + data.translate(None, b"[]") + b"]", list[int])
    try:
        return np.frombuffer(bytes(numbers), np.uint8).reshape(shape)
    except (ValueError, OverflowError):
        wrong = next(number for number in numbers if not 0 <= number <= 255)
        raise bad(f"input {INPUT!r}: UINT8 is from 0 to 255, got {str(wrong)[:32]}") from None


def _check_count(data: bytes, shape: list[int]) -> None:
    """Before anything is built of it: values are separated by commas, however they are nested."""
    count = data.count(b",") + 1
    if count != math.prod(shape):
        raise bad(f"input {INPUT!r}: {count} numbers for the shape {shape}")


def _marks(shape: list[int]) -> bytes:
    """Brackets and commas of an array of that shape in JSON, without its numbers."""
    inner = b""
    for size in reversed(shape):
        inner = b"[" + b",".join([inner] * size) + b"]"
    return inner


def _leading_brackets(data: bytes) -> int:
    depth = 0
    for byte in data[:256]:
        if byte == 0x5B:
            depth += 1
        elif byte not in b" \t\r\n":
            break
    return depth


def _json_data(data: Any, kind: Any) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad(f"input {INPUT!r}: cannot read its data: {error}") from None


def little_endian(array: np.ndarray) -> np.ndarray:
    """The array as it goes over the wire."""
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<"))


def to_json(array: np.ndarray) -> list[Any]:
    """Flat numbers for JSON, where what is not finite becomes null (JSON has no NaN; NumPy reads null as NaN)."""
    flat = array.reshape(-1)
    if array.dtype.kind != "f" or np.isfinite(flat).all():
        return flat.tolist()
    return [value if math.isfinite(value) else None for value in flat.tolist()]


def bytes_tensor(texts: list[str]) -> bytes:
    """The binary form of a BYTES tensor."""
    encoded = [text.encode() for text in texts]
    return b"".join(struct.pack("<I", len(data)) + data for data in encoded)
