"""The JSON of an inference request: what it may hold, and reading it without ever building more than that.

The structs fix the depth of everything but a tensor's `data`, which stays bytes until its nesting and its size are
known: a body of a million brackets or texts is refused, not parsed.
"""

from __future__ import annotations

import msgspec

from ..errors import HttpError
from ..json_bounds import json_excess

Scalar = str | int | float | bool | None
MAX_INPUTS = 8  # one is ever right; the rest is for naming the surplus ones in the error
MAX_OUTPUTS = 256
MAX_ID = 512


class InputTensor(msgspec.Struct):
    """`data` is its JSON, unread; UNSET where the tensor follows the header in binary."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Scalar] = {}
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class RequestedOutput(msgspec.Struct):
    """An output that the client wants, and how."""

    name: str
    parameters: dict[str, Scalar] = {}


class InferHeader(msgspec.Struct):
    """The whole header. Fields that this server does not know are skipped, as the protocol asks for."""

    inputs: list[InputTensor]
    id: str = ""
    parameters: dict[str, Scalar] = {}
    outputs: list[RequestedOutput] | None = None


_decoder = msgspec.json.Decoder(InferHeader)


def bad(message: str, *, hint: str = "") -> HttpError:
    """A 400 that says what is wrong with the request."""
    return HttpError(400, "bad_request", message, hint=hint)


def read_header(data: bytes | memoryview, max_depth: int) -> InferHeader:
    """Parse an inference header.

    Args:
        max_depth: of its nesting, also in fields that are skipped.

    Raises:
        HttpError: 400; not JSON, nested too deeply, a missing or ill-typed field, too many tensors.
    """
    if excess := json_excess(data, max_depth):
        raise bad(f"the inference request {excess}")
    try:
        header = _decoder.decode(data)
    except msgspec.ValidationError as error:
        raise bad(f"the inference request does not fit the protocol: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad(f"the inference request is not JSON: {error}") from None
    except RecursionError:
        raise bad("the inference request is nested too deeply") from None
    if len(header.inputs) > MAX_INPUTS or len(header.outputs or ()) > MAX_OUTPUTS:
        raise bad(f"at most {MAX_INPUTS} inputs and {MAX_OUTPUTS} outputs are read")
    if len(header.id) > MAX_ID:
        raise bad(f"the request's id must have at most {MAX_ID} characters, got {len(header.id)}")
    return header


def header_length(value: str | None, body_bytes: int) -> int | None:
    """The value of Inference-Header-Content-Length, or None without one.

    Raises:
        HttpError: 400; not a number, or more than the body has.
    """
    if value is None:
        return None
    text = value.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise bad("Inference-Header-Content-Length must be a number of bytes from 0 up", hint=f"got {text[:32]!a}")
    length = int(text)
    if length > body_bytes:
        raise bad(f"Inference-Header-Content-Length is {length}, but the body has {body_bytes} bytes")
    return length
