"""Threads are used again: what was started ends and is told, and libraries see no new thread."""

from __future__ import annotations

import gc
import platform
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import CancelledError
from typing import Any

import pytest

from slimpath.service import lasting_threads
from slimpath.service.lasting_threads import LastingExecutor, start_thread

SOON_S = 20.0


@pytest.fixture(autouse=True)
def no_idle_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of other tests: one may come back in between."""
    monkeypatch.setattr(lasting_threads, "_idle", [])


class Engine:
    """Something that must not outlive its use."""


def test_a_thread_that_has_ended_its_work_does_the_next() -> None:
    seen: list[int] = []
    for _ in range(5):
        assert start_thread(lambda: seen.append(threading.get_ident()), "one").join(SOON_S)
    assert len(set(seen)) == 1


def test_work_at_the_same_time_has_threads_of_its_own_and_its_name() -> None:
    both = threading.Barrier(2, timeout=SOON_S)
    names: set[str] = set()

    def work() -> None:
        names.add(threading.current_thread().name)
        both.wait()

    running = [start_thread(work, f"number {number}") for number in range(2)]
    assert all(each.join(SOON_S) for each in running)
    assert names == {"number 0", "number 1"}


def test_what_hangs_is_not_waited_for_and_its_thread_not_used() -> None:
    release, seen = threading.Event(), list[int]()
    hangs = start_thread(lambda: (seen.append(threading.get_ident()), release.wait(SOON_S)), "hangs")
    assert not hangs.join(0.05)
    assert start_thread(lambda: seen.append(threading.get_ident()), "next").join(SOON_S)
    assert len(set(seen)) == 2
    release.set()
    assert hangs.join(SOON_S)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_is_reported_and_the_thread_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    assert start_thread(lambda: 1 // 0, "fails").join(SOON_S)
    assert told[0].exc_type is ZeroDivisionError
    assert start_thread(lambda: None, "next").join(SOON_S)


def test_an_idle_thread_keeps_nothing_of_what_it_did() -> None:
    engine = Engine()
    seen = weakref.ref(engine)
    assert start_thread(lambda engine=engine: None, "one").join(SOON_S)
    del engine
    gc.collect()
    assert seen() is None


def test_an_executor_keeps_nothing_of_its_last_call() -> None:
    executor, engine = LastingExecutor(1, "pool"), Engine()
    seen = weakref.ref(engine)
    assert executor.submit(id, engine).result(SOON_S) == id(engine)
    del engine
    until_s = time.monotonic() + SOON_S  # the result is there a moment before the thread lets go
    while seen() is not None and time.monotonic() < until_s:
        gc.collect()
    assert seen() is None
    executor.shutdown()


def test_an_executor_answers_raises_and_cancels_as_those_of_the_standard_library() -> None:
    executor, release = LastingExecutor(1, "pool"), threading.Event()
    assert executor.submit(max, 3, 7).result(SOON_S) == 7
    with pytest.raises(ZeroDivisionError):
        executor.submit(lambda: 1 // 0).result(SOON_S)
    at_work, waits = executor.submit(release.wait, SOON_S), executor.submit(max, 1, 2)
    while not at_work.running():
        pass
    executor.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(CancelledError):
        waits.result(SOON_S)
    with pytest.raises(RuntimeError):
        executor.submit(max, 1, 2)
    release.set()
    assert at_work.result(SOON_S)
    executor.shutdown()  # a second time, and waiting


def test_an_executor_has_as_many_threads_as_it_may_and_no_more() -> None:
    executor, seen = LastingExecutor(2, "pool"), set[int]()
    both = threading.Barrier(2, timeout=SOON_S)

    def work() -> None:
        seen.add(threading.get_ident())
        both.wait()

    for call in [executor.submit(work) for _ in range(6)]:
        call.result(SOON_S)
    assert len(seen) == 2
    executor.shutdown()


AT_THE_END = """
import sys, threading
from slimpath.service import lasting_threads

lasting_threads.LAST_CALLS_S = float(sys.argv[1])
executor, begun = lasting_threads.LastingExecutor(1, "pool"), threading.Event()

def work():
    begun.set()
    if sys.argv[2] == "hangs":
        threading.Event().wait()
    threading.Event().wait(0.5)
    print("done", flush=True)

executor.submit(work)
begun.wait()
"""


@pytest.mark.parametrize(("limit_s", "what", "said"), [("20", "ends", "done"), ("0.2", "hangs", "")])
def test_the_end_of_the_process_waits_for_calls_that_end_and_not_for_ever(limit_s: str, what: str, said: str) -> None:
    command = [sys.executable, "-c", AT_THE_END, limit_s, what]
    run = subprocess.run(command, capture_output=True, text=True, timeout=99)
    assert (run.returncode, run.stdout.strip()) == (0, said), run.stderr


DECODING = """
import ctypes
from slimpath.service.images import decode_image, limit_opencv
from slimpath.service.lasting_threads import LastingExecutor
from slimpath.service.loadtest.picture import made_up_photograph
from slimpath.service.settings import LimitSettings

class Figures(ctypes.Structure):  # of mallinfo2(3)
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

mallinfo2 = ctypes.CDLL(None).mallinfo2  # from glibc 2.33 on
mallinfo2.restype = Figures

def in_use():
    return mallinfo2().uordblks

def decode(pools):
    for _ in range(pools):
        executor = LastingExecutor(1, "pool")
        executor.submit(decode_image, data, limits, plane_hw=(64, 64)).result()
        executor.shutdown()

limit_opencv(2)
data, limits = made_up_photograph(), LimitSettings()
decode(20)
before = in_use()
decode(200)
print(in_use() - before)
"""


@pytest.mark.skipif(sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="glibc tells what is in use")
def test_pool_after_pool_decodes_and_nothing_adds_up() -> None:
    run = subprocess.run([sys.executable, "-c", DECODING], capture_output=True, text=True, check=True, timeout=120)
    assert int(run.stdout) < 40_000  # 170,000 where every pool has threads of its own
