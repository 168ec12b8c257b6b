"""The connection's own gate: how many there are, how long headers may take, how large they are, how a body is cut up.

Slow clients are told from dead ones by time alone: headers have `header_timeout_s` (here), bodies `body_timeout_s`
(`limits`), idle connections `keep_alive_s` (uvicorn), each part of an answer `answer_timeout_s` (`slow_readers`). What
is refused here never becomes a request.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .problems import Problem, body_of
from .settings import LimitSettings
from .slow_readers import AnswerWatch, waiting_bytes

_REASONS = {
    400: "Bad Request",
    408: "Request Timeout",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}
RETRY_AFTER_S = 1  # of a connection that is one too many


class Connections:
    """How many connections there are, and of whom. Belongs to one event loop."""

    def __init__(self, limits: LimitSettings) -> None:
        self._most = limits.max_connections
        self._most_of_one = limits.max_connections_per_address
        self._by_address: Counter[str] = Counter()
        self.open = 0

    def enter(self, address: str) -> bool:
        """Count one in; False where there are too many already."""
        if self.open >= self._most or self._by_address[address] >= self._most_of_one:
            return False
        self.open += 1
        self._by_address[address] += 1
        return True

    def leave(self, address: str) -> None:
        """Count one out."""
        self.open -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]


def guarded_protocol(limits: LimitSettings, headers: Mapping[str, str] | None = None) -> type[HttpToolsProtocol]:
    """uvicorn's protocol under these limits; one class a server, as its connections are counted together.

    Args:
        headers: of the answers that are given here.
    """
    counted, sent_along = Connections(limits), dict(headers or {})

    class Protocol(_GuardedProtocol):
        connection_limits = limits
        all_connections = counted
        refusal_headers = sent_along

    return Protocol


class _GuardedProtocol(HttpToolsProtocol):
    connection_limits: LimitSettings
    all_connections: Connections
    refusal_headers: dict[str, str]
    _watch: AnswerWatch
    _address: str | None = None
    _header_timer: asyncio.TimerHandle | None = None
    _header_bytes = 0  # of whole headers
    _unparsed_bytes = 0
    _in_headers = False
    _chunks = 0
    url = b""  # of the request that is being read

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch = AnswerWatch(transport, self.connection_limits.answer_timeout_s)
        address = self.client[0] if self.client else ""
        if not self.all_connections.enter(address):
            self._refuse(503, "too_many_connections", "this server has too many open connections")
            return
        self._address = address
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._watch.stop()
        if self._address is not None:
            self.all_connections.leave(self._address)
            self._address = None
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Too much of an answer waits for the client."""
        super().pause_writing()
        self._watch.start()

    def resume_writing(self) -> None:
        """Little of it is left: that has its time, too."""
        super().resume_writing()
        self._watch.start()

    def on_response_complete(self) -> None:
        """The last of an answer was handed over, which does not mean that the client took it."""
        self._watch.start()
        super().on_response_complete()

    def timeout_keep_alive_handler(self) -> None:
        """A connection is idle only once its answer was taken; closing it would give TLS 30 s for all of the rest."""
        if waiting_bytes(self.transport):
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        else:
            super().timeout_keep_alive_handler()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        cycle, idle = self.cycle, self.cycle is None or self.cycle.response_complete
        may_be_header = self._in_headers or idle
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_headers and may_be_header and self.cycle is cycle:
            # The parser keeps an unfinished header to itself, and all of this may belong to one.
            self._unparsed_bytes += len(data)
            self._check_header(self._unparsed_bytes)
        elif self._header_timer is None and self.cycle is not None and self.cycle.response_complete:
            self._await_headers()  # empty lines between requests have ended the time that an idle connection has

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._header_bytes = self._unparsed_bytes = self._chunks = 0
        if self._header_timer is None:
            self._await_headers()
        self._in_headers = True

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count_header(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._count_header(len(name) + len(value) + 4)

    def on_headers_complete(self) -> None:
        self._in_headers = False
        self._stop_timer()
        if not self.transport.is_closing():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece that is taken before the next one comes is passed on as it is; uvicorn would copy it twice."""
        cycle: Any = self.cycle
        if not cycle.body and not cycle.response_complete:
            cycle.body, body = body, b""
        super().on_body(body)

    def on_chunk_header(self) -> None:
        """httptools calls it for every chunk of a chunked body."""
        self._chunks += 1
        if self._chunks == self.connection_limits.max_chunks + 1:
            self._refuse(413, "too_many_chunks", "the body comes in too many pieces")

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "bad_http", "this is not HTTP/1.1")

    def _count_header(self, count: int) -> None:
        self._header_bytes += count
        self._check_header(self._header_bytes)

    def _check_header(self, count: int) -> None:
        if count > self.connection_limits.max_header_kib * 1024:
            self._refuse(431, "headers_too_large", "the request's headers are too large")

    def _await_headers(self) -> None:
        seconds = self.connection_limits.header_timeout_s
        self._header_timer = self.loop.call_later(seconds, self._headers_are_late)

    def _headers_are_late(self) -> None:
        self._header_timer = None
        self._refuse(408, "header_timeout", "the headers did not come in time")

    def _stop_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Say why, unless an answer is being written already, and hang up."""
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            path = (self.url or b"/").partition(b"?")[0].decode("latin-1")
            _, body = body_of(Problem(status, code, message), path)
            lines = [
                f"HTTP/1.1 {status} {_REASONS[status]}",
                "content-type: application/json",
                f"content-length: {len(body)}",
                "connection: close",
                *(f"{name}: {value}" for name, value in self.refusal_headers.items()),
            ]
            if status == 503:
                lines.append(f"retry-after: {RETRY_AFTER_S}")
            if self.cycle is not None:
                self.cycle.disconnected = True  # what it would still answer has nowhere to go
                self.cycle.message_event.set()
            self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        self.transport.close()
        self._watch.start()  # closing waits for the client to take what is left
