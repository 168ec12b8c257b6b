"""What openapi.json says of /v1, made from the types that requests are checked against."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from . import examples
from .models import PlanOptions
from .schemas import ErrorAnswer, InferAnswer, JsonRequest, ModelsAnswer, Options, PlanAnswer

REF = "#/components/schemas/{name}"
_TYPES = (JsonRequest, InferAnswer, ModelsAnswer, PlanAnswer, ErrorAnswer)
_ERRORS: dict[int, tuple[str, str, str]] = {  # status -> (what it means, code, example)
    400: ("The image is damaged, cut off, or no image.", "bad_image", "the image is empty: 0 bytes"),
    401: ("This server needs an API key.", "key_missing", "this server needs an API key"),
    404: ("No model of that name.", "unknown_model", "unknown model 'x'"),
    408: ("The body came too slowly.", "body_timeout", "the body did not come within 30 s"),
    413: (
        "The body has too many bytes, or the image too many pixels.",
        "body_too_large",
        "a body may have at most ...",
    ),
    415: ("A type of body or image that is not read here.", "unsupported_image", "WEBP images are not read here"),
    422: ("A field is missing, unknown or of the wrong value.", "bad_tasks", "unknown task 'x'"),
    429: ("This client has too many requests waiting; Retry-After says how long.", "client_limit", "too many requests"),
    500: ("A defect, or the inference library failed; the log says which.", "internal", "the server failed"),
    503: ("Refused: overload, a deadline that cannot be kept, or not ready.", "refused", "the queue is full"),
    504: ("Accepted, and then not answered in time.", "late", "the deadline has passed"),
}
_RETRY_AFTER = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}}
ANSWER_HEADERS = {
    "Slimpath-Model": "Name of the model.",
    "Slimpath-Width": "Encoder width that ran.",
    "Slimpath-Top-K": "Experts per token.",
    "Slimpath-Share": "Of the FLOPs of the full configuration.",
    "Slimpath-Quality": "Mean over the tasks of `kept`, the share of full accuracy; missing where one is unmeasured.",
    "Slimpath-Degraded": "true where load or deadline made it narrower than asked.",
    "Slimpath-Queue-Ms": "Time in the queue.",
    "Slimpath-Engine-Ms": "Time of the engine call.",
    "Slimpath-Server-Ms": "From arrival until the answer was being written.",
    "Slimpath-Predicted-Ms": "What the engine call was expected to take, where the device was calibrated.",
    "Slimpath-Scale": 'Of 16-bit pictures, with response "raw": value = stored * scale + offset.',
    "Slimpath-Offset": "Of the same.",
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}


def components() -> dict[str, Any]:
    """The schemas that the operations refer to."""
    return msgspec.json.schema_components(_TYPES, ref_template=REF)[1]


def infer_operation() -> dict[str, Any]:
    """POST /v1/infer."""
    return {
        "operationId": "infer",
        "parameters": _parameters(Options),
        "requestBody": {
            "required": True,
            "description": "The image: a form's field `file`, the body itself, or base64 in JSON. With a body of JSON "
            "all options are in the document, none in the URL.",
            "content": {
                "multipart/form-data": {"schema": _form(), "example": examples.FORM},
                "image/jpeg": {**_BINARY, "examples": examples.RAW},
                "image/png": {**_BINARY, "examples": examples.RAW},
                "application/json": {
                    "schema": _ref(JsonRequest),
                    "examples": {"depth": {"value": {"image": examples.DOT, "tasks": "depth", "budget": 0.5}}},
                },
            },
        },
        "responses": {
            "200": {
                "description": "The answer, in the form that `response` asks for.",
                "headers": {
                    name: {"description": text, "schema": {"type": "string"}} for name, text in ANSWER_HEADERS.items()
                },
                "content": {
                    "application/json": {"schema": _ref(InferAnswer), "example": examples.INFER},
                    "application/zip": _BINARY,
                    "application/octet-stream": _BINARY,
                    "image/png": _BINARY,
                },
            },
            **errors(_ERRORS),
        },
    }


def models_operation() -> dict[str, Any]:
    """GET /v1/models."""
    answer = _json_answer(ModelsAnswer, examples.MODELS)
    return {"operationId": "models", "responses": {**answer, **errors((401, 422, 500, 503))}}


def plan_operation() -> dict[str, Any]:
    """GET /v1/plan."""
    return {
        "operationId": "plan",
        "parameters": _parameters(PlanOptions),
        "responses": {**_json_answer(PlanAnswer, examples.PLAN), **errors((401, 404, 422, 500, 503, 504))},
    }


def errors(statuses: Iterable[int]) -> dict[str, Any]:
    """Responses of these statuses in the form of /v1."""
    return {
        str(status): {
            "description": _ERRORS[status][0],
            **({"headers": _RETRY_AFTER} if status in (429, 503) else {}),
            "content": {
                "application/json": {
                    "schema": _ref(ErrorAnswer),
                    "example": {"error": {"code": _ERRORS[status][1], "message": _ERRORS[status][2]}},
                }
            },
        }
        for status in statuses
    }


def _ref(kind: type[Any]) -> dict[str, str]:
    return {"$ref": REF.format(name=kind.__name__)}


def _json_answer(kind: type[Any], example: dict[str, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": _ref(kind), "example": example}}
    return {"200": {"description": "The answer.", "content": content}}


def _parameters(kind: type[Any]) -> list[dict[str, Any]]:
    found = []
    for name, schema in _texts(kind).items():
        parameter = {"name": name, "in": "query", "required": False, "schema": schema}
        if "description" in schema:
            parameter["description"] = schema.pop("description")
        found.append(parameter)
    return found


def _form() -> dict[str, Any]:
    file = {"type": "string", "format": "binary", "description": "The image file."}
    return {
        "type": "object",
        "required": ["file"],
        "properties": {"file": file, **_texts(Options)},
        "additionalProperties": False,
    }


def _texts(kind: type[Any]) -> dict[str, dict[str, Any]]:
    """The fields as they are in URLs and forms: no lists, no null; of alternatives the text."""
    properties = msgspec.json.schema_components([kind], ref_template=REF)[1][kind.__name__]["properties"]
    return {name: _text(dict(schema)) for name, schema in properties.items()}


def _text(schema: dict[str, Any]) -> dict[str, Any]:
    alternatives = [choice for choice in schema.pop("anyOf", []) if choice.get("type") != "null"]
    texts = [choice for choice in alternatives if choice.get("type") == "string"]
    if alternatives:
        schema.update((texts or alternatives)[0])
    if isinstance(schema.get("type"), list):
        schema["type"] = next(name for name in schema["type"] if name != "null")
    if schema.get("default", 0) is None:
        del schema["default"]
    return schema
