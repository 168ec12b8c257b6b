"""One served model: a bundle with its engine and its scheduler, who uses it at the moment, and what it has answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ..runtime.errors import SlimpathError
from ..runtime.tasks import TaskSpec
from .loading_thread import in_thread
from .scheduler.reserve import Reserve

if TYPE_CHECKING:
    from ..runtime.bundles.bundle import Bundle
    from ..runtime.engine import Engine
    from .scheduler.job import Job, Outcome

VERSION = "1"  # of every model: bundles are told apart by their digest, and only the newest is served
_Value = TypeVar("_Value")


class SchedulerLike(Protocol):
    """What is used of a Scheduler."""

    @property
    def ready(self) -> bool: ...

    def check(self, job: Job) -> None: ...

    async def submit(self, job: Job) -> Outcome: ...

    async def pool(self, function: Callable[..., _Value], *args: Any) -> _Value: ...

    def stats(self) -> Any: ...

    async def start(self) -> None: ...

    async def drain(self, timeout_s: float) -> Any: ...

    def close(self) -> None: ...


class Observer(Protocol):
    """Is told how each job ended: the statistics of /v2, the metrics."""

    def answered(self, model: Model, job: Job, outcome: Outcome, seconds: float) -> None: ...

    def failed(self, model: Model, job: Job, error: BaseException, seconds: float) -> None: ...


class Model:
    """A bundle that answers. Made by the registry; handlers get it with `ModelRegistry.use`.

    Args:
        name: as in URLs and labels; the registry checks it.
        observers: told about every job, whichever API it came from.
    """

    version = VERSION

    def __init__(self, name: str, engine: Engine, scheduler: SchedulerLike, observers: Sequence[Observer] = ()) -> None:
        self.name = name
        self.engine = engine
        self.scheduler = scheduler
        self.reserve = Reserve()
        self.opened_unix_s = time.time()
        self._observers = tuple(observers)
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @property
    def bundle(self) -> Bundle:
        return self.engine.bundle

    @property
    def tasks(self) -> dict[str, TaskSpec]:
        """The bundle's tasks by name."""
        return self.engine.tasks

    @property
    def backend(self) -> str:
        """The inference library, as labels and answers name it."""
        return self.engine.backend.name

    @property
    def ready(self) -> bool:
        """Whether it answers: False while a runner hangs, and once it is retired."""
        return self.scheduler.ready

    def check(self, job: Job) -> None:
        """Refuse what `submit` would refuse, before the image is decoded. Counted as a refusal.

        Raises:
            SlimpathError: as `submit`.
        """
        try:
            self.scheduler.check(job)
        except SlimpathError as error:
            self._tell_failed(job, error, 0.0)
            raise

    async def submit(self, job: Job) -> Outcome:
        """Have the scheduler answer a job. This, not `scheduler.submit`, is what statistics and metrics see.

        Raises:
            SlimpathError: Refused, Late, Unavailable of the scheduler, or what the engine said.
        """
        started_s = time.monotonic()
        try:
            outcome = await self.scheduler.submit(job)
        except BaseException as error:  # a cancelled request counts too; it is told, and goes on
            self._tell_failed(job, error, time.monotonic() - started_s)
            raise
        seconds = time.monotonic() - started_s
        for observer in self._observers:
            observer.answered(self, job, outcome, seconds)
        return outcome

    def _tell_failed(self, job: Job, error: BaseException, seconds: float) -> None:
        for observer in self._observers:
            observer.failed(self, job, error, seconds)

    @asynccontextmanager
    async def used(self) -> AsyncIterator[Model]:
        """Keep it open for the time of a request, also if another takes its place meanwhile."""
        self._users += 1
        self._unused.clear()
        try:
            yield self
        finally:
            self._users -= 1
            if self._users == 0:
                self._unused.set()

    async def retire(self, drain_timeout_s: float) -> None:
        """Answer what was accepted, then free everything. New requests no longer reach it."""
        deadline_s = time.monotonic() + drain_timeout_s
        with suppress(asyncio.TimeoutError):  # those who are left are told that it closes
            await asyncio.wait_for(self._unused.wait(), drain_timeout_s)
        try:
            await self.scheduler.drain(max(deadline_s - time.monotonic(), 0.0))
        finally:
            await in_thread(self._close)  # a runner that hangs is waited for

    def _close(self) -> None:
        try:
            self.scheduler.close()
        finally:
            self.engine.close()
