"""What an engine is made of: its sessions with their memory limit, its profile, its views."""

from __future__ import annotations

import math
import weakref
from typing import TYPE_CHECKING

from ..backends.base import Backend, Tier, graph_precisions, offered_encoders
from ..bundles.bundle import Bundle
from ..errors import BudgetError, ProfileError
from ..footprint.memory_model import MemoryModel, process_mb
from ..planning.planner import Planner
from .answering import Answerer
from .choosing import Chooser
from .controller import Controller
from .preparing import PixelLimits
from .sessions import SessionPool
from .tiers import TierRequest
from .views import View, Views

if TYPE_CHECKING:
    from ..engine import Engine
    from ..health.watch import Watch
    from ..profiling.profile import Profile


def open_sessions(
    bundle: Bundle, backend: Backend, tier: TierRequest, memory_limit_mb: float | None
) -> tuple[SessionPool, MemoryModel]:
    """An empty pool, and what its sessions are expected to hold.

    Raises:
        BudgetError: the limit is not a number of MB.
        BackendError: with a limit a first graph is loaded, so that the library counts; it cannot be.
    """
    base_mb = 0.0
    if memory_limit_mb is not None:
        if isinstance(memory_limit_mb, bool) or not (math.isfinite(memory_limit_mb) and memory_limit_mb > 0):
            raise BudgetError(f"memory_limit_mb must be above 0, got {memory_limit_mb!r}", hint="for example 512")
        smallest = min(bundle.manifest.graphs, key=lambda graph: graph.weight_bytes)
        backend.load(bundle.graph_bytes(smallest), bundle.path, tier="mapped").close()
        base_mb = process_mb()
    model = MemoryModel(bundle.manifest, base_mb)
    pool = SessionPool(bundle, backend, tier=tier, starter=_starter(backend), model=model, limit_mb=memory_limit_mb)
    return pool, model


def _starter(backend: Backend) -> Backend | None:
    """What answers at once while `backend` takes a second to compile a graph; only where it computes the same."""
    if not getattr(backend, "loads_slowly", False) or backend.precision != "fp32":
        return None
    from ..backends.ort import OrtBackend

    return OrtBackend(threads=backend.threads or None)


def open_views(
    bundle: Bundle,
    backend: Backend,
    sessions: SessionPool,
    model: MemoryModel,
    *,
    profile: Profile | None,
    memory_limit_mb: float | None,
    limits: PixelLimits,
) -> Views:
    """A bundle's views, with packs or without: all of them share the sessions, the limits and the controller."""
    controller = None if profile is None else Controller(headroom=profile.headroom)
    encoders = offered_encoders(backend, bundle)

    def make_view(seen: Bundle) -> View:
        planner = Planner(
            seen.manifest,
            profile if profile is None or seen is bundle else profile.of(seen.manifest),
            precisions=graph_precisions(backend),
            encoders=encoders,
        )
        chooser = Chooser(planner, controller, model, memory_limit_mb)
        return View(seen, planner, chooser, Answerer(seen, sessions, chooser, limits))

    return Views(bundle, make_view, sessions)


def open_profile(bundle: Bundle, backend: Backend, tier: Tier) -> tuple[Profile | None, str]:
    """The stored profile that holds here, or None and the reason why there is none."""
    from ..profiling.profile import Profile, conditions_of

    try:
        return Profile.find(bundle.manifest, conditions_of(bundle, backend, tier)), ""
    except ProfileError as error:
        return None, str(error)


def watch_for(engine: Engine, controller: Controller) -> Watch | None:
    """What tells the controller of heat and brakes, where the device shows them; it ends with the engine."""
    from ..health.watch import watch

    found = watch(controller, gpu=bool(getattr(engine.backend, "uses_gpu", False)))
    if found is not None:
        weakref.finalize(engine, found.close)  # an engine that nobody closed must not leave a thread behind
    return found
