"""POST /v1/infer: read, prepare, queue, encode. Whatever takes time runs in the pool; this only passes things on."""

from __future__ import annotations

import uuid
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from ..errors import HttpError
from ..limits import whole_body
from ..scheduler.job import Job, Outcome
from ..scheduler.pool import Pool
from .answers import Content, make_content
from .parsing import read_request
from .preparing import Prepared, engine_request, prepare
from .schemas import Options

if TYPE_CHECKING:
    from ..registry import ModelRegistry
    from ..settings import LimitSettings

INLINE_BYTES = 64 * 1024  # smaller bodies are read faster than handed over to a thread
INLINE_ANSWER_BYTES = 2 << 20
# Of large forms and JSON documents, which must be read before it is known which model's pool would do it.
READING_THREADS = 2
READING_LIMIT = 64  # at work or waiting; more are refused (503)


def _is_copied(prepared: Prepared, outcome: Outcome, options: Options) -> bool:
    """Whether the answer is little more than a copy of small arrays: quicker than a thread's turn."""
    sizes = [outcome.result[task].nbytes for task in prepared.formats]
    return not options.panel and set(prepared.formats.values()) == {"npy"} and sum(sizes) <= INLINE_ANSWER_BYTES


class Infer:
    """Answers requests to /v1/infer with the models of a registry."""

    def __init__(self, registry: ModelRegistry, limits: LimitSettings) -> None:
        self._registry = registry
        self._limits = limits
        self._pool = Pool(READING_THREADS, READING_LIMIT)

    async def answer(self, http: Request) -> Response:
        """One request, from its body to its answer."""
        state = http.scope["state"]
        arrived_s: float = state["arrived_s"]
        data, options = await self._read(http)
        async with self._registry.use(options.model) as model:
            pool = model.scheduler.pool
            request_id = state.get("request_id") or uuid.uuid4().hex
            job = Job(
                engine_request(data, options),
                deadline_s=None if options.deadline_ms is None else arrived_s + options.deadline_ms / 1e3,
                priority=options.priority,
                client=state.get("client", ""),
                request_id=request_id,
            )
            model.check(job)  # what would be refused is not decoded first
            prepared = await pool(prepare, model, data, options, self._limits)
            job.request = prepared.request
            del data  # a large body need not wait in the queue as well
            kind = f"v1 {options.response} {options.panel} {options.output_size} {prepared.formats}"
            if job.deadline_s is not None:
                job.deadline_s -= model.reserve.seconds(kind)  # for encoding the answer
            outcome = await model.submit(job)
            answered_s = monotonic()
            make = partial(make_content, request_id=request_id, arrived_s=arrived_s)
            arguments = model, prepared, outcome, options, self._limits
            content: Content = (
                make(*arguments) if _is_copied(prepared, outcome, options) else await pool(make, *arguments)
            )
            model.reserve.observe(kind, monotonic() - answered_s)
        return Response(content.body, headers=content.headers, media_type=content.media_type)

    async def _read(self, http: Request) -> Any:
        body = await whole_body(http)
        encoding = http.headers.get("content-encoding", "identity")
        if encoding != "identity":
            hint = "send images as they are: they are compressed already"
            raise HttpError(
                415, "unsupported_encoding", f"Content-Encoding {encoding[:64]!r} is not read here", hint=hint
            )
        query = http.scope["query_string"].decode("latin-1")
        read = partial(read_request, max_tasks=self._limits.max_tasks, max_depth=self._limits.max_json_depth)
        content_type = http.headers.get("content-type", "")
        if len(body) <= INLINE_BYTES or content_type.startswith("image/"):
            return read(content_type, query, body)
        return await self._pool.run(read, content_type, query, body)
