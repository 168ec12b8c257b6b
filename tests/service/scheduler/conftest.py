"""A tiny bundle, its engine, and a scheduler around it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slimpath.runtime.engine import Engine
from slimpath.runtime.request import Request
from slimpath.service.scheduler import Scheduler
from slimpath.service.settings import SchedulerSettings
from slimpath.tests.runtime.tiny_bundle import build_tiny_bundle
from slimpath.tests.service.scheduler.gates import Gate

Started = Callable[..., AbstractAsyncContextManager[Scheduler]]


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mixture-of-experts bundle; read it only."""
    return build_tiny_bundle(tmp_path_factory.mktemp("bundles") / "moe")


@pytest.fixture
def engine(tiny_bundle: Path) -> Iterator[Engine]:
    with Engine.load(tiny_bundle, threads=1, tier="packed", profile=None) as loaded:
        yield loaded


@pytest.fixture
def started(engine: Engine) -> Started:
    """`async with started(runners=2) as scheduler`: settings by their names."""

    @asynccontextmanager
    async def start(**settings: Any) -> AsyncIterator[Scheduler]:
        scheduler = Scheduler(engine, SchedulerSettings(**{"runners": 1, "watchdog_s": 600.0, **settings}))
        try:
            await scheduler.start()
            yield scheduler
        finally:
            scheduler.close()

    return start


@pytest.fixture
def request_for() -> Callable[..., Request]:
    """Requests for a grey picture."""

    def make(tasks: Any = None, budget: Any = None, **more: Any) -> Request:
        return Request(np.full((40, 60, 3), 128, np.uint8), tasks, budget, **more)

    return make


@pytest.fixture
def gate(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(engine)
    monkeypatch.setattr(engine, "run_batch", gate)
    yield gate
    gate.open.set()
