"""The routes of /v2. Errors are raised: the application turns them into {"error": "<text>"}."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from ...runtime.request import Request as EngineRequest
from ..errors import HttpError
from ..limits import whole_body
from ..model import VERSION, Model
from ..model_errors import NotReady, UnknownModel
from ..pieces import Pieces
from ..scheduler.job import Job, Outcome
from . import openapi
from .answer import LENGTH_HEADER, WrittenAnswer, write_answer
from .compression import accepted_encoding
from .describe import model_config, model_metadata, server_metadata
from .header import header_length
from .images import decode_images
from .repository import repository_routes, unsupported_routes
from .request import InferRequest, read_request
from .statistics import Statistics

if TYPE_CHECKING:
    from ..registry import ModelRegistry
    from ..settings import LimitSettings

# What is read and written in the event loop: below these it is quicker than a thread's turn.
INLINE_JSON_BYTES = 1 << 14
INLINE_ANSWER_BYTES = 1 << 22
Name = Annotated[str, Path(description="The model's name.")]
Version = Annotated[str, Path(description='Of the model; always "1".')]


def make_router(registry: ModelRegistry, statistics: Statistics, limits: LimitSettings) -> APIRouter:
    """All routes of the protocol.

    Args:
        statistics: must be among the registry's observers.
    """
    router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"], responses=openapi.ERRORS)
    _add_infer(router, registry, limits)  # first: routes are tried in order
    _add_health(router, registry)
    _add_models(router, registry, statistics)
    repository_routes(router, registry, limits)
    unsupported_routes(router)
    return router


def _add_health(router: APIRouter, registry: ModelRegistry) -> None:
    @router.get("/health/live", summary="Is the server running?", responses=openapi.LIVE)
    async def live() -> dict[str, bool]:
        return {"live": True}

    @router.get("/health/ready", summary="Are all models ready?", responses=openapi.READY)
    async def ready() -> dict[str, bool]:
        if not registry.ready():
            raise NotReady("the server is not ready: models are loading, or it is shutting down")
        return {"ready": True}

    @router.get("", summary="Name, version and extensions of the server", responses=openapi.SERVER)
    async def server() -> dict[str, Any]:
        return server_metadata()


def _add_models(router: APIRouter, registry: ModelRegistry, statistics: Statistics) -> None:
    @router.get("/models/stats", summary="What all models have answered", responses=openapi.STATISTICS)
    async def all_statistics() -> dict[str, Any]:
        return {"model_stats": [statistics.to_json(model.name) for model in registry.models()]}

    def ready(name: str) -> dict[str, Any]:
        model = registry.get(name)
        if not model.ready:
            raise NotReady(f"model {name!r} is not ready: its backend does not answer")
        return {"name": model.name, "ready": True}

    def stats(name: str) -> dict[str, Any]:
        return {"model_stats": [statistics.to_json(registry.get(name).name)]}

    def config(name: str) -> dict[str, Any]:
        return model_config(registry.get(name))

    def metadata(name: str) -> dict[str, Any]:
        return model_metadata(registry.get(name))

    _about_model(router, "/ready", "Is the model ready?", ready, openapi.MODEL_READY)
    _about_model(router, "/config", "The model's configuration", config, openapi.CONFIG)
    _about_model(router, "/stats", "What the model has answered", stats, openapi.STATISTICS)
    _about_model(router, "", "The model's inputs and outputs", metadata, openapi.METADATA)


def _about_model(
    router: APIRouter, path: str, summary: str, answer: Callable[[str], dict[str, Any]], responses: Any
) -> None:
    """A GET route of a model, with and without a version."""

    @router.get(f"/models/{{model}}{path}", summary=summary, responses=responses)
    async def newest(model: Name) -> dict[str, Any]:
        return answer(model)

    @router.get(f"/models/{{model}}/versions/{{version}}{path}", summary=summary, responses=responses)
    async def versioned(model: Name, version: Version) -> dict[str, Any]:
        _check_version(model, version)
        return answer(model)


def _add_infer(router: APIRouter, registry: ModelRegistry, limits: LimitSettings) -> None:
    @router.post("/models/{model}/infer", summary="Answer images", **openapi.INFER)
    async def infer(request: Request, model: Name) -> Response:
        return await _infer(registry, limits, request, model)

    @router.post("/models/{model}/versions/{version}/infer", summary="Answer images", **openapi.INFER)
    async def infer_versioned(request: Request, model: Name, version: Version) -> Response:
        _check_version(model, version)
        return await _infer(registry, limits, request, model)


def _check_version(name: str, version: str) -> None:
    if version != VERSION:
        raise UnknownModel(f"model {name[:128]!a} has no version {version[:16]!a}", hint=f"there is {VERSION}")


async def _infer(registry: ModelRegistry, limits: LimitSettings, request: Request, name: str) -> Response:
    arrived_s = getattr(request.state, "arrived_s", time.monotonic())
    body = await whole_body(request)
    async with registry.use(name) as model:
        found = await _read(model, body, request, limits)
        jobs = await _jobs(model, found, arrived_s, request)
        await _decode(model, jobs, limits)
        kind = f"v2 {len(jobs)} {[(output.name, output.binary) for output in found.outputs]}"
        for job in jobs:
            if job.deadline_s is not None:
                job.deadline_s -= model.reserve.seconds(kind)  # for encoding the answer
        outcomes = await _submit_all(model, jobs)
        answered_s = time.monotonic()
        written = await _write(model, found, outcomes, request)
        model.reserve.observe(kind, time.monotonic() - answered_s)
    return Pieces(written.pieces, written.headers)


async def _read(model: Model, body: bytes, request: Request, limits: LimitSettings) -> InferRequest:
    tasks, headers = model.tasks, request.headers
    arguments = body, headers, request.query_params, tasks, limits
    if "content-encoding" not in headers and _json_bytes(body, headers) <= INLINE_JSON_BYTES:
        found = read_request(*arguments)
    else:
        found = await model.scheduler.pool(read_request, *arguments)
    _check_outputs(model, found, limits)
    return found


def _json_bytes(body: bytes, headers: Mapping[str, str]) -> int:
    length = header_length(headers.get(LENGTH_HEADER), len(body))
    return len(body) if length is None else length


def _check_outputs(model: Model, found: InferRequest, limits: LimitSettings) -> None:
    dense = sum(model.tasks[output.name].kind != "image_classes" for output in found.outputs)
    pixels = len(found.images) * dense * max(height * width for height, width in model.bundle.manifest.sizes)
    most = limits.max_output_mp
    if pixels > most * 1e6:
        message = f"outputs of {pixels / 1e6:.1f} megapixels were asked for, at most {most:g} are made"
        raise HttpError(400, "output_too_large", message, hint="send fewer images, or ask for fewer outputs")
    if pixels > most * 1e5 and not all(output.binary for output in found.outputs):
        raise HttpError(400, "output_too_large", "the answer is too large for JSON", hint="ask for binary outputs")


async def _jobs(model: Model, found: InferRequest, arrived_s: float, request: Request) -> list[Job]:
    """A job for each image, which may still be encoded."""
    wishes = found.wishes
    size: Any = wishes.size
    if len(found.images) > 1:  # one array holds all answers: they must have one size, whatever plan each of them gets
        plan = partial(model.engine.plan, wishes.tasks, wishes.budget, size=size, strict=wishes.strict)
        size = (await model.scheduler.pool(plan)).size_hw  # tens of milliseconds for a kind of request never seen
    deadline_s = None if wishes.deadline_s is None else arrived_s + wishes.deadline_s
    client = getattr(request.state, "client", "")
    request_id = getattr(request.state, "request_id", "")
    requests = [EngineRequest(image, wishes.tasks, wishes.budget, size, strict=wishes.strict) for image in found.images]
    return [Job(each, deadline_s, wishes.priority, client, request_id) for each in requests]


async def _decode(model: Model, jobs: list[Job], limits: LimitSettings) -> None:
    if not any(isinstance(job.request.image, bytes) for job in jobs):
        return
    model.check(jobs[0])  # what would be refused is not decoded first
    images: Any = [job.request.image for job in jobs]
    for job, pixels in zip(jobs, await model.scheduler.pool(decode_images, images, model.bundle.manifest, limits)):
        job.request = replace(job.request, image=pixels)


async def _submit_all(model: Model, jobs: list[Job]) -> list[Outcome]:
    """All of them, or the first error; then nobody waits for the others, which are dropped."""
    if len(jobs) == 1:
        return [await model.submit(jobs[0])]
    tasks = [asyncio.ensure_future(model.submit(job)) for job in jobs]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _write(model: Model, found: InferRequest, outcomes: list[Outcome], request: Request) -> WrittenAnswer:
    encoding = accepted_encoding(request.headers.get("accept-encoding"))
    size = sum(outcome.result[output.name].nbytes for outcome in outcomes for output in found.outputs)
    if encoding is None and size < INLINE_ANSWER_BYTES and all(output.binary for output in found.outputs):
        return write_answer(model, found, outcomes, None)
    return await model.scheduler.pool(write_answer, model, found, outcomes, encoding)
