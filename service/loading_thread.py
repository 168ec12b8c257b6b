"""Long work beside the event loop."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from ..runtime.footprint.memory import release_free_memory
from .lasting_threads import start_thread

M_ARENA_MAX = -8  # of <malloc.h>
_Value = TypeVar("_Value")


async def in_thread(work: Callable[[], _Value], discard: Callable[[_Value], object] = lambda value: None) -> _Value:
    """`work()` in a thread that does nothing else meanwhile. If it hangs, neither a pool nor the process hangs with it.

    Args:
        discard: is given the value if whoever waited for it has gone meanwhile.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_Value] = loop.create_future()

    def fail(error: BaseException) -> None:
        if not future.done():
            future.set_exception(error)

    def succeed(value: _Value) -> None:
        if future.done():
            discard(value)
        else:
            future.set_result(value)

    def run() -> None:
        try:
            value = work()
        except BaseException as error:
            _in_loop(loop, partial(fail, error), lambda: None)
        else:
            _in_loop(loop, partial(succeed, value), partial(discard, value))

    start_thread(run, "slimpath-load")
    return await future


def _in_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], object], otherwise: Callable[[], object]) -> None:
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:  # the event loop has ended
        otherwise()


def give_memory_back() -> None:
    gc.collect()  # sessions and pictures may hang in cycles
    release_free_memory()


def keep_arenas_few() -> None:
    """Tell glibc's malloc to share two arenas among all threads; call it before there are threads.

    By default each new thread may get an arena of its own, and what a model's threads leave behind in theirs is only
    used again by chance: after 150 unloads and loads of a tiny bundle the process held 19 MB more, with two arenas 2 MB
    (x86, 2 cores; 3 MB after 300). Large buffers do not come from arenas: nobody waits for a lock that matters.
    """
    if os.name != "posix":
        return
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc; musl has none
    if set_option is not None:
        set_option(M_ARENA_MAX, 2)
