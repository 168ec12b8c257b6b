"""The application: gates outside, routes inside.

A request passes headers (host, what browsers may do), CORS if asked for, keys, then the gate (body, time,
disconnects, errors), then the routes. Models are loaded in the background: the server is alive at once, and
ready when they are warm.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import FileResponse, Response

from .. import __version__
from .auth import Auth
from .gates_openapi import document_gates
from .headers import Headers
from .limits import Gate
from .metrics_route import make_metrics_route
from .observe import Observe
from .problems import Problem, problem_of_status, render
from .registry import ModelRegistry
from .reloading import reload_on_sighup
from .settings import Settings
from .v1.openapi import ANSWER_HEADERS, components
from .v1.router import make_router as make_v1
from .v2.answer import LENGTH_HEADER
from .v2.router import make_router as make_v2
from .v2.statistics import Statistics

PAGE = Path(__file__).parent / "page" / "static"
DESCRIPTION = "One vision model, many tasks, any budget: only the path that a request pays for is executed."


def create_app(
    settings: Settings,
    registry: ModelRegistry,
    statistics: Statistics,
    *,
    on_failure: Callable[[BaseException], None] | None = None,
) -> FastAPI:
    """Put the application together.

    Args:
        statistics: must be among the registry's observers.
        on_failure: told when the models cannot be loaded at the start; without it the error is raised at the end.
    """
    app = FastAPI(
        title="slimpath",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,  # both pages would come from a CDN
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # `tracing` and `metrics` are ours
        lifespan=_lifespan(settings, registry, on_failure),
    )
    app.state.settings = settings
    app.state.registry = registry
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.include_router(make_v1(registry, settings.limits))
    app.include_router(make_v2(registry, statistics, settings.limits))
    app.include_router(make_metrics_route(registry.metrics))
    page_files = _mount_page(app)
    app.openapi = lambda: _openapi(app)
    # The last one added is the first to see a request.
    app.add_middleware(Gate, settings.limits)
    app.add_middleware(Auth, settings.auth, page_files)
    if settings.server.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.server.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key", "X-Request-Id", LENGTH_HEADER],
            expose_headers=["Retry-After", "X-Request-Id", LENGTH_HEADER, *ANSWER_HEADERS],
        )
    app.add_middleware(Headers, settings.server)
    app.add_middleware(Observe, registry.metrics, access=settings.log.access, tracer=registry.tracer)
    return app


def _lifespan(
    settings: Settings, registry: ModelRegistry, on_failure: Callable[[BaseException], None] | None
) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.ensure_future(registry.start())

        def loaded(task: asyncio.Future[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None and on_failure is not None:
                on_failure(error)

        loading.add_done_callback(loaded)
        without_sighup = reload_on_sighup(registry)
        try:
            yield
        finally:
            loading.cancel()
            await registry.close(settings.server.drain_s)
            without_sighup()  # last: without the handler a SIGHUP would end the process before it has answered

    return lifespan


def _mount_page(app: FastAPI) -> frozenset[str]:
    """Serve the page at / where it is installed; returns the paths of its files.

    A route for each file: a mount at / would take whatever no other route takes, and turn an API's 404 into 405.
    """
    if not (PAGE / "index.html").is_file():
        return frozenset()
    files = {f"/{path.relative_to(PAGE).as_posix()}": path for path in PAGE.rglob("*") if path.is_file()}
    files["/"] = PAGE / "index.html"
    for path, file in files.items():
        app.add_route(path, _serve_file(file), include_in_schema=False)
    return frozenset(files)


def _serve_file(file: Path) -> Callable[[Request], Any]:
    async def serve(request: Request) -> Response:
        return FileResponse(file)

    return serve


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schema.setdefault("components", {}).setdefault("schemas", {}).update(components())
        schema["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        schema["security"] = [{}, {"bearer": []}, {"key": []}]  # {}: where the server has no keys
        document_gates(schema)
        app.openapi_schema = schema
    return app.openapi_schema


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    return render(problem_of_status(error.status_code, "", headers), request.scope["path"])


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    places = ", ".join(".".join(str(part) for part in item["loc"]) for item in error.errors())
    return render(Problem(422, "bad_request", f"cannot be used: {places}"[:500]), request.scope["path"])
