"""What the API description says about the routes of /v2: bodies, examples, errors."""

from __future__ import annotations

from typing import Any

from fastapi import Response

from . import openapi_schemas as schemas

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


def _ok(what: str, example: Any, schema: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    content = {"application/json": {"schema": schema, "example": example}}
    return {200: {"description": what, "content": content}}


_TIMES = {"count": 12, "ns": 48_000_000}
_NONE = {"count": 0, "ns": 0}

LIVE = _ok("It runs.", {"live": True}, schemas.LIVE)
READY = _ok("All models are warm.", {"ready": True}, schemas.READY)
SERVER = _ok(
    "Metadata",
    {"name": "slimpath", "version": "0.1.0", "extensions": ["binary_tensor_data", "statistics"]},
    schemas.SERVER,
)
MODEL_READY = _ok("It answers.", {"name": "m3vit_nano", "ready": True}, schemas.MODEL_READY)
METADATA = _ok(
    "Metadata",
    {
        "name": "m3vit_nano",
        "versions": ["1"],
        "platform": "slimpath_onnx",
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [{"name": "depth", "datatype": "FP32", "shape": [-1, 224, 224]}],
    },
    schemas.METADATA,
)
CONFIG = _ok(
    "Configuration",
    {
        "name": "m3vit_nano",
        "platform": "slimpath_onnx",
        "backend": "slimpath",
        "runtime": "onnxruntime",
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": 0,
        "input": [{"name": "image", "data_type": "TYPE_STRING", "dims": [-1]}],
        "output": [{"name": "depth", "data_type": "TYPE_FP32", "dims": [-1, 224, 224]}],
        "parameters": {"widths": {"string_value": "0.25,0.5,0.75,1"}},
    },
    schemas.CONFIG,
)
STATISTICS = _ok(
    "Statistics",
    {"model_stats": [{
        "name": "m3vit_nano", "version": "1", "last_inference": 1_767_225_600_000,
        "inference_count": 12, "execution_count": 12,
        "inference_stats": {
            "success": _TIMES, "fail": _NONE, "queue": _TIMES, "compute_input": _TIMES, "compute_infer": _TIMES,
            "compute_output": _TIMES, "cache_hit": _NONE, "cache_miss": _NONE,
        },
        "batch_stats": [
            {"batch_size": 1, "compute_input": _NONE, "compute_infer": _TIMES, "compute_output": _NONE},
        ],
    }]},
    schemas.STATISTICS,
)  # fmt: skip

_REQUEST_SCHEMA = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string", "maxLength": 512},
        "parameters": schemas.PARAMETERS,
        "inputs": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": {
                "type": "object",
                "required": ["name", "shape", "datatype"],
                "properties": {
                    "name": {"type": "string", "enum": ["image"]},
                    "shape": schemas.TENSOR_SHAPE,
                    "datatype": {"type": "string", "enum": ["BYTES", "UINT8"]},
                    "parameters": schemas.PARAMETERS,
                    "data": {"type": "array", "items": {}},
                },
            },
        },
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string"}, "parameters": schemas.PARAMETERS},
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
    "parameters": {
        "task": "depth", "width": 0.5, "top_k": 2, "size": "224x224", "precision": "fp32", "backend": "onnxruntime",
        "mflops": 420.5, "queue_ms": 0.4, "compute_ms": 9.8, "batch_size": 1, "degraded": False, "budget_met": True,
        "slack_ms": 980.1, "reason": "the best within width=0.5",
    },
    "outputs": [{"name": "depth", "datatype": "FP32", "shape": [1, 1, 2], "data": [1.5, 1.6]}],
}  # fmt: skip
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_RAW = {  # without a value: bytes of an image are no text
    "photo": {
        "summary": "An image file as it is",
        "description": "curl --data-binary @photo.jpg -H 'Inference-Header-Content-Length: 0' "
        "'http://HOST/v2/models/m3vit_nano/infer?task=depth' --output answer.bin",
    }
}
INFER: dict[str, Any] = {
    "responses": {
        200: {
            "description": "The answers; with binary outputs a JSON header and the tensors behind it.",
            "headers": {
                "Inference-Header-Content-Length": {
                    "description": "Bytes of the JSON, where tensors follow it.", "schema": schemas.COUNT,
                },
            },
            "content": {
                "application/json": {"schema": schemas.ANSWER, "example": _ANSWER_EXAMPLE},
                "application/octet-stream": _BINARY,
            },
        },
    },
    "openapi_extra": {
        "parameters": [
            {
                "name": "Inference-Header-Content-Length", "in": "header", "required": False, "schema": schemas.COUNT,
                "description": "Bytes of the JSON, where tensors follow it; 0: the body is one image file.",
            },
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _REQUEST_SCHEMA, "example": _REQUEST_EXAMPLE},
                "application/octet-stream": {**_BINARY, "examples": _RAW},
            },
        },
    },
}  # fmt: skip


def _optional_body(example: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"parameters": schemas.PARAMETERS, "ready": schemas.FLAG}}
    return {"requestBody": {"required": False, "content": {"application/json": {"schema": schema, "example": example}}}}


_EMPTY: dict[int | str, dict[str, Any]] = {200: {"description": "Done."}}
INDEX: dict[str, Any] = {
    "responses": _ok(
        "Index",
        [{"name": "m3vit_nano", "version": "1", "state": "READY", "reason": ""}],
        schemas.INDEX,
    ),
    "openapi_extra": _optional_body({"ready": True}),
}
LOAD: dict[str, Any] = {
    "responses": _EMPTY, "response_class": Response, "openapi_extra": _optional_body({}),
}  # fmt: skip
UNLOAD: dict[str, Any] = {
    "responses": _EMPTY, "response_class": Response, "openapi_extra": _optional_body({"parameters": {}}),
}  # fmt: skip
