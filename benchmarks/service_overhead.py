"""The overhead part of service_load.py: what the server adds to one call of the engine, one request at a time.

engine() and the server take turns, ten calls each, many times over: what a machine does meanwhile hits both. Requests
go over one connection that is kept, with the client of the standard library: it sends an array from where it lies and
reads the answer into one buffer. What the server says of its own queue and engine call is taken off the client's time:
the rest is what surrounds the engine, without the noise of the engine's own time.
"""

from __future__ import annotations

import http.client
import json
import socket
import statistics
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from method import interval, table, with_interval
from page import Section
from service_process import Served

from slimpath.runtime import Engine
from slimpath.runtime.cpus import usable_cpus
from slimpath.runtime.imaging.images import load_image
from slimpath.service.loadtest.picture import made_up_photograph

TARGET_MS = 1.5
CALLS_A_TURN, WARM_UP = 10, 5


@dataclass
class Seen:
    """One kind of picture: medians of each turn, in ms."""

    name: str
    engine_ms: list[float] = field(default_factory=list)
    server_ms: list[float] = field(default_factory=list)
    around_ms: list[float] = field(default_factory=list)

    @property
    def added_ms(self) -> tuple[float, float, float]:
        """More than the engine's turn before it, with an interval."""
        return interval(np.array(self.server_ms) - np.array(self.engine_ms))


class Wire:
    """One connection that asks for all tasks of the same picture, arrays as answer (/v2, binary).

    Args:
        picture: uint8 [H, W, 3] as a tensor, or an image file as the whole body.
    """

    def __init__(self, url: str, picture: np.ndarray | bytes) -> None:
        address = urlsplit(url)
        self._connection = http.client.HTTPConnection(address.hostname or "", address.port)
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection.request("GET", "/v2/models/stats")
        name = json.loads(self._connection.getresponse().read())["model_stats"][0]["name"]
        self._path = f"/v2/models/{name}/infer"
        header = b"" if isinstance(picture, bytes) else _header(picture)
        self._body = header + (picture if isinstance(picture, bytes) else picture.tobytes())
        self._headers = {
            "Content-Type": "application/octet-stream",
            "Inference-Header-Content-Length": str(len(header)),
        }

    def call(self) -> tuple[float, float]:
        """Milliseconds of one request, and how many of them the server was neither waiting nor in the engine."""
        started_s = time.perf_counter()
        self._connection.request("POST", self._path, self._body, self._headers)
        answer = self._connection.getresponse()
        body = answer.read()
        took_ms = (time.perf_counter() - started_s) * 1e3
        if answer.status != 200:
            raise RuntimeError(f"/v2 answered {answer.status}: {body[:300]!r}")
        inside_ms = sum(float(answer.headers[f"Slimpath-{part}-Ms"]) for part in ("Queue", "Compute"))
        return took_ms, took_ms - inside_ms

    def close(self) -> None:
        self._connection.close()


def _header(picture: np.ndarray) -> bytes:
    tensor = {
        "name": "image", "datatype": "UINT8", "shape": [1, *picture.shape],
        "parameters": {"binary_data_size": picture.nbytes},
    }  # fmt: skip
    return json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()


def overhead(turns: int, server: Served) -> Section:
    """Both kinds of picture: raw pixels, and a JPEG."""
    jpeg = made_up_photograph()
    pixels = load_image(jpeg).rgb
    pictures: dict[str, Any] = {"raw pixels": pixels, "JPEG": jpeg}
    with Engine.load(threads=usable_cpus(), tier="packed") as engine:
        seen = [_in_turns(name, engine, server.url, picture, turns) for name, picture in pictures.items()]
        tasks = len(engine.tasks)
    rows = [
        [
            each.name, f"{statistics.median(each.engine_ms):.2f}", f"{statistics.median(each.server_ms):.2f}",
            with_interval(each.added_ms), with_interval(interval(np.array(each.around_ms))),
            "met" if each.added_ms[1] <= TARGET_MS else "missed",
        ]
        for each in seen
    ]  # fmt: skip
    head = ["picture", "engine(), p50 ms", "server, p50 ms", "more, ms", "around the engine, ms",
            f"more <= {TARGET_MS} ms"]  # fmt: skip
    text = (
        f"{table(head, rows)}\n{pixels.shape[0]} x {pixels.shape[1]} pixels ({pixels.nbytes / 1e3:.0f} kB; as JPEG "
        f"{len(jpeg) / 1e3:.0f} kB), {tasks} tasks as arrays; {turns} turns of {CALLS_A_TURN} calls. Around the "
        "engine: the client's time less the server's own queue and engine call; with a JPEG it holds the decoding, "
        "which engine() does too.\n"
    )
    return "What the server adds to one call", text, [vars(each) for each in seen]


def _in_turns(name: str, engine: Engine, url: str, picture: Any, turns: int) -> Seen:
    plan, wire, seen = engine.plan(None), Wire(url, picture), Seen(name)
    for _ in range(WARM_UP):
        engine(picture, None, plan)
        wire.call()
    for _ in range(turns):
        engine(picture, None, plan)  # the first one after the other process has had the caches
        seen.engine_ms.append(statistics.median(_engine_ms(engine, picture, plan) for _ in range(CALLS_A_TURN)))
        wire.call()
        calls = [wire.call() for _ in range(CALLS_A_TURN)]
        seen.server_ms.append(statistics.median(took for took, _ in calls))
        seen.around_ms.append(statistics.median(around for _, around in calls))
    wire.close()
    return seen


def _engine_ms(engine: Engine, picture: Any, plan: Any) -> float:
    started_s = time.perf_counter()
    engine(picture, None, plan)
    return (time.perf_counter() - started_s) * 1e3
