"""The model repository extension, and clear refusals where Triton has extensions that this server leaves out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from fastapi import APIRouter, Request, Response

from ..errors import HttpError
from ..json_bounds import json_excess
from ..sources import NAME
from . import openapi
from .header import bad

if TYPE_CHECKING:
    from ..registry import ModelRegistry
    from ..settings import LimitSettings


class _Body(msgspec.Struct):
    """Of load and unload. Values may be anything: which are refused says `_check_parameters`."""

    parameters: dict[str, str | int | float | bool | None] = {}
    ready: bool = False


def repository_routes(router: APIRouter, registry: ModelRegistry, limits: LimitSettings) -> None:
    """Index, load, unload. Whether somebody may load and unload was checked before (`auth`)."""

    async def read(request: Request) -> _Body:
        return _read(await request.body(), limits.max_json_depth)

    @router.post("/repository/index", summary="Every model, loaded or not", **openapi.INDEX)
    async def index(request: Request) -> list[dict[str, str]]:
        only_ready = (await read(request)).ready
        entries = [entry for entry in registry.index() if entry.state == "READY" or not only_ready]
        return [
            {"name": entry.name, "version": entry.version, "state": entry.state, "reason": entry.reason}
            for entry in entries
        ]

    @router.post("/repository/models/{model}/load", summary="Load or reload a model", **openapi.LOAD)
    async def load(model: str, request: Request) -> Response:
        _refuse_parameters((await read(request)).parameters)
        await registry.load(_checked(model))
        return Response()

    @router.post("/repository/models/{model}/unload", summary="Stop serving a model", **openapi.UNLOAD)
    async def unload(model: str, request: Request) -> Response:
        await read(request)
        await registry.unload(_checked(model))
        return Response()


def _checked(name: str) -> str:
    if not NAME.fullmatch(name):
        raise bad("a model's name is letters, digits, '.', '_' and '-'")
    return name


def _read(body: bytes, max_depth: int) -> _Body:
    if not body.strip():
        return _Body()
    if excess := json_excess(body, max_depth):
        raise bad(f"the body {excess}")
    try:
        return msgspec.json.decode(body, type=_Body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad(f"the body must be empty, or JSON with parameters: {error}") from None


def _refuse_parameters(parameters: dict[str, Any]) -> None:
    for name in parameters:
        if name.startswith("file:") or name == "config":
            raise bad(
                f"the load parameter {name[:32]!a} is not supported: models and settings cannot be uploaded",
                hint="put the bundle where the server reads it, then load it by its name",
            )


_LEFT_OUT = {
    "/systemsharedmemory/{rest:path}": "shared memory",
    "/cudasharedmemory/{rest:path}": "shared memory",
    "/trace/setting": "trace settings",
    "/models/{model}/trace/setting": "trace settings",
    "/models/{model}/generate": "generate",
    "/models/{model}/generate_stream": "generate",
    "/models/{model}/versions/{version}/generate": "generate",
    "/models/{model}/versions/{version}/generate_stream": "generate",
    "/logging": "log settings",
}


def unsupported_routes(router: APIRouter) -> None:
    """400 that says so, where a client would otherwise read 404 and suspect its address."""
    for path, what in _LEFT_OUT.items():
        router.add_api_route(path, _refusal(what), methods=["GET", "POST"], include_in_schema=False)


def _refusal(what: str) -> Any:
    async def refuse() -> None:
        raise HttpError(400, "not_supported", f"this server does not have the {what} extension")

    return refuse
