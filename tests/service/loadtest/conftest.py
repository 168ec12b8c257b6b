"""A server that behaves as a test tells it to, on a port of its own, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

import pytest


@dataclass
class Seen:
    """A request as it came."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    connection: int


Behaviour = Callable[[Seen, asyncio.StreamWriter], Awaitable[None]]


def response(status: int, body: bytes = b"", *, kind: str = "application/json", **headers: str) -> bytes:
    """A whole response."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", f"Content-Type: {kind}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


@dataclass
class Server:
    """Answers with `behave`; what came is in `seen`."""

    behave: Behaviour
    seen: list[Seen] = field(default_factory=list)
    port: int = 0
    connections: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                first, *lines = head.strip().split("\r\n")
                method, target, _ = first.split(" ")
                headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
                body = await reader.readexactly(int(headers["content-length"]))
                parts = urlsplit(target)
                seen = Seen(method, parts.path, dict(parse_qsl(parts.query)), headers, body, number)
                self.seen.append(seen)
                await self.behave(seen, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


@pytest.fixture
def serve() -> Iterator[Callable[[Behaviour], Server]]:
    """`serve(behaviour)` -> a running server."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    listeners: list[asyncio.Server] = []

    def start(behave: Behaviour) -> Server:
        server = Server(behave)

        async def listen() -> None:
            listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
            listeners.append(listening)
            server.port = listening.sockets[0].getsockname()[1]

        asyncio.run_coroutine_threadsafe(listen(), loop).result(20)
        return server

    yield start

    async def stop() -> None:
        for listening in listeners:
            listening.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.01)  # until the transports are closed

    asyncio.run_coroutine_threadsafe(stop(), loop).result(20)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(20)
    loop.close()


def answering(reply: bytes) -> Behaviour:
    """Always the same."""

    async def behave(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(reply)

    return behave
