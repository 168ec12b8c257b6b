"""The outermost frame of a request: its id, its line in the log, its count in the metrics, its trace."""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from .logs import request_id_var
from .metrics import OTHER, Metrics

if TYPE_CHECKING:
    from .tracing import Tracer

HEADER = b"x-request-id"
SANE_ID = re.compile(rb"[A-Za-z0-9._:+/=-]{1,128}")
HUNG_UP = 499  # what proxies log for a client that did not wait; never sent
QUIET = frozenset(("/v2/health/live", "/v2/health/ready", "/metrics"))  # asked for every few seconds
MAX_PATH = 200
access_log = logging.getLogger("slimpath.service.access")
_ids = random.Random()  # seeded once: a system call per request costs more than everything else here
_Receive = Callable[[], Awaitable[Any]]
_Send = Callable[[Any], Awaitable[None]]


class Observe:
    """ASGI middleware. Puts `request_id` into the request's state, and X-Request-Id on the answer.

    Args:
        access: log every request; probes and scrapes only at the level debug.
        tracer: None for no traces.
    """

    def __init__(self, app: Any, metrics: Metrics, *, access: bool = True, tracer: Tracer | None = None) -> None:
        self.app = app
        self.metrics = metrics
        self.access = access
        self.tracer = tracer

    async def __call__(self, scope: Any, receive: _Receive, send: _Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = request_id_of(scope["headers"])
        scope.setdefault("state", {})["request_id"] = request_id
        token = request_id_var.set(request_id)
        seen = _Seen(send, request_id)
        self.metrics.http_in_progress.inc()
        try:
            if self.tracer is None:
                await self.app(scope, receive, seen.send)
            else:
                with self.tracer.request(scope, request_id) as span:
                    await self.app(scope, receive, seen.send)
                    span.end(route_of(scope), seen.status)
        finally:
            self.metrics.http_in_progress.dec()
            self._tell(scope, seen)
            request_id_var.reset(token)

    def _tell(self, scope: Any, seen: _Seen) -> None:
        seconds = time.monotonic() - seen.started_s
        self.metrics.http_answered(scope["method"], route_of(scope), seen.status, seconds)
        if not self.access:
            return
        level = logging.DEBUG if scope["path"] in QUIET else logging.INFO
        if access_log.isEnabledFor(level):
            fields = {
                "method": scope["method"], "path": scope["path"][:MAX_PATH], "status": seen.status,
                "ms": round(seconds * 1e3, 3), "bytes": seen.bytes, "client": scope["state"].get("client", ""),
            }  # fmt: skip
            access_log.log(level, "request", extra=fields)


class _Seen:
    """What is sent, on its way."""

    def __init__(self, send: _Send, request_id: str) -> None:
        self.status = HUNG_UP
        self.bytes = 0
        self.started_s = time.monotonic()
        self._send = send
        self._id = request_id.encode("latin-1")

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", ()), (HEADER, self._id)]}
        else:
            self.bytes += len(message.get("body", b""))
        await self._send(message)


def request_id_of(headers: list[tuple[bytes, bytes]]) -> str:
    """The client's X-Request-Id if it is short and harmless, else a new one."""
    for name, value in headers:
        if name == HEADER and SANE_ID.fullmatch(value):
            return value.decode("latin-1")
    return f"{_ids.getrandbits(128):032x}"


def route_of(scope: Any) -> str:
    """The declared path that the request was routed to; `OTHER` for none (refused before, not found, a file)."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) and path else OTHER
