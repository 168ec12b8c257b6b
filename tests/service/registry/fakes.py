"""Engines and schedulers that only remember what was done to them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slimpath.runtime.bundles.bundle import Bundle
from slimpath.service.registry import ModelRegistry


class FakeEngine:
    """An opened bundle."""

    class backend:
        name = "fake"

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.closed = False

    @property
    def tasks(self) -> dict[str, Any]:
        return {task.name: task for task in self.bundle.manifest.tasks}

    def close(self) -> None:
        self.closed = True


class FakeScheduler:
    """Answers a job with whatever `answer` gives, which may wait."""

    def __init__(self, name: str, engine: FakeEngine) -> None:
        self.name, self.engine = name, engine
        self.log: list[str] = []
        self.ready = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.in_flight = 0

    async def start(self) -> None:
        self.log.append("start")
        self.ready = True

    def check(self, job: Any) -> None: ...

    async def submit(self, job: Any) -> Any:
        assert not self.engine.closed, "the engine was closed under a request"
        self.in_flight += 1
        try:
            await self.gate.wait()
        finally:
            self.in_flight -= 1
        assert not self.engine.closed, "the engine was closed under a request"
        return self

    async def pool(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)

    def stats(self) -> Any:
        raise AssertionError("no test of the registry asks for statistics")

    async def drain(self, timeout_s: float) -> bool:
        self.log.append("drain")
        while self.in_flight and timeout_s > 0:
            await asyncio.sleep(0.005)
            timeout_s -= 0.005
        return not self.in_flight

    def close(self) -> None:
        self.log.append("close")
        self.ready = False


class Opened:
    """Makes registries of fakes, and keeps what they opened."""

    def __init__(self) -> None:
        self.engines: list[FakeEngine] = []
        self.schedulers: list[FakeScheduler] = []
        self.before_open: Callable[[Path], None] = lambda folder: None

    def registry(self, *sources: str | Path, **options: Any) -> ModelRegistry:
        return ModelRegistry(
            sources, open_model=self._open, make_scheduler=self._schedule, drain_timeout_s=5.0, **options
        )

    def _open(self, folder: Path) -> Any:
        self.before_open(folder)
        self.engines.append(FakeEngine(Bundle.open(folder)))
        return self.engines[-1]

    def _schedule(self, name: str, engine: Any) -> Any:
        self.schedulers.append(FakeScheduler(name, engine))
        return self.schedulers[-1]
