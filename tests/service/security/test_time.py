"""Time and disappearance: a request has so long, and a client that hangs up takes its work along."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.responses import Response

from slimpath.runtime.running.answering import Answerer
from slimpath.service.interrupts import Interrupt
from slimpath.service.limits import Gate
from slimpath.service.pieces import Pieces
from slimpath.service.protocol import guarded_protocol
from slimpath.service.settings import LimitSettings
from slimpath.tests.service.running import encoded, on_socket, settings_for, wait_until

JPEG = {"content-type": "image/jpeg"}


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Engine calls wait for this event while `on` is set by the test through `held.on`."""
    go = threading.Event()
    go.set()
    run = Answerer.run

    def wait_and_run(self: Any, *arguments: Any, **options: Any) -> Any:
        assert go.wait(60)
        return run(self, *arguments, **options)

    monkeypatch.setattr(Answerer, "run", wait_and_run)
    yield go
    go.set()


def gauge(url: str, name: str) -> float:
    """The value of a metric without labels but the model's."""
    for line in httpx.get(f"{url}/metrics", timeout=30).text.splitlines():
        if line.startswith(name):
            return float(line.rpartition(" ")[2])
    raise AssertionError(f"no metric {name}")


def test_a_request_has_so_long_and_then_it_is_504(bundle: Path, held: threading.Event):
    with on_socket(settings_for(bundle, limits={"request_timeout_s": 0.5})) as port:
        held.clear()
        answer = httpx.post(f"http://127.0.0.1:{port}/v1/infer", content=encoded(), headers=JPEG, timeout=60)
        held.set()
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "request_timeout")


def test_the_event_loop_answers_while_the_engine_computes(bundle: Path, held: threading.Event):
    with on_socket(settings_for(bundle)) as port:
        url = f"http://127.0.0.1:{port}"
        held.clear()
        answers: list[int] = []

        def ask() -> None:
            answers.append(httpx.post(f"{url}/v1/infer", content=encoded(), headers=JPEG, timeout=60).status_code)

        asking = [threading.Thread(target=ask) for _ in range(4)]
        for thread in asking:
            thread.start()
        for _ in range(5):
            assert httpx.get(f"{url}/v2/health/live", timeout=5).status_code == 200
        held.set()
        for thread in asking:
            thread.join(60)
        assert answers == [200] * 4


def test_a_client_that_hangs_up_takes_its_waiting_request_along(bundle: Path, held: threading.Event):
    with on_socket(settings_for(bundle, scheduler={"runners": 1, "max_batch": 1})) as port:
        url = f"http://127.0.0.1:{port}"
        held.clear()
        body = encoded()
        request = (
            b"POST /v1/infer?tasks=depth HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/jpeg\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body)
        ) + body
        connections = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(5)]
        for connection in connections:
            connection.sendall(request)
        wait_until(lambda: _cancelled(url) == 0 and _pending(url) >= 4)
        for connection in connections[1:]:
            connection.close()
        wait_until(lambda: _cancelled(url) >= 4)
        held.set()
        assert connections[0].recv(100).startswith(b"HTTP/1.1 200")
        connections[0].close()
        answer = httpx.post(f"{url}/v1/infer", content=body, headers=JPEG, timeout=60)
        assert answer.status_code == 200


def _cancelled(url: str) -> float:
    try:
        return gauge(url, 'slimpath_inferences_total{model="tiny",outcome="cancelled"}')
    except AssertionError:
        return 0.0


def _pending(url: str) -> float:
    return gauge(url, "slimpath_queue_length")


ANSWER = b"x" * (12 << 20)  # more than the system takes from the server and the client together
ANSWERS = {
    "one piece": lambda: Response(ANSWER, media_type="text/plain"),
    "several pieces": lambda: Pieces(
        [ANSWER[:9], memoryview(ANSWER), ANSWER[: 1 << 20]], {"Content-Type": "text/plain"}
    ),
}


@contextmanager
def answering(kind: str, limits: LimitSettings, **options: Any) -> Iterator[int]:
    """A server of large answers behind the gates, on a free port; /small has a short one."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        response = Response("ok") if scope["path"] == "/small" else ANSWERS[kind]()
        await response(scope, receive, send)

    config = uvicorn.Config(
        Gate(app, limits), port=0, http=guarded_protocol(limits), ws="none", lifespan="off", log_config=None, **options
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


def ask_slowly(port: int, path: str = "/", *, close: bool = False) -> socket.socket:
    """A connection that has asked for an answer and takes little of it at a time."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(60)
    connection.connect(("127.0.0.1", port))
    header = "Connection: close\r\n" if close else ""
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{header}\r\n".encode())
    return connection


def has_room(url: str) -> bool:
    return httpx.get(f"{url}/small", timeout=60).status_code == 200


@pytest.mark.parametrize("kind", ANSWERS)
@pytest.mark.parametrize("close", [False, True])
def test_a_client_that_does_not_read_its_answer_is_cut_off(kind: str, close: bool):
    limits = LimitSettings(answer_timeout_s=0.5, max_connections=1)
    with answering(kind, limits) as port:
        connection = ask_slowly(port, close=close)
        assert connection.recv(15) == b"HTTP/1.1 200 OK"  # the answer is on its way
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: has_room(url), seconds=60)  # its place among the connections is given back
        assert received(connection) < len(ANSWER)
        connection.close()


def received(connection: Any) -> int:
    """Bytes until the connection ends."""
    count = 0
    try:
        while piece := connection.recv(1 << 20):
            count += len(piece)
    except (ConnectionError, ssl.SSLError):
        pass
    return count


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_slow_reader_that_goes_on_reading_gets_all_of_its_answer(kind: str):
    limits = LimitSettings(answer_timeout_s=2.0, request_timeout_s=1.0)
    with answering(kind, limits, timeout_keep_alive=1) as port:
        connection = ask_slowly(port)
        count, started_s = 0, time.monotonic()
        while count < int(ANSWERS[kind]().headers["content-length"]):
            piece = connection.recv(1 << 20)
            assert piece, f"cut off after {count} bytes and {time.monotonic() - started_s:.1f} s"
            count += len(piece)
            allowed_s = 5.0 * count / len(ANSWER)  # longer than any of the times above
            time.sleep(max(0.0, started_s + allowed_s - time.monotonic()))
        connection.close()


def test_over_tls_a_client_that_does_not_read_its_answer_is_cut_off_as_well(certificate: tuple[Path, Path]):
    cert, key = certificate
    limits = LimitSettings(answer_timeout_s=0.5, max_connections=1)
    with answering("one piece", limits, ssl_certfile=str(cert), ssl_keyfile=str(key)) as port:
        trusted = ssl.create_default_context(cafile=str(cert))
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.settimeout(60)
        plain.connect(("127.0.0.1", port))
        with trusted.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert connection.recv(15) == b"HTTP/1.1 200 OK"

            def has_room_again() -> bool:
                return httpx.get(f"https://127.0.0.1:{port}/small", verify=trusted, timeout=60).status_code == 200

            wait_until(has_room_again, seconds=25)  # before TLS itself gives up, after 30 s


def test_the_time_of_a_request_ends_when_its_answer_begins():
    sent: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start"})
        await asyncio.sleep(0.3)
        await send({"type": "http.response.body"})

    async def send(message: Any) -> None:
        sent.append(message["type"])

    async def receive() -> Any:
        return {"type": "http.request"}

    scope = {"type": "http", "method": "GET", "headers": [], "path": "/"}
    asyncio.run(Gate(app, LimitSettings(request_timeout_s=0.1))(scope, receive, send))
    assert sent == ["http.response.start", "http.response.body"]


def test_an_interrupt_ends_only_what_it_covers():
    async def scenario() -> list[str]:
        seen: list[str] = []
        async with Interrupt(0.01) as interrupt:
            await asyncio.sleep(60)
        seen.append(str(interrupt.reason))
        async with Interrupt(60) as interrupt:
            asyncio.get_running_loop().call_soon(interrupt.fire, "gone")
            await asyncio.sleep(60)
        seen.append(str(interrupt.reason))
        async with Interrupt(60) as interrupt:
            await asyncio.sleep(0)
        seen.append(str(interrupt.reason))
        await asyncio.sleep(0.02)  # nothing is left that would cancel this
        return seen

    assert asyncio.run(scenario()) == ["late", "gone", "None"]


def test_an_interrupt_lets_other_cancellations_through():
    async def scenario() -> None:
        async def work() -> None:
            async with Interrupt(60):
                await asyncio.sleep(60)

        task = asyncio.ensure_future(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())
