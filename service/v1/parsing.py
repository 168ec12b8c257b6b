"""A request to /v1/infer -> the image's bytes and the options, whichever of the three ways it came."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec

from ..errors import HttpError
from ..json_bounds import json_excess
from .multipart import read_parts
from .schemas import JsonRequest, Options

FILE_FIELDS = ("file", "image")
MAX_QUERY_FIELDS = 64
_DATA_URL = re.compile(r"data:[\w.+/;=-]*;base64,")
_RAW_TYPES = ("application/octet-stream",)
_Struct = TypeVar("_Struct", bound=msgspec.Struct)


class SchemaError(HttpError):
    """A field that is missing, unknown, or of the wrong type or size."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(422, "bad_request", message, hint=hint)


def read_request(
    content_type: str, query: str, body: bytes, *, max_tasks: int, max_depth: int
) -> tuple[bytes, Options]:
    """The image file, and what is wanted of it.

    Args:
        query: of the URL; together with a JSON body it is refused, which would say things twice.
        max_depth: of the nesting of JSON.

    Raises:
        HttpError: 415, another type of body; 422, a form that cannot be read.
        SchemaError: 422.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json":
        if query:
            raise SchemaError("options are given in the URL and in JSON", hint="put all of them into the JSON document")
        image, options = _read_json(body, max_depth)
    elif kind == "multipart/form-data":
        image, options = _read_form(content_type, query, body)
    elif kind.startswith("image/") or kind in _RAW_TYPES:
        image, options = body, read_options(parse_query(query))
    else:
        raise HttpError(
            415, "unsupported_media_type", f"a body of type {kind[:64]!r} is not read here" if kind else
            "the body has no Content-Type", hint="send multipart/form-data, image/* or application/json",
        )  # fmt: skip
    if not image:
        raise SchemaError("the request holds no image", hint="for example curl -F file=@photo.jpg")
    check_tasks(options, max_tasks)
    return image, options


def check_tasks(options: Options, max_tasks: int) -> None:
    """Refuse a request that names too many tasks.

    Raises:
        SchemaError: it does.
    """
    tasks = options.tasks
    count = 0 if tasks is None else tasks.count(",") + 1 if isinstance(tasks, str) else len(tasks)
    if count > max_tasks:
        raise SchemaError(f"the request names {count} tasks, at most {max_tasks} are answered at once")


def parse_query(query: str) -> list[tuple[str, str]]:
    """The fields of a query string.

    Raises:
        SchemaError: too many of them.
    """
    try:
        return parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS)
    except ValueError:
        raise SchemaError(f"the URL has more than {MAX_QUERY_FIELDS} fields") from None


def read_options(pairs: Iterable[tuple[str, str]], kind: type[_Struct] = Options) -> _Struct:
    """Options from texts; an empty text is none at all, as forms send it for a field that was left empty.

    Raises:
        SchemaError: an unknown field, one that comes twice, or a value that is none.
    """
    fields: dict[str, str] = {}
    for name, value in pairs:
        if name in fields:
            raise SchemaError(f"the field {name[:64]!r} comes twice")
        fields[name] = value
    return _convert({name: value for name, value in fields.items() if value != ""}, kind)


def _convert(fields: dict[str, Any], kind: type[_Struct]) -> _Struct:
    try:
        return msgspec.convert(fields, kind, strict=False)
    except msgspec.ValidationError as error:
        raise SchemaError(_reason(error)) from None


def _read_json(body: bytes, max_depth: int) -> tuple[bytes, Options]:
    if excess := json_excess(body, max_depth):
        raise SchemaError(f"the document {excess}")
    try:
        request = msgspec.json.decode(body, type=JsonRequest)
    except msgspec.ValidationError as error:
        raise SchemaError(_reason(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SchemaError(f"the body is not JSON: {error}") from None
    text = request.image
    if found := _DATA_URL.match(text):
        text = text[found.end() :]
    try:
        return base64.b64decode(text, validate=True), request
    except (binascii.Error, ValueError):
        hint = "encode the file's bytes: base64 -w0 photo.jpg"
        raise SchemaError("the field 'image' is not base64", hint=hint) from None


def _read_form(content_type: str, query: str, body: bytes) -> tuple[bytes, Options]:
    pairs = parse_query(query)
    image: bytes | None = None
    for part in read_parts(content_type, body):
        if part.name in FILE_FIELDS:
            if image is not None:
                raise SchemaError("the form holds more than one image", hint="send one request per image")
            image = part.data
        else:
            pairs.append((part.name, part.data.decode("utf-8", "replace")))
    if image is None:
        raise SchemaError("the form has no field 'file'", hint="for example curl -F file=@photo.jpg")
    return image, read_options(pairs)


def _reason(error: Exception) -> str:
    """msgspec names the place as "$.field"; "$" alone says nothing to a reader."""
    return str(error)[:500].replace("`$.", "`").replace(" - at `$`", "").replace("`$`", "the document")
