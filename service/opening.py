"""A folder becomes an engine that is ready to answer: opened, guarded against changes of its files, warmed."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.backends import make_backend
from ..runtime.backends.base import Backend, Session, Tier
from ..runtime.bundles.bundle import Bundle
from ..runtime.bundles.weights import file_identity
from ..runtime.cpus import usable_cpus
from ..runtime.engine import Engine
from ..runtime.errors import BackendError, SlimpathError
from .malloc import opening_a_model

if TYPE_CHECKING:
    from ..runtime.packs.pack import Pack
    from .settings import Settings

_log = logging.getLogger("slimpath.service.opening")
WARM_POINTS = 20  # of the planner's curve: as many plans as a budget can tell apart


class GuardedBackend:
    """A backend that loads graphs only while the bundle's weights are the file that was opened.

    A served bundle is replaced by another in the same place. The engine that still serves the old one may load a graph
    after that: it would read the new weights with the old graph, and be silently wrong.

    Args:
        backend: the one that does the work; everything else of it shows through.
        weights: the file to watch, as it is now.
    """

    def __init__(self, backend: Backend, weights: Path) -> None:
        self._backend = backend
        self._weights = weights
        self._opened = file_identity(weights)

    def load(self, graph: bytes, folder: Path, *, tier: Tier = "packed") -> Session:
        """See `Backend.load`.

        Raises:
            BackendError: the weights are not those that were opened.
        """
        self._check()
        session = self._backend.load(graph, folder, tier=tier)
        try:
            self._check()  # they may have been replaced while they were read
        except BackendError:
            session.close()
            raise
        return session

    def _check(self) -> None:
        if file_identity(self._weights) != self._opened:
            raise BackendError("the bundle's files were replaced after it was opened", hint="reload the model")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)


def threads_of(settings: Settings) -> int:
    """Those that each engine call has."""
    return settings.engine.threads or max(1, usable_cpus() // (settings.scheduler.runners or 1))


def open_engine(folder: Path, settings: Settings) -> Engine:
    """Open a bundle and load its graphs. Blocks for as long as that takes: seconds, with "auto" up to a minute.

    Raises:
        SlimpathError: the bundle, the backend or a graph cannot be used; nothing stays open.
    """
    with opening_a_model():
        return _open_engine(folder, settings)


def _open_engine(folder: Path, settings: Settings) -> Engine:
    bundle = Bundle.open(folder)
    precision = settings.engine.precision
    backend = make_backend(settings.engine.backend, threads=threads_of(settings), precision=precision, bundle=bundle)
    guarded: Any = GuardedBackend(backend, bundle.path / bundle.manifest.weights.file)
    engine = Engine.load(
        bundle,
        backend=guarded,
        memory_limit_mb=settings.engine.memory_limit_mb,
        max_pixels=settings.limits.max_image_mp * 1e6,
        max_output_pixels=settings.limits.max_output_mp * 1e6,
        packs=_packs_for(bundle, settings),
    )
    try:
        warm_engine(engine, settings.engine.warm)
    except BaseException:
        engine.close()
        raise
    return engine


def _packs_for(bundle: Bundle, settings: Settings) -> list[Pack]:
    """The packs of the settings; where several bundles are served, those that were trained for this one."""
    if not settings.engine.packs:
        return []
    from ..runtime.packs.manifest import base_sha256
    from ..runtime.packs.pack import Pack

    packs = [Pack.open(path) for path in settings.engine.packs]
    if len(settings.bundles) < 2:
        return packs  # one that does not fit is refused, and says why
    wanted = base_sha256(bundle.manifest)
    for pack in packs:
        if pack.manifest.base.sha256 != wanted:
            _log.warning("%s is for another bundle than %s: its task is not served there", pack.path, bundle.path)
    return [pack for pack in packs if pack.manifest.base.sha256 == wanted]


def warm_engine(engine: Engine, what: str) -> None:
    """Load graphs so that no request waits for one.

    Args:
        what: "plans": those that a budget can choose, in the tier that they end in, then the rest as far as the memory
            limit allows; "full": the full plan alone.
    """
    if what == "full":
        engine.warm(None, [None])
        return
    engine.warm(None, engine.curve(points=WARM_POINTS))
    engine.warm()


def public_message(error: BaseException, folder: Path, name: str) -> str:
    """What went wrong with a bundle, in one line for whoever calls over the network: its name where its path was."""
    text = str(error) if isinstance(error, SlimpathError) else f"internal error ({type(error).__name__})"
    for path in sorted({str(folder), os.path.abspath(folder), os.path.realpath(folder)}, key=len, reverse=True):
        text = text.replace(path, name)
    return " ".join(text.split())
