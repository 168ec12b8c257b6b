"""A registry in a process of its own that sends SIGHUP to itself: a signal that nobody handles would end the tests."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from slimpath.service.reloading import reload_on_sighup
from slimpath.tests.service.registry.fakes import Opened


async def work(bundle: Path) -> None:
    opened = Opened()
    registry = opened.registry(bundle)
    await registry.start()
    remove = reload_on_sighup(registry)
    os.kill(os.getpid(), signal.SIGHUP)
    await _until(lambda: registry.counts()["tiny"] == (2, 0))

    def fail(folder: Path) -> None:
        raise OSError("broken")

    opened.before_open = fail
    os.kill(os.getpid(), signal.SIGHUP)
    await _until(lambda: registry.counts()["tiny"] == (2, 1))
    assert registry.ready() and registry.get().engine is opened.engines[1]

    await registry.close()
    os.kill(os.getpid(), signal.SIGHUP)  # while a server ends
    await asyncio.sleep(0.1)
    assert registry.counts()["tiny"] == (2, 1)
    remove()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
    print("reloaded once, refused once")


async def _until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0.005)


if __name__ == "__main__":
    asyncio.run(asyncio.wait_for(work(Path(sys.argv[1])), 60))
