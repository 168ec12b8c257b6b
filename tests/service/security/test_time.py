"""Time and disappearance: a request has so long, and a client that hangs up takes its work along."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from slimpath.runtime.running.answering import Answerer
from slimpath.service.interrupts import Interrupt
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
