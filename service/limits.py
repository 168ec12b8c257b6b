"""The innermost gate: a request's body under its limits, its time, its client's disappearance, and its errors.

The body is read here, whole, before anything looks at it: every byte is counted while it comes, per request and over
all requests; `whole_body` gives it to the routes. Nothing below can raise past this gate: whatever goes wrong becomes
an answer without anything of this machine in it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request

from .errors import HttpError
from .interrupts import Interrupt, watch_for_disconnect
from .problems import problem_of, send_problem
from .settings import LimitSettings

log = logging.getLogger("slimpath.service")

MIB = 1 << 20
DISCARD_S = 1.0  # that a too large body is read on and thrown away: a client that still sends would not read the answer
_Receive = Callable[[], Awaitable[Any]]
_Send = Callable[[Any], Awaitable[None]]


class ClientGone(Exception):
    """The client hung up: there is nobody to answer."""


class Bodies:
    """The bytes of all bodies that are being read or answered. Belongs to one event loop."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0

    def take(self, count: int) -> None:
        """Count bytes in.

        Raises:
            HttpError: 503; there is no room for them now.
        """
        if self.bytes + count > self.max_bytes:
            raise HttpError(
                503, "too_many_bytes", "the requests being answered are too large together", hint="try again later",
                headers={"Retry-After": "1"},
            )  # fmt: skip
        self.bytes += count

    def give_back(self, count: int) -> None:
        """Count them out again."""
        self.bytes -= count


class Gate:
    """ASGI middleware; see the top of this file. Puts `arrived_s` (time.monotonic) into the request's state."""

    def __init__(self, app: Any, limits: LimitSettings) -> None:
        self.app = app
        self.limits = limits
        self.max_bytes = int(limits.max_body_mib * MIB)
        self.bodies = Bodies(int(limits.max_in_flight_mib * MIB))

    async def __call__(self, scope: Any, receive: _Receive, send: _Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope.setdefault("state", {})["arrived_s"] = time.monotonic()
        reading = _Reading(self.bodies, self.max_bytes)
        try:
            scope["state"]["body"] = await self._read(scope, receive, reading)
            await self._answer(scope, receive, send)
        except ClientGone:
            pass
        except HttpError as error:  # of reading; the rest of the body must not be taken for the next request
            await send_problem(problem_of(error), scope, send, close=True)
        finally:
            reading.release()

    async def _read(self, scope: Any, receive: _Receive, reading: _Reading) -> bytes:
        headers = dict(scope["headers"])
        declared = headers.get(b"content-length")
        if declared is None and b"transfer-encoding" not in headers:
            return b""
        if declared is not None and int(declared) > self.max_bytes:
            if b"expect" not in headers:  # whoever asks before he sends need not be waited for
                await _discard(receive)
            raise too_large(self.max_bytes)
        async with Interrupt(self.limits.body_timeout_s) as interrupt:
            return await reading.read(receive)
        raise HttpError(
            408, "body_timeout", f"the body did not come within {self.limits.body_timeout_s:g} s ({interrupt.reason})"
        )

    async def _answer(self, scope: Any, receive: _Receive, send: _Send) -> None:
        started = False
        gone = asyncio.Event()
        replayed = False

        async def replay() -> dict[str, Any]:
            nonlocal replayed
            if not replayed:
                replayed = True
                return {"type": "http.request", "body": scope["state"].pop("body", b""), "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send_on(message: Any) -> None:
            nonlocal started
            if not started:
                started = True
                interrupt.stop_clock()  # how long the client takes to read it is the connection's concern
            await send(message)

        watcher: asyncio.Task[None] | None = None
        async with Interrupt(self.limits.request_timeout_s) as interrupt:
            if scope["method"] not in ("GET", "HEAD"):  # they are short

                def hung_up() -> None:
                    gone.set()
                    interrupt.fire("gone")

                watcher = asyncio.ensure_future(watch_for_disconnect(receive, hung_up))
            try:
                await self.app(scope, replay, send_on)
            except Exception as error:  # the outermost frame: whatever comes must become an answer
                if started:
                    raise
                problem = problem_of(error)
                if problem.status == 500:
                    log.error("unexpected error in %s", scope["path"], exc_info=error)
                await send_problem(problem, scope, send)
            finally:
                if watcher is not None:
                    watcher.cancel()
        if interrupt.reason == "late" and not started:
            message = f"the answer took longer than {self.limits.request_timeout_s:g} s"
            await send_problem(problem_of(HttpError(504, "request_timeout", message)), scope, send)


class _Reading:
    """One body while it is read, and until it is answered."""

    def __init__(self, bodies: Bodies, max_bytes: int) -> None:
        self._bodies = bodies
        self._max_bytes = max_bytes
        self._taken = 0

    async def read(self, receive: _Receive) -> bytes:
        pieces: list[bytes] = []
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            piece = message.get("body", b"")
            if self._taken + len(piece) > self._max_bytes:
                raise too_large(self._max_bytes)
            self._bodies.take(len(piece))
            self._taken += len(piece)
            pieces.append(piece)
            if not message.get("more_body", False):
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def release(self) -> None:
        self._bodies.give_back(self._taken)
        self._taken = 0


async def whole_body(request: Request) -> bytes:
    """The whole body, once. What the gate has read is taken out of the state: asking the request would copy it."""
    body = request.scope.get("state", {}).pop("body", None)
    return await request.body() if body is None else body


def too_large(max_bytes: int) -> HttpError:
    """The error of a body above the limit, compressed or not."""
    return HttpError(
        413,
        "body_too_large",
        f"a body may have at most {max_bytes} bytes",
        hint="send a smaller or a compressed picture",
    )


async def _discard(receive: _Receive) -> None:
    async with Interrupt(DISCARD_S):
        while True:
            message = await receive()
            if message["type"] == "http.disconnect" or not message.get("more_body", False):
                return
