"""Servers for tests: the real application behind a real socket on a free port."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np

from slimpath.service.server import Server, make_app, make_config
from slimpath.service.settings import Settings


def settings_for(bundle: Path | None, **sections: dict[str, Any]) -> Settings:
    """Settings with some fields of some sections changed: `settings_for(bundle, limits={"max_body_mib": 1})`."""
    settings = Settings(bundles=() if bundle is None else (str(bundle),))
    for name, fields in sections.items():
        settings = replace(settings, **{name: replace(getattr(settings, name), **fields)})
    return settings


@contextmanager
def serving(settings: Settings, **client_options: Any) -> Iterator[httpx.Client]:
    """A server that is ready, and a client of it."""
    with (
        on_socket(settings) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, **client_options) as client,
    ):
        yield client


@contextmanager
def on_socket(settings: Settings) -> Iterator[int]:
    """The server on a free port, in a thread of its own; yields the port. Ends with a drain."""
    failures: list[BaseException] = []
    app, registry = make_app(settings, on_failure=failures.append)
    server = Server(make_config(replace_port(settings), app), drain_delay_s=0, on_drain=registry.stop_being_ready)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    try:
        wait_until(lambda: failures or (server.started and registry.ready()))
        assert not failures, failures
        yield server.address()[1]
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


def replace_port(settings: Settings) -> Settings:
    """The same on a port that is free."""
    return replace(settings, server=replace(settings.server, port=0))


def wait_until(holds: Any, seconds: float = 120.0) -> None:
    """Ask until it is so."""
    end_s = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end_s, "it did not come about in time"
        time.sleep(0.01)


def picture(height: int = 40, width: int = 60, seed: int = 0) -> np.ndarray:
    """Noise, uint8 RGB."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def encoded(extension: str = ".jpg", rgb: np.ndarray | None = None) -> bytes:
    """A picture as an image file."""
    done, data = cv2.imencode(extension, cv2.cvtColor(picture() if rgb is None else rgb, cv2.COLOR_RGB2BGR))
    assert done
    return data.tobytes()


def read_png(data: bytes) -> np.ndarray:
    """The pixels of a PNG file as they are stored; three channels in the order RGB."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB) if pixels.ndim == 3 else pixels
