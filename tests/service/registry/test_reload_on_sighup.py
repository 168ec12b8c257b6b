"""SIGHUP reads the bundles again."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from slimpath.service.reloading import reload_on_sighup
from slimpath.tests.service.registry.fakes import Opened


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP on this system")
def test_sighup_reloads_and_a_refused_reload_does_no_harm(bundle: Path) -> None:
    child = Path(__file__).with_name("sighup_child.py")
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-W", "error", str(child), str(bundle)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stderr}"
    assert done.stdout == "reloaded once, refused once\n"


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
