"""Runs the application: sockets, TLS, signals. SIGTERM stops accepting and answers what was accepted."""

from __future__ import annotations

import asyncio
import logging
import math
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from ..runtime.errors import SlimpathError
from .app import create_app
from .errors import ServiceError
from .headers import security_headers
from .images import limit_opencv
from .loading_thread import keep_arenas_few
from .logs import configure_logging
from .malloc import give_large_buffers_back
from .opening import threads_of
from .protocol import guarded_protocol
from .registry import ModelRegistry
from .settings import Settings
from .v2.statistics import Statistics

log = logging.getLogger("slimpath.service")
BACKLOG = 512
POLL_S = 0.02


class Server(uvicorn.Server):
    """uvicorn's server, with one meaning of each signal: the first drains, the second ends at once.

    Args:
        drain_delay_s: that it still accepts after the first signal while saying that it is not ready.
        on_drain: called when the first signal has come, in the event loop.
    """

    def __init__(self, config: uvicorn.Config, *, drain_delay_s: float, on_drain: Callable[[], None]) -> None:
        super().__init__(config)
        self._drain_delay_s = drain_delay_s
        self._on_drain = on_drain
        self._last_signal = 0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal. It is not raised again at the end: after a drain the exit code is 0.

        Nothing is logged here: a handler interrupts the main thread anywhere, also while that holds the lock of the
        logs' queue, and would wait for it for ever.
        """
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True
        self._last_signal = sig

    async def shutdown(self, sockets: Any = None) -> None:
        """Be not ready for a while, then stop accepting and wait for what was accepted."""
        if self._last_signal:
            log.info("signal", extra={"signal": signal.Signals(self._last_signal).name, "forced": self.force_exit})
        self._on_drain()
        for _ in range(math.ceil(self._drain_delay_s / POLL_S)):
            if self.force_exit:
                break
            await asyncio.sleep(POLL_S)
        await super().shutdown(sockets)

    def address(self) -> tuple[str, int]:
        """Where it listens; the port is the one that was taken where 0 was asked for."""
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return host, port


def run(settings: Settings, *, on_ready: Callable[[str, ModelRegistry], None] | None = None) -> None:
    """Serve until a signal ends it.

    Args:
        on_ready: called with the address and the models once requests are answered.

    Raises:
        SlimpathError: a bundle or a setting cannot be used.
        ServiceError: the address is taken, or the models could not be loaded.
    """
    keep_arenas_few()
    failures: list[BaseException] = []

    def fail(error: BaseException) -> None:
        failures.append(error)
        server.should_exit = True

    app, registry = make_app(settings, on_failure=fail)
    server = Server(
        make_config(settings, app), drain_delay_s=settings.server.drain_delay_s, on_drain=registry.stop_being_ready
    )

    async def serve() -> None:
        watching = asyncio.ensure_future(_announce(server, settings, registry, on_ready))
        try:
            await server.serve()
        finally:
            watching.cancel()

    give_large_buffers_back()
    limit_opencv(threads_of(settings))
    end_logs = configure_logging(settings.log)
    try:
        asyncio.run(serve())
    except SystemExit:  # uvicorn's way of saying that the address cannot be had; it has logged why
        where = f"{settings.server.host}:{settings.server.port}"
        raise ServiceError(
            f"cannot listen on {where}", hint="is another server there? --port 0 takes a free one"
        ) from None
    finally:
        end_logs()
    if failures:
        error = failures[0]
        raise error if isinstance(error, SlimpathError) else ServiceError(f"the models could not be loaded: {error}")


def make_app(
    settings: Settings, *, on_failure: Callable[[BaseException], None] | None = None
) -> tuple[FastAPI, ModelRegistry]:
    """The application and its models.

    Raises:
        SlimpathError: a bundle's manifest cannot be read; its graphs are loaded later.
    """
    statistics = Statistics()
    registry = ModelRegistry.from_settings(settings, observers=(statistics,))
    return create_app(settings, registry, statistics, on_failure=on_failure), registry


def make_config(settings: Settings, app: Any) -> uvicorn.Config:
    """uvicorn's settings for ours."""
    server = settings.server
    return uvicorn.Config(
        app,
        host=server.host,
        port=server.port,
        http=guarded_protocol(settings.limits, security_headers(server)),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # whoever can send X-Forwarded-For could take another's share of the queue
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=math.ceil(server.keep_alive_s),
        timeout_graceful_shutdown=math.ceil(server.drain_s),
        ssl_certfile=server.tls_cert or None,
        ssl_keyfile=server.tls_key or None,
    )


async def _announce(
    server: Server, settings: Settings, registry: ModelRegistry, on_ready: Callable[[str, ModelRegistry], None] | None
) -> None:
    while not (server.started and registry.ready()):
        await asyncio.sleep(POLL_S)
    host, port = server.address()
    scheme = "https" if settings.server.tls_cert else "http"
    url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    log.info("ready", extra={"url": url})
    if on_ready is not None:
        on_ready(url, registry)
