"""What the API description says about the routes of /v2: bodies, examples, errors."""

from __future__ import annotations

from typing import Any

_ERROR = {
    "type": "object",
    "properties": {"error": {"type": "string"}},
    "required": ["error"],
    "example": {"error": "unexpected input 'picture'; the one input is called 'image'"},
}


def _error(what: str) -> dict[str, Any]:
    return {"description": what, "content": {"application/json": {"schema": _ERROR}}}


ERRORS: dict[int | str, dict[str, Any]] = {
    400: _error("The request does not fit the protocol or the model, or asks for what is not supported."),
    401: _error("An API key is needed."),
    403: _error("Not allowed."),
    404: _error("No such model or version."),
    408: _error("The body did not come in time."),
    413: _error("The body is too large, also once inflated."),
    429: _error("This client has too many requests waiting; Retry-After says when to come back."),
    500: _error("The server failed; its log says why."),
    503: _error("Not ready, or refused at admission; Retry-After says when to come back."),
    504: _error("Accepted, and then not answered before its deadline."),
}


def _ok(what: str, example: Any, schema: dict[str, Any] | None = None) -> dict[int | str, dict[str, Any]]:
    content = {"application/json": {"schema": schema or {"type": "object"}, "example": example}}
    return {200: {"description": what, "content": content}}


_NUMBER = {"type": "integer", "minimum": 0}
_TENSOR_SHAPE = {"type": "array", "items": {"type": "integer"}}
_PARAMETERS = {"type": "object", "additionalProperties": True}
_TIMER = {"count": 12, "ns": 48_000_000}

LIVE = _ok("It runs.", {"live": True})
READY = _ok("All models are warm.", {"ready": True})
SERVER = _ok("Metadata", {"name": "slimpath", "version": "0.1.0", "extensions": ["binary_tensor_data", "statistics"]})
MODEL_READY = _ok("It answers.", {"name": "m3vit_nano", "ready": True})
METADATA = _ok(
    "Metadata",
    {
        "name": "m3vit_nano",
        "versions": ["1"],
        "platform": "slimpath_onnx",
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [{"name": "depth", "datatype": "FP32", "shape": [-1, 224, 224]}],
    },
)
CONFIG = _ok(
    "Configuration",
    {
        "name": "m3vit_nano",
        "platform": "slimpath_onnx",
        "max_batch_size": 0,
        "input": [{"name": "image", "data_type": "TYPE_STRING", "dims": [-1]}],
        "output": [{"name": "depth", "data_type": "TYPE_FP32", "dims": [-1, 224, 224]}],
    },
)
STATISTICS = _ok(
    "Statistics",
    {"model_stats": [{"name": "m3vit_nano", "version": "1", "inference_count": 12, "inference_stats": {
        "success": _TIMER, "fail": {"count": 0, "ns": 0}, "queue": _TIMER}}]},
)  # fmt: skip

_REQUEST_SCHEMA = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string", "maxLength": 512},
        "parameters": _PARAMETERS,
        "inputs": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": {
                "type": "object",
                "required": ["name", "shape", "datatype"],
                "properties": {
                    "name": {"type": "string", "enum": ["image"]},
                    "shape": _TENSOR_SHAPE,
                    "datatype": {"type": "string", "enum": ["BYTES", "UINT8"]},
                    "parameters": _PARAMETERS,
                    "data": {"type": "array", "items": {}},
                },
            },
        },
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string"}, "parameters": _PARAMETERS},
            },
        },
    },
}
_REQUEST_EXAMPLE = {
    "id": "42",
    "parameters": {"width": 0.5, "deadline_ms": 1000},
    "inputs": [{"name": "image", "shape": [1, 1, 2, 3], "datatype": "UINT8", "data": [255, 0, 0, 0, 0, 255]}],
    "outputs": [{"name": "depth"}],
}
_ANSWER_EXAMPLE = {
    "model_name": "m3vit_nano",
    "model_version": "1",
    "id": "42",
    "parameters": {"width": 0.5, "degraded": False, "queue_ms": 0.4, "compute_ms": 9.8},
    "outputs": [{"name": "depth", "datatype": "FP32", "shape": [1, 1, 2], "data": [1.5, 1.6]}],
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
INFER: dict[str, Any] = {
    "responses": {
        200: {
            "description": "The answers; with binary outputs a JSON header and the tensors behind it.",
            "headers": {
                "Inference-Header-Content-Length": {
                    "description": "Bytes of the JSON, where tensors follow it.", "schema": _NUMBER,
                },
            },
            "content": {
                "application/json": {"schema": {"type": "object"}, "example": _ANSWER_EXAMPLE},
                "application/octet-stream": _BINARY,
            },
        },
    },
    "openapi_extra": {
        "parameters": [
            {
                "name": "Inference-Header-Content-Length", "in": "header", "required": False, "schema": _NUMBER,
                "description": "Bytes of the JSON, where tensors follow it; 0: the body is one image file.",
            },
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _REQUEST_SCHEMA, "example": _REQUEST_EXAMPLE},
                "application/octet-stream": _BINARY,
            },
        },
    },
}  # fmt: skip


def _optional_body(example: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"parameters": _PARAMETERS, "ready": {"type": "boolean"}}}
    return {"requestBody": {"required": False, "content": {"application/json": {"schema": schema, "example": example}}}}


_EMPTY: dict[int | str, dict[str, Any]] = {200: {"description": "Done."}}
INDEX: dict[str, Any] = {
    "responses": _ok(
        "Index",
        [{"name": "m3vit_nano", "version": "1", "state": "READY", "reason": ""}],
        {"type": "array", "items": {}},
    ),
    "openapi_extra": _optional_body({"ready": True}),
}
LOAD: dict[str, Any] = {"responses": _EMPTY, "openapi_extra": _optional_body({})}
UNLOAD: dict[str, Any] = {"responses": _EMPTY, "openapi_extra": _optional_body({"parameters": {}})}
