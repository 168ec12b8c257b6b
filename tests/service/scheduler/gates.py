"""A gate before the engine: calls are held, counted, and let through."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

from slimpath.runtime.engine import Engine
from slimpath.runtime.request import Request
from slimpath.service.scheduler import Scheduler

SOON_S = 20.0  # nothing here takes as long; a loaded machine may


class Gate:
    """Stands before `engine.run_batch`: holds calls while it is shut, and remembers what was called."""

    def __init__(self, engine: Engine) -> None:
        self.open = threading.Event()
        self.open.set()
        self.permits = threading.Semaphore(0)  # each lets one call through while it is shut
        self.calls: list[list[Request]] = []
        self.entered = threading.Semaphore(0)
        self._run_batch = engine.run_batch

    def __call__(self, requests: Any, *, return_errors: bool = False) -> Any:
        self.calls.append(list(requests))
        self.entered.release()
        until_s = time.monotonic() + 60
        while not self.open.wait(0.005) and not self.permits.acquire(blocking=False):
            assert time.monotonic() < until_s
        return self._run_batch(requests, return_errors=return_errors)


async def entered(gate: Gate) -> None:
    """Until one more call stands before the gate."""
    assert await asyncio.to_thread(gate.entered.acquire, timeout=SOON_S)


async def waiting(scheduler: Scheduler, count: int) -> None:
    """Until so many requests wait."""
    until_s = time.monotonic() + SOON_S
    while scheduler.stats().waiting != count:
        assert time.monotonic() < until_s, scheduler.stats()
        await asyncio.sleep(0.002)


def forget(gate: Gate) -> None:
    """What was called while the scheduler learnt."""
    gate.calls.clear()
    while gate.entered.acquire(blocking=False):
        pass
