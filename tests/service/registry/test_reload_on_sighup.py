"""SIGHUP reads the bundles again."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from pathlib import Path

import pytest

from slimpath.service.reloading import reload_on_sighup
from slimpath.tests.service.registry.fakes import Opened


@pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(), reason="signals reach the main thread alone"
)
def test_sighup_reloads_and_a_refused_reload_does_no_harm(bundle: Path) -> None:
    async def work() -> None:
        opened = Opened()
        registry = opened.registry(bundle)
        await registry.start()
        remove = reload_on_sighup(registry)
        try:
            os.kill(os.getpid(), signal.SIGHUP)
            while registry.counts()["tiny"] != (2, 0):
                await asyncio.sleep(0.005)

            def fail(folder: Path) -> None:
                raise OSError("broken")

            opened.before_open = fail
            os.kill(os.getpid(), signal.SIGHUP)
            while registry.counts()["tiny"] != (2, 1):
                await asyncio.sleep(0.005)
            assert registry.ready() and registry.get().engine is opened.engines[1]
        finally:
            remove()
        await registry.close()

    asyncio.run(asyncio.wait_for(work(), 60))


def test_outside_the_main_thread_nothing_is_done(bundle: Path) -> None:
    async def work() -> None:
        remove = reload_on_sighup(Opened().registry(bundle))
        remove()

    before = signal.getsignal(signal.SIGHUP)
    failures: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(work())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    assert not failures and signal.getsignal(signal.SIGHUP) is before
