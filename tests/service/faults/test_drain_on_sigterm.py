"""SIGTERM under load. Promised: every request that the server had begun to read is answered; exit code 0."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import cv2
import httpx
import numpy as np
from tritonclient.http import InferenceServerClient

from slimpath.tests.service.faults.process import INFER, RAW, ServerProcess, sample
from slimpath.tests.service.running import wait_until

REQUESTS = 12


def test_no_accepted_request_is_lost(bundle: Path, cache: Path, large_picture: bytes) -> None:
    with ServerProcess(bundle, cache) as server, server.client() as watcher:
        answers: list[int | str] = []

        def ask() -> None:
            try:
                with server.client() as client:
                    answers.append(client.post(INFER, content=large_picture, headers=RAW).status_code)
            except httpx.HTTPError as error:
                answers.append(repr(error))

        threads = [threading.Thread(target=ask) for _ in range(REQUESTS)]
        for thread in threads:
            thread.start()

        def all_accepted() -> bool:
            running = sample(watcher, "slimpath_http_requests_in_progress") - 1  # the scrape itself
            done = sample(watcher, "slimpath_http_requests_total", route="/v2/models/{model}/infer")
            return running + done >= REQUESTS

        wait_until(all_accepted)
        unanswered = REQUESTS - len(answers)
        server.signal(signal.SIGTERM)
        for thread in threads:
            thread.join(60)
        assert answers == [200] * REQUESTS
        assert unanswered > 0, "all were answered before the signal: nothing was drained"
        assert server.end() == 0


def test_while_draining_it_says_not_ready_and_still_answers(bundle: Path, cache: Path, large_picture: bytes) -> None:
    with ServerProcess(bundle, cache, "--drain-delay-s", "60") as server, server.client() as client:
        server.signal(signal.SIGTERM)
        wait_until(lambda: client.get("/v2/health/ready").status_code == 503)
        triton = InferenceServerClient(server.url.removeprefix("http://"))
        assert triton.is_server_live() is True and triton.is_server_ready() is False
        triton.close()
        assert client.post(INFER, content=large_picture, headers=RAW).status_code == 200
        server.signal(signal.SIGTERM)  # who does not want to wait says it twice
        server.end()


def test_who_does_not_wait_while_images_are_decoded_gets_no_crash(bundle: Path, cache: Path) -> None:
    """A library that comes back to an interpreter that has gone aborts the process (SIGABRT)."""
    blocks = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    picture = cv2.imencode(".png", np.kron(blocks, np.ones((10, 10, 1), np.uint8)))[1].tobytes()  # 12 megapixels
    with ServerProcess(bundle, cache) as server, server.client() as watcher:
        threads = [threading.Thread(target=_ask, args=(server, picture)) for _ in range(8)]
        for thread in threads:
            thread.start()
        wait_until(lambda: sample(watcher, "slimpath_http_requests_in_progress") > 6)
        server.signal(signal.SIGTERM)
        time.sleep(0.05)  # two at once would be one
        server.signal(signal.SIGTERM)
        assert server.end() >= 0, "".join(server.lines)
        for thread in threads:
            thread.join(60)


def _ask(server: ServerProcess, picture: bytes) -> None:
    with suppress(httpx.HTTPError), server.client() as client:
        client.post("/v1/infer", content=picture, headers={"Content-Type": "image/png"})
