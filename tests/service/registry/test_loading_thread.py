"""Long work beside the event loop, and what threads leave behind in memory."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from slimpath.service.loading_thread import in_thread

COUNT_ARENAS = """
import ctypes, os, re, sys, threading
from slimpath.service.loading_thread import keep_arenas_few

if sys.argv[1] == "few":
    keep_arenas_few()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fdopen.restype = ctypes.c_void_p
together = threading.Barrier(8)

def allocate():
    together.wait()
    libc.malloc(1000)
    together.wait()

threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
read, write = os.pipe()
stream = ctypes.c_void_p(libc.fdopen(write, b"w"))
libc.malloc_info(0, stream)
libc.fclose(stream)
with os.fdopen(read) as pages:
    print(len(re.findall("<heap ", pages.read())))
"""


def arenas(how_many: str) -> int:
    command = [sys.executable, "-c", COUNT_ARENAS, how_many]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_threads_share_two_arenas() -> None:
    assert arenas("many") > 2
    assert arenas("few") <= 2


def test_what_the_work_raises_reaches_whoever_waits() -> None:
    def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        asyncio.run(in_thread(fail))


def test_the_event_loop_goes_on_meanwhile() -> None:
    async def work() -> str:
        go_on = threading.Event()
        waiting = asyncio.ensure_future(in_thread(lambda: "done" if go_on.wait(30) else "late"))
        await asyncio.sleep(0.01)
        go_on.set()
        return await waiting

    assert asyncio.run(asyncio.wait_for(work(), 60)) == "done"


def test_a_value_that_nobody_waits_for_any_more_is_discarded() -> None:
    discarded: list[int] = []

    async def work() -> None:
        go_on = threading.Event()

        def make() -> int:
            assert go_on.wait(30)
            return 7

        waiting = asyncio.ensure_future(in_thread(make, discarded.append))
        await asyncio.sleep(0.01)
        waiting.cancel()
        go_on.set()
        while not discarded:
            await asyncio.sleep(0.005)

    asyncio.run(asyncio.wait_for(work(), 60))
    assert discarded == [7]


def test_a_value_that_comes_after_the_event_loop_has_ended_is_discarded() -> None:
    discarded, go_on, done = list[int](), threading.Event(), threading.Event()

    def make() -> int:
        assert go_on.wait(30)
        return 7

    def discard(value: int) -> None:
        discarded.append(value)
        done.set()

    async def work() -> None:
        waiting = asyncio.ensure_future(in_thread(make, discard))
        await asyncio.sleep(0.01)
        waiting.cancel()

    asyncio.run(work())
    go_on.set()
    assert done.wait(30) and discarded == [7]
