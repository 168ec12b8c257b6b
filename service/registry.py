"""Which models are served: loading, hot reload, unloading, and whether all of them are ready.

A reload is atomic: the old engine answers until the new one is open and warm; one that cannot be opened is refused, and
the old one stays. A model that is replaced or unloaded first answers what it has accepted. States are those of the Open
Inference Protocol's repository index.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.bundles.bundled import bundled_path
from .kept_tasks import KeptTasks
from .loading_thread import give_memory_back, in_thread
from .metrics import Metrics
from .model import VERSION, Model, Observer, SchedulerLike
from .model_errors import LoadFailed, NotReady, UnknownModel
from .opening import open_engine, public_message
from .scheduler import Scheduler
from .slots import IndexEntry, Slot
from .sources import name_and_folder, shown
from .tracing import Tracer, make_tracer

if TYPE_CHECKING:
    from ..runtime.engine import Engine
    from .settings import Settings

_log = logging.getLogger("slimpath.service.registry")


class ModelRegistry:
    """The models of a server. All methods belong to the event loop's thread.

    Args:
        sources: bundle folders, or NAME=FOLDER; none for the bundled model. Without a name it is the manifest's.
        open_model: folder -> engine, open and warm; runs in a thread of its own.
        make_scheduler: (model's name, engine) -> scheduler, not yet started.
        observers: told about every job of every model, besides the registry's own `metrics`.
        drain_timeout_s: that accepted requests of a replaced or unloaded model have.

    Raises:
        LoadFailed: a source without a usable name, or two of the same name.
    """

    def __init__(
        self,
        sources: Iterable[str | os.PathLike[str]],
        *,
        open_model: Callable[[Path], Engine],
        make_scheduler: Callable[[str, Engine], SchedulerLike],
        observers: Sequence[Observer] = (),
        drain_timeout_s: float = 30.0,
    ) -> None:
        self._open_model = open_model
        self._make_scheduler = make_scheduler
        self.metrics = Metrics()
        self.metrics.watch(self)
        self.tracer: Tracer | None = None
        self._observers = (self.metrics, *observers)
        self._drain_timeout_s = drain_timeout_s
        self._slots: dict[str, Slot] = {}
        self._default: str | None = None
        self._started = False
        self._closing = self._leaving = False
        self._changes, self._retiring = KeptTasks(), KeptTasks()
        for source in list(sources) or [bundled_path()]:
            self.add(source)

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        make_scheduler: Callable[[str, Engine], SchedulerLike] | None = None,
        observers: Sequence[Observer] = (),
    ) -> ModelRegistry:
        """The registry that a server with these settings has.

        Args:
            make_scheduler: None for the usual ones, which report to `metrics`.

        Raises:
            LoadFailed, BundleError: a source that cannot be named. SettingsError: traces without OpenTelemetry.
        """
        tracer = make_tracer(settings.log.traces)
        registry = cls(
            settings.bundles,
            open_model=lambda folder: open_engine(folder, settings),
            make_scheduler=make_scheduler or (lambda name, engine: registry._schedule(name, engine, settings)),
            observers=(*observers, *(() if tracer is None else (tracer,))),
            drain_timeout_s=settings.server.drain_s,
        )
        registry.tracer = tracer
        return registry

    def _schedule(self, name: str, engine: Engine, settings: Settings) -> SchedulerLike:
        return Scheduler(engine, settings.scheduler, metrics=self.metrics.of_scheduler(name))

    # --- what handlers ask ----------------------------------------------------------------------------------------

    def get(self, name: str | None = None) -> Model:
        """The model of that name, None for the first one. Within a request take `use` instead.

        Raises:
            UnknownModel: there is none.
            NotReady: it is loading, unloaded, or the server is closing.
        """
        slot = self._slot(self._default if name is None else name)
        if slot.model is None or self._closing:
            reason = "the server is shutting down" if self._closing else slot.reason
            raise NotReady(f"model {slot.name!r} is not ready: {reason}")
        return slot.model

    @asynccontextmanager
    async def use(self, name: str | None = None) -> AsyncIterator[Model]:
        """The model for the time of a request: it stays open until the request is answered, also through a reload.

        Raises:
            UnknownModel, NotReady: as `get`.
        """
        async with self.get(name).used() as model:
            yield model

    def models(self) -> list[Model]:
        """Those that answer now, in the order in which they were named."""
        return [slot.model for slot in self._slots.values() if slot.model is not None]

    def index(self) -> list[IndexEntry]:
        """Every name, loaded or not."""
        return [IndexEntry(slot.name, VERSION, slot.state, slot.reason) for slot in self._slots.values()]

    def ready(self) -> bool:
        """Whether every model that was not unloaded on purpose can answer."""
        wanted = [slot for slot in self._slots.values() if slot.wanted]
        return (
            self._started
            and not self._leaving
            and not self._closing
            and all(slot.model is not None and slot.model.ready for slot in wanted)
        )

    def counts(self) -> dict[str, tuple[int, int]]:
        """Name -> (loads that succeeded, loads that were refused)."""
        return {slot.name: (slot.loads, slot.refusals) for slot in self._slots.values()}

    def stop_being_ready(self) -> None:
        """Say from now on that the server is not ready, so that balancers look elsewhere; requests are still answered
        until `close`."""
        self._leaving = True

    # --- what changes them ----------------------------------------------------------------------------------------

    def add(self, source: str | os.PathLike[str]) -> str:
        """Name a bundle that may be loaded; returns its name.

        Raises:
            LoadFailed: no usable name, or one that is taken.
        """
        name, folder = name_and_folder(source)
        if name in self._slots:
            raise LoadFailed(f"two models are called {name!r}", hint="name one of them: OTHER=FOLDER")
        self._slots[name] = Slot(name, folder)
        self._default = self._default or name
        return name

    async def start(self) -> None:
        """Open and warm every model, one after the other; then the server is ready.

        Raises:
            LoadFailed: one cannot be opened.
        """
        for name in list(self._slots):
            await self.load(name)
        self._started = True

    async def load(self, name: str | os.PathLike[str]) -> Model:
        """Load a model by its name, or add a bundle by its path (of a `Path`) and load it. One that is loaded already
        is read again, and replaced once the new one is warm.

        Raises:
            UnknownModel: no such name.
            LoadFailed: the bundle cannot be used; what served before still does.
            NotReady: the server is shutting down.
        """
        slot = self._slot(name if isinstance(name, str) else self.add(name))
        # In a task of its own: a caller that hangs up does not leave a model half loaded.
        await self._changes.finish(self._load(slot))
        return self.get(slot.name)

    async def reload(self, name: str | None = None) -> list[Model]:
        """Read one model again, or all that are wanted. Those that cannot be opened keep their old engine.

        Raises:
            UnknownModel: no such name.
            LoadFailed: at least one was refused; the others were reloaded.
        """
        names = [slot.name for slot in self._slots.values() if slot.wanted] if name is None else [name]
        models: list[Model] = []
        refused: list[LoadFailed] = []
        for each in names:
            try:
                models.append(await self.load(each))
            except LoadFailed as error:
                refused.append(error)
        if refused:
            raise LoadFailed("; ".join(error.message for error in refused))
        return models

    async def unload(self, name: str) -> None:
        """Stop serving a model, once it has answered what it accepted. It may be loaded again by its name.

        Raises:
            UnknownModel: no such name.
        """
        await self._changes.finish(self._unload(self._slot(name)))

    async def close(self, drain_timeout_s: float | None = None) -> None:
        """Accept nothing more, answer what was accepted, free everything. A second call does nothing."""
        self._closing = True
        timeout_s = self._drain_timeout_s if drain_timeout_s is None else drain_timeout_s
        models = self.models()
        for slot in self._slots.values():
            slot.state, slot.reason = "UNAVAILABLE", "the server is shutting down"
        self._changes.cancel()
        retiring = [*(model.retire(timeout_s) for model in models), *self._retiring]
        await asyncio.gather(*retiring, return_exceptions=True)
        for slot in self._slots.values():
            slot.model = None
        if self.tracer is not None:
            await in_thread(self.tracer.close)

    # --- inside ---------------------------------------------------------------------------------------------------

    def _slot(self, name: str | None) -> Slot:
        slot = self._slots.get(name or "")
        if slot is None:
            raise UnknownModel(f"unknown model {shown(name)}", hint=f"this server has {', '.join(self._slots)}")
        return slot

    async def _load(self, slot: Slot) -> None:
        async with slot.lock:
            old = slot.model
            if self._closing:
                raise NotReady("the server is shutting down")
            if old is None:
                slot.state, slot.reason = "LOADING", "loading"
            started_s = time.monotonic()
            try:
                model = await self._open(slot)
            except Exception as error:  # whatever a broken bundle makes a library raise, the old one keeps serving
                message = public_message(error, slot.folder, slot.name)
                slot.refusals += 1
                slot.state, slot.reason = ("READY" if old else "UNAVAILABLE"), message
                _log.error("load refused", extra={"model": slot.name, "reason": str(error), "kept": old is not None})
                raise LoadFailed(f"model {slot.name!r} was not loaded: {message}") from error
            slot.model, slot.state, slot.reason, slot.wanted = model, "READY", "", True
            slot.loads += 1
            seconds = round(time.monotonic() - started_s, 3)
            _log.info("model ready", extra={"model": slot.name, "seconds": seconds, "digest": model.bundle.digest[:12]})
        if old is not None:  # the new one serves: nobody has to wait for what the old one still answers
            self._retiring.start(self._retire(old))

    async def _open(self, slot: Slot) -> Model:
        engine = await in_thread(lambda: self._open_model(slot.folder), _close)
        scheduler = None
        try:
            scheduler = self._make_scheduler(slot.name, engine)
            await scheduler.start()
        except BaseException:
            await asyncio.shield(in_thread(partial(_close, engine, scheduler)))  # they may wait for what runs
            raise
        model = Model(slot.name, engine, scheduler, self._observers)
        if self._closing:
            await model.retire(0.0)
            raise NotReady("the server is shutting down")
        return model

    async def _unload(self, slot: Slot) -> None:
        async with slot.lock:
            model, slot.model, slot.wanted = slot.model, None, False
            if model is not None:
                slot.state, slot.reason = "UNLOADING", "unloading"
                await self._retire(model)
            slot.state, slot.reason = "UNAVAILABLE", "unloaded"
            _log.info("model unloaded", extra={"model": slot.name})

    async def _retire(self, model: Model) -> None:
        try:
            await model.retire(self._drain_timeout_s)
        except Exception:
            _log.exception("a replaced model could not be closed", extra={"model": model.name})
        await in_thread(give_memory_back)


def _close(engine: Engine, scheduler: SchedulerLike | None = None) -> None:
    try:
        if scheduler is not None:
            scheduler.close()
    finally:
        engine.close()
