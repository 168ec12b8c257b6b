"""Where the engine's own time goes, and what changes it: a part of overhead.py.

The same calls with sessions that answer at once what they answered before, so that the engine's code is all that runs:
with its data still in the caches, and with the caches emptied between two sessions, as a real run leaves them.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from overhead_sessions import TimedBackend, TimedSession, overheads_ms

from slimpath.runtime import Bundle, Engine
from slimpath.runtime.backends import ort as ort_backend
from slimpath.runtime.backends.base import Session, Tier

Medians = dict[str, dict[str, list[float]]]
_LARGE = np.zeros(24_000_000, np.uint8)  # larger than the second level of any cache here


class Kept(TimedSession):
    """Its answers outlive the call, so that nothing is freed within it."""

    answers: ClassVar[list[dict[str, np.ndarray]]] = []

    def run(self, feeds: Mapping[str, np.ndarray], *, shrink: bool = False) -> dict[str, np.ndarray]:
        outputs = super().run(feeds, shrink=shrink)
        started = time.perf_counter()
        self.answers.append(outputs)
        if len(self.answers) > 400:
            del self.answers[:200]
        self._backend.spent_s += time.perf_counter() - started
        return outputs


class Replayed(TimedSession):
    """Answers what it answered to inputs of the same shapes before."""

    emptied = False

    def __init__(self, session: Session, backend: TimedBackend) -> None:
        super().__init__(session, backend)
        self._known: dict[Any, dict[str, np.ndarray]] = {}

    def run(self, feeds: Mapping[str, np.ndarray], *, shrink: bool = False) -> dict[str, np.ndarray]:
        shapes = tuple(value.shape for value in feeds.values())
        if shapes not in self._known:
            self._known[shapes] = super().run(feeds, shrink=shrink)
        if self.emptied:
            started = time.perf_counter()
            _LARGE[::64] += 1
            self._backend.spent_s += time.perf_counter() - started
        return dict(self._known[shapes])


class Emptied(Replayed):
    """The same after its data were driven out of the caches."""

    emptied = True


class Wrapping(TimedBackend):
    """Sessions of another kind."""

    def __init__(self, kind: type[TimedSession], threads: int | None = None) -> None:
        super().__init__(threads=threads)
        self._kind = kind

    def load(self, graph: bytes, folder: Path, *, tier: Tier = "packed") -> TimedSession:
        return self._kind(self.plain(graph, folder, tier), self)


def where(bundle: Bundle, repeats: int, runs: int) -> tuple[list[list[str]], Medians]:
    """Rows of the table, and the medians of every repeat in ms, by way and by call."""
    names = list(bundle.manifest.task_names)
    ways: dict[str, tuple[Engine, TimedBackend, Callable[[], Any]]] = {}

    def add(name: str, backend: TimedBackend, around: Callable[[], Any] = nullcontext) -> None:
        ways[name] = Engine(bundle, backend, tier="packed"), backend, around
        ways[name][0](np.zeros((480, 640, 3), np.uint8), names)  # loads its sessions now

    add("as it is", TimedBackend())
    add("garbage collection off", TimedBackend(), _uncollected)
    add("answers kept: nothing is freed within the call", Wrapping(Kept))
    add("sessions of one thread", Wrapping(TimedSession, threads=1))
    usual, ort_backend._spinning = ort_backend._spinning, lambda version: {"session.intra_op.allow_spinning": "0"}
    add("threads that do not spin", TimedBackend())
    ort_backend._spinning = usual
    add("sessions answer at once, caches emptied between them", Wrapping(Emptied))
    add("sessions answer at once", Wrapping(Replayed))

    found: Medians = {name: {"one task": [], "all tasks": []} for name in ways}
    for _ in range(repeats):
        for name, (engine, backend, around) in ways.items():
            with around():
                for call, tasks in (("one task", names[:1]), ("all tasks", names)):
                    found[name][call].append(float(np.median(overheads_ms(engine, backend, tasks, None, runs))))
    rows = [[name, *(f"{np.median(values):.2f}" for values in calls.values())] for name, calls in found.items()]
    return rows, found


@contextmanager
def _uncollected() -> Any:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
