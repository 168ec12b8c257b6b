"""A backend that raises, hangs, or answers nonsense. Promised: only the request that met it fails; a call that hangs is
given up, meanwhile the server says that it is not ready and stays alive; nothing of the machine is told.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from slimpath.runtime.engine import Engine
from slimpath.runtime.errors import BackendError
from slimpath.runtime.request import Request
from slimpath.service.app import create_app
from slimpath.service.registry import ModelRegistry
from slimpath.service.scheduler import Scheduler
from slimpath.service.server import Server, make_config
from slimpath.service.v2.statistics import Statistics
from slimpath.tests.service.faults.process import INFER, RAW, sample
from slimpath.tests.service.running import encoded, replace_port, settings_for, wait_until

WHITE = encoded(".png", np.full((40, 60, 3), 255, np.uint8))  # the picture that the backend cannot stand
BLACK = encoded(".png", np.zeros((40, 60, 3), np.uint8))
Fault = Callable[[], Any]


@contextmanager
def serving_with(bundle: Path, fault: Fault, **scheduler: Any) -> Iterator[httpx.Client]:
    """A server whose engine calls `fault` for every batch with a white picture in it, and uses what it returns."""
    settings = replace_port(settings_for(bundle, scheduler=scheduler))

    def open_model(folder: Path) -> Engine:
        engine = Engine.load(folder, threads=1, tier="packed")
        sound: Any = engine.run_batch

        def run_batch(requests: Sequence[Request], *, return_errors: bool = False) -> Any:
            requests = list(requests)
            if any(np.asarray(request.image).min() == 255 for request in requests):
                changed = fault()
                return changed(sound(requests, return_errors=return_errors))
            return sound(requests, return_errors=return_errors)

        engine.run_batch = run_batch  # type: ignore[method-assign]
        return engine

    statistics = Statistics()
    registry = ModelRegistry(
        [bundle], open_model=open_model, make_scheduler=lambda name, engine: Scheduler(engine, settings.scheduler),
        observers=[statistics], drain_timeout_s=5.0,
    )  # fmt: skip
    app = create_app(settings, registry, statistics)
    server = Server(make_config(settings, app), drain_delay_s=0, on_drain=registry.stop_being_ready)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    try:
        wait_until(lambda: server.started and registry.ready())
        with httpx.Client(base_url=f"http://127.0.0.1:{server.address()[1]}", timeout=60) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


def ask(client: httpx.Client, image: bytes) -> httpx.Response:
    return client.post(INFER, content=image, headers=RAW)


@pytest.mark.parametrize("kind", [BackendError, RuntimeError, MemoryError])
def test_a_backend_that_raises_fails_its_request_alone(
    bundle: Path, kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def fault() -> Any:
        raise kind("broken at /home/someone/secret/model.onnx")

    with serving_with(bundle, fault, max_batch=1) as client:
        for _ in range(3):
            answer = ask(client, WHITE)
            assert answer.status_code in (500, 503)
            assert "secret" not in answer.text and isinstance(answer.json()["error"], str)
            assert ask(client, BLACK).status_code == 200
        assert client.get("/v2/health/ready").status_code == 200
        assert sample(client, "slimpath_inferences_total", outcome="failed") == 3


def test_batch_mates_of_a_request_that_raises_are_answered(bundle: Path) -> None:
    def fault() -> Any:
        raise BackendError("broken")

    with serving_with(bundle, fault, max_batch=8, max_wait_ms=20.0) as client:
        answers: list[tuple[bool, int]] = []

        def one(white: bool) -> None:
            answers.append((white, ask(client, WHITE if white else BLACK).status_code))

        threads = [threading.Thread(target=one, args=(number % 4 == 0,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert {status for white, status in answers if not white} == {200}
        assert {status for white, status in answers if white} <= {500, 503} and len(answers) == 16


def test_a_backend_that_hangs_is_given_up_and_the_server_says_so(bundle: Path) -> None:
    go_on = threading.Event()

    def fault() -> Any:
        assert go_on.wait(120)
        return lambda answers: answers

    with serving_with(bundle, fault, watchdog_s=0.5, runners=1) as client:
        answer = ask(client, WHITE)
        assert answer.status_code == 503 and isinstance(answer.json()["error"], str)
        assert client.get("/v2/health/live").status_code == 200
        assert client.get("/v2/health/ready").status_code == 503
        assert client.get("/v2/models/tiny/ready").status_code == 503
        assert sample(client, "slimpath_runners_hung") == 1
        assert ask(client, BLACK).status_code == 503  # its only runner hangs: told at once instead of waiting
        go_on.set()
        wait_until(lambda: client.get("/v2/health/ready").status_code == 200)
        assert ask(client, BLACK).status_code == 200


def test_a_server_whose_backend_hangs_can_still_be_stopped(bundle: Path) -> None:
    go_on = threading.Event()

    def fault() -> Any:
        assert go_on.wait(120)
        return lambda answers: answers

    with serving_with(bundle, fault, watchdog_s=0.5, runners=1) as client:
        assert ask(client, WHITE).status_code == 503
    go_on.set()  # `serving_with` has ended the server meanwhile


def test_answers_that_are_not_numbers_reach_the_client_as_such(bundle: Path) -> None:
    def fault() -> Any:
        def spoil(answers: Any) -> Any:
            for answer in answers:
                answer.values_by_task["depth"][:] = np.nan
            return answers

        return spoil

    with serving_with(bundle, fault) as client:
        tensor = {"name": "image", "shape": [1, 2, 2, 3], "datatype": "UINT8", "data": [255] * 12}
        answer = client.post(INFER, json={"inputs": [tensor], "outputs": [{"name": "depth"}]})
        assert answer.status_code == 200
        assert set(answer.json()["outputs"][0]["data"]) == {None}
