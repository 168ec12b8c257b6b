"""A server on a socket, and the real tritonclient, sync and asyncio, behind one face."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http
import tritonclient.http.aio
from tritonclient.http import InferInput, InferResult

from slimpath.runtime.engine import Engine
from slimpath.tests.service.running import on_socket, settings_for


class AioClient:
    """`tritonclient.http.aio` with its methods awaited, so that one test serves both."""

    def __init__(self, url: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._client: Any = self.run(self._make(url))

    async def _make(self, url: str) -> Any:
        return tritonclient.http.aio.InferenceServerClient(url)  # aiohttp wants a running loop

    def run(self, work: Any) -> Any:
        return self._loop.run_until_complete(work)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        return lambda *arguments, **options: self.run(method(*arguments, **options))

    def close(self) -> None:
        self.run(self._client.close())
        self._loop.close()


def make_client(kind: str, port: int) -> Any:
    url = f"127.0.0.1:{port}"
    return AioClient(url) if kind == "aio" else tritonclient.http.InferenceServerClient(url, concurrency=8)


@pytest.fixture(scope="module")
def port(bundle: Path) -> Iterator[int]:
    """A server of one model, `tiny`, that may be loaded and unloaded. Bodies are at most 2 MiB."""
    with on_socket(settings_for(bundle, auth={"admin": True}, limits={"max_body_mib": 2.0})) as running:
        yield running


# The asyncio client never reads the answers to `is_..._ready`; aiohttp complains when they are collected.
AIO = pytest.param("aio", marks=pytest.mark.filterwarnings("ignore:Unclosed:ResourceWarning"))


@pytest.fixture(params=["sync", AIO])
def triton(request: pytest.FixtureRequest, port: int) -> Iterator[Any]:
    """The real client."""
    client = make_client(request.param, port)
    yield client
    client.close()
    gc.collect()  # now, while that complaint is not an error


@pytest.fixture(scope="module")
def engine(bundle: Path) -> Iterator[Engine]:
    """What the server's answers are compared with."""
    with Engine.load(bundle, threads=1, tier="packed") as loaded:
        yield loaded


def array_of(answer: httpx.Response, task: str) -> np.ndarray:
    """An output of a binary answer, read by the real client's parser; the only image of it."""
    assert answer.status_code == 200, answer.text
    length = int(answer.headers["inference-header-content-length"])
    values = InferResult.from_response_body(answer.content, header_length=length).as_numpy(task)
    assert values is not None and len(values) == 1
    return values[0]


def tensor(values: np.ndarray, datatype: str, *, binary: bool = True, name: str = "image") -> InferInput:
    """An input of the client."""
    found = InferInput(name, list(values.shape), datatype)
    found.set_data_from_numpy(values, binary_data=binary)
    return found


def pixels(rgb: np.ndarray, *, binary: bool = True) -> InferInput:
    """One picture as UINT8 [1, H, W, 3]."""
    return tensor(rgb[None], "UINT8", binary=binary)


def files(*data: bytes) -> InferInput:
    """Image files as BYTES [N]."""
    return tensor(np.array(data, dtype=object), "BYTES")
