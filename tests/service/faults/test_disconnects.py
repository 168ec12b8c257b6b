"""Clients that vanish at any moment. Promised: those who stay are answered, and nothing is left behind."""

from __future__ import annotations

import random
import socket
import threading
from pathlib import Path

import httpx

from slimpath.tests.service.faults.process import INFER, RAW, sample
from slimpath.tests.service.running import encoded, on_socket, settings_for, wait_until

VANISHING = 80
STAYING = 30


def vanish(port: int, dice: random.Random) -> None:
    """Send a part of a request, wait a moment, and go: politely, or with a reset."""
    body = encoded()
    head = f"POST {INFER} HTTP/1.1\r\nHost: 127.0.0.1\r\nInference-Header-Content-Length: 0\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(request[: dice.choice((1, len(head), len(request) - 1, len(request)))])
        threading.Event().wait(dice.choice((0, 0, 0.002, 0.01)))
        if dice.random() < 0.5:  # SO_LINGER 0: closing sends a reset
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def test_those_who_stay_are_answered_and_nothing_is_left_behind(bundle: Path) -> None:
    with (
        on_socket(settings_for(bundle)) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        dice = random.Random(0)
        threads = [
            threading.Thread(target=lambda seed: [vanish(port, random.Random(seed)) for _ in range(VANISHING // 4)],
                             args=(dice.random(),))
            for _ in range(4)
        ]  # fmt: skip
        for thread in threads:
            thread.start()
        statuses = [client.post(INFER, content=encoded(), headers=RAW).status_code for _ in range(STAYING)]
        for thread in threads:
            thread.join(60)
        assert statuses == [200] * STAYING
        wait_until(lambda: sample(client, "slimpath_http_requests_in_progress") == 1)  # the scrape itself
        wait_until(lambda: sample(client, "slimpath_queue_length") + sample(client, "slimpath_running") == 0)
        assert client.get("/v2/health/ready").status_code == 200
        descriptors = sample(client, "process_open_fds")
        for _ in range(20):
            vanish(port, dice)
        wait_until(lambda: sample(client, "process_open_fds") <= descriptors)
