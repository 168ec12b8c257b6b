"""What openapi.json says of the errors that any path may answer with, as the gates before the routes make them."""

from __future__ import annotations

from typing import Any

from .problems import is_oip

_GATES = {
    400: "This is not HTTP, or the server is not called by that host name.",
    401: "This server needs an API key.",
    408: "The request came too slowly.",
    413: "The body is too large, or in too many pieces.",
    431: "The request line and its headers are too large.",
    500: "The server failed; its log says why.",
    503: "Too many connections or bodies at once, or not ready; Retry-After says when to come back.",
    504: "Not answered in time.",
}
_TEXT = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string"}},
}
_DETAIL = {"$ref": "#/components/schemas/ErrorAnswer"}


def document_gates(schema: dict[str, Any]) -> None:
    """Add the gates' errors to every operation that does not describe them itself."""
    for path, operations in schema["paths"].items():
        content = {"application/json": {"schema": _TEXT if is_oip(path) else _DETAIL}}
        for operation in operations.values():
            responses = operation.setdefault("responses", {})
            for status, description in _GATES.items():
                responses.setdefault(str(status), {"description": description, "content": content})
