"""Threads that outlive what they were started for, and are used again.

Libraries keep something for every thread that ever called them: OpenCV 5.0 0.9 KB, for its trace. A model that is
loaded anew comes with new runners, a new pool and a new opening. With threads of their own each time that adds up, and
comes to lie between everything else: 8 MB after 500 reloads of the bundled model.
"""

from __future__ import annotations

import atexit
import math
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeVar
from weakref import WeakSet

_Value = TypeVar("_Value")
LAST_CALLS_S = 5.0  # that the end of the process waits for calls at work: their library may hang
_IDLE = "idle thread of slimpath"
_idle: list[_Lasting] = []
_executors: WeakSet[LastingExecutor] = WeakSet()
_lock = threading.Lock()


class Running:
    """What a thread does for now."""

    def __init__(self) -> None:
        self._ended = threading.Event()

    def end(self) -> None:
        self._ended.set()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for its end, for so long; False if it has not come."""
        return self._ended.wait(timeout_s)


def start_thread(work: Callable[[], object], name: str) -> Running:
    """Have a thread do `work()`, one that has nothing to do if there is any. It does not keep the process alive."""
    running = Running()
    with _lock:
        thread = _idle.pop() if _idle else None
    if thread is None:
        thread = _Lasting()
        thread.start()
    thread.give(name, work, running)
    return running


class _Lasting(threading.Thread):
    """Does one thing after another."""

    def __init__(self) -> None:
        super().__init__(name=_IDLE, daemon=True)
        self._given: SimpleQueue[tuple[str, Callable[[], object], Running]] = SimpleQueue()

    def give(self, name: str, work: Callable[[], object], running: Running) -> None:
        self._given.put((name, work, running))

    def run(self) -> None:
        while True:
            self.name, work, running = self._given.get()
            try:
                work()
            except BaseException:
                threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), self)))
            finally:
                del work  # and what it holds, an engine perhaps
                self.name = _IDLE
                with _lock:
                    _idle.append(self)
                running.end()


class LastingExecutor(Executor):
    """As `ThreadPoolExecutor`, of threads that are used again after the shutdown. The end of the process waits
    `LAST_CALLS_S` for the calls at work: a library that comes back to an interpreter that has gone would abort it.

    Args:
        threads: at most; started as calls come.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._most, self._name = threads, name
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._running: list[Running] = []
        self._lock = threading.Lock()
        self._closed = False
        with _lock:
            _executors.add(self)

    def submit(self, fn: Callable[..., _Value], /, *args: Any, **kwargs: Any) -> Future[_Value]:
        """See `Executor.submit`.

        Raises:
            RuntimeError: it was shut down.
        """
        future: Future[_Value] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("no calls are taken after the shutdown")
            self._calls.put((future, partial(fn, *args, **kwargs)))
            if len(self._running) < self._most:
                self._running.append(start_thread(self._work, f"{self._name}-{len(self._running)}"))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See `Executor.shutdown`."""
        with self._lock:
            self._closed = True
            if cancel_futures:
                self._cancel()
            for _ in self._running:
                self._calls.put(None)
        if wait:
            self.join()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait, once it is shut down, for the calls at work, for so long in all; False if some have not ended."""
        until_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
        ended = [running.join(_left_s(until_s)) for running in self._running]
        return all(ended)

    def _cancel(self) -> None:
        try:
            while (call := self._calls.get_nowait()) is not None:
                call[0].cancel()
        except Empty:
            return

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            future, function = call
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function())
                except BaseException as error:
                    future.set_exception(error)
            del call, future, function  # the images of the last call need not wait for the next


def _left_s(until_s: float) -> float | None:
    return None if math.isinf(until_s) else max(until_s - time.monotonic(), 0.0)


@atexit.register
def _end_calls() -> None:
    with _lock:
        executors = list(_executors)
    for executor in executors:
        executor.shutdown(wait=False, cancel_futures=True)
    until_s = time.monotonic() + LAST_CALLS_S
    for executor in executors:
        executor.join(_left_s(until_s))
