"""Loaded graphs, in two tiers.

    mapped   reads the weights from the mapped file: loaded in milliseconds to a tenth of a second, little of its own
    packed   keeps a rearranged copy of the weights, which runs faster

In "auto" a graph that was never used is answered by a mapped session at once. One that is used again and again is
packed by a background thread and takes the mapped one's place between two runs. Under a memory limit the least recently
used sessions go first; a packed one that had to go comes back mapped. Nobody waits for a promotion, and none begins
that is expected to exceed the limit; one that turns out to is undone.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..backends.base import Backend, Session, Tier
from ..bundles.bundle import Bundle
from ..bundles.graph_spec import GraphSpec
from ..errors import BackendError, SlimpathError
from ..footprint.memory import release_free_memory
from ..footprint.memory_model import MemoryModel, available_mb, private_mb, process_mb
from .background import Background
from .tiers import TierRequest, final_tier, first_tier

if TYPE_CHECKING:
    from ..packs.pack import Pack

HOT_USES = 3  # of a mapped session, before it is worth a tenth of a second of one core to pack it
# A session is idle when so many others were asked for since: some 16 calls of four graphs. Two configurations that
# alternate, of which one fits the limit, must not drive each other out with every call.
IDLE_USES = 64


@dataclass(eq=False)
class Loaded:
    """A session and what was made of it; `last_used` counts the uses of all sessions."""

    graph: GraphSpec
    session: Session
    tier: Tier
    uses: int = 0
    last_used: int = 0
    promote_at: float = math.inf


class SessionPool:
    """Sessions by graph. Different graphs load side by side; of one graph the second thread waits for the first.

    A session that is dropped or replaced is not closed but let go: whoever runs it still may finish.

    Args:
        tier: "mapped" or "packed" for always that; "auto" as above.
        starter: loads the first, mapped session in "auto" where `backend` has no mapped tier and loads slowly.
        model: of the memory; with `limit_mb` sessions are dropped to stay below it, as the model has it.
    """

    def __init__(
        self,
        bundle: Bundle,
        backend: Backend,
        *,
        tier: TierRequest = "packed",
        starter: Backend | None = None,
        model: MemoryModel | None = None,
        limit_mb: float | None = None,
    ) -> None:
        self._bundle = bundle
        self._final: tuple[Backend, Tier] = (backend, final_tier(tier))
        self._first = first_tier(tier, backend, starter)
        self._model = model or MemoryModel(bundle.manifest, 0.0)
        self._limit_mb = limit_mb
        self._loaded: dict[str, Loaded] = {}
        self._broken: dict[str, BackendError] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._lent: dict[str, Pack] = {}
        self._lock = threading.Lock()
        self._background = Background("slimpath-packing")
        self._uses = 0
        self.most_rows = 1  # of one image, in the runs so far: what the library's arena has grown to
        self._closed = False

    def get(self, graph: GraphSpec) -> Session:
        """The session of a graph, in whichever tier it is at present.

        Raises:
            BackendError: it cannot be loaded, or the pool is closed.
        """
        loaded = self._loaded.get(graph.file)
        if loaded is None:
            loaded = self._load(graph, *self._first, replace=False)
        self._uses += 1
        loaded.last_used = self._uses
        loaded.uses += 1
        if loaded.uses >= loaded.promote_at:
            loaded.promote_at = math.inf  # asked for once; _promote says when to ask again
            self._background.ask(graph.file, lambda: self._promote(loaded))
        return loaded.session

    def load(self, graph: GraphSpec, *, final: bool) -> Session:
        """Load a graph now, without counting it as used.

        Args:
            final: in the tier that it would end in; otherwise in the first, unless it is there already.

        Raises:
            BackendError: as for `get`.
        """
        wanted = self._final if final else self._first
        loaded = self._loaded.get(graph.file)
        if loaded is None or (final and loaded.tier != wanted[1]):
            loaded = self._load(graph, *wanted, replace=final)
        return loaded.session

    def settled(self, graph: GraphSpec) -> bool:
        """Whether the graph runs in the tier that it will stay in, so that what it takes now says what it will take."""
        loaded = self._loaded.get(graph.file)
        return loaded is not None and (loaded.tier == self._final[1] or loaded.uses > HOT_USES + IDLE_USES)

    def fits(self, graph: GraphSpec, *, final: bool) -> bool:
        """Whether a graph can be loaded without dropping any other."""
        return self._victims(graph, (self._final if final else self._first)[1], ())[1]

    def loaded(self) -> list[Loaded]:
        """What is loaded now, least recently used first."""
        with self._lock:
            return sorted(self._loaded.values(), key=lambda loaded: loaded.last_used)

    def lend(self, pack: Pack) -> None:
        """Load a pack's graphs from it when they are asked for."""
        with self._lock:
            self._lent.update({graph.file: pack for graph in pack.graphs})

    def forget(self, pack: Pack) -> None:
        """Let a pack's sessions go; its graphs cannot be loaded any more."""
        with self._lock:
            for graph in pack.graphs:
                for kept in (self._lent, self._loaded, self._broken, self._locks):
                    kept.pop(graph.file, None)

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def starts_elsewhere(self) -> bool:
        """Whether first answers come from another library than later ones."""
        return self._first[0] is not self._final[0]

    def wait(self, timeout_s: float = 60.0) -> bool:
        """Until no promotion is under way or waiting; False if that took longer."""
        return self._background.wait(timeout_s)

    def __len__(self) -> int:
        return len(self._loaded)

    def close(self) -> None:
        """Close every session; a second call does nothing."""
        self._background.stop()
        with self._lock:
            self._closed = True
            sessions = [loaded.session for loaded in self._loaded.values()]
            self._loaded.clear()
        for session in sessions:
            session.close()

    def _load(self, graph: GraphSpec, backend: Backend, tier: Tier, *, replace: bool) -> Loaded:
        with self._lock:
            self._require_open()
            lock = self._locks.setdefault(graph.file, threading.Lock())
        with lock:
            loaded = self._loaded.get(graph.file)
            if loaded is not None and (not replace or loaded.tier == tier):
                return loaded
            if (error := self._broken.get(graph.file)) is not None and tier != self._final[1]:
                raise error
            self._make_room(graph, tier)
            session = self._open(graph, backend, tier)
            return self._put(graph, session, tier)

    def _put(self, graph: GraphSpec, session: Session, tier: Tier) -> Loaded:
        with self._lock:
            if self._closed:
                session.close()
            self._require_open()
            loaded = self._loaded.get(graph.file)
            if loaded is None:
                hot = HOT_USES if tier != self._final[1] else math.inf
                loaded = self._loaded[graph.file] = Loaded(graph, session, tier, 0, self._uses, hot)
            loaded.session, loaded.tier = session, tier
            return loaded

    def _open(self, graph: GraphSpec, backend: Backend, tier: Tier) -> Session:
        source = self._lent.get(graph.file, self._bundle)
        folder = source.folder(graph)
        try:
            data = source.graph_bytes(graph)
        except KeyError:
            raise BackendError(f"{graph.file}: its pack was removed", hint="add it again") from None
        try:
            return backend.load(data, folder, tier=tier)
        except BackendError as error:
            raise BackendError(f"{folder / graph.file}: {error.message}", hint=error.hint) from error

    def _promote(self, loaded: Loaded) -> None:
        """In the background: pack a graph that is used much, if there is room; otherwise ask again after as many uses
        as it has had so far."""
        graph, tier = loaded.graph, self._final[1]
        if loaded.tier == tier or self._loaded.get(graph.file) is not loaded:
            return
        if not self._room_to_promote(graph, tier):
            loaded.promote_at = 2 * loaded.uses
            return
        try:
            session = self._open(graph, *self._final)
        except SlimpathError as error:
            if self.starts_elsewhere:
                # Another library would answer from now on, and nobody would know: the next request is told instead.
                with self._lock:
                    if self._loaded.get(graph.file) is not loaded:
                        return  # dropped meanwhile, with its pack or to make room
                    del self._loaded[graph.file]
                    self._broken[graph.file] = error if isinstance(error, BackendError) else BackendError(str(error))
            return
        with self._lock:
            if self._closed or self._loaded.get(graph.file) is not loaded:
                return
            mapped = loaded.session
            loaded.session, loaded.tier = session, tier
        del session
        if self._limit_mb is not None and not self.starts_elsewhere:
            release_free_memory()
            if process_mb() > self._limit_mb:
                loaded.session, loaded.tier = mapped, self._first[1]

    def _room_to_promote(self, graph: GraphSpec, tier: Tier) -> bool:
        if self._limit_mb is None:
            free_mb = available_mb()
            return free_mb is None or private_mb(graph, tier) <= free_mb / 2
        idle = [loaded for loaded in self.loaded() if self._uses - loaded.last_used >= IDLE_USES]
        victims, enough = self._victims(graph, tier, idle)
        for victim in victims if enough else []:
            self._drop(victim)
        return enough

    def _make_room(self, graph: GraphSpec, tier: Tier) -> None:
        """Before a request's own load, which must go ahead: drop what is needed, or whatever there is."""
        if self._limit_mb is not None:
            for victim in self._victims(graph, tier, self.loaded())[0]:
                self._drop(victim)

    def _victims(self, graph: GraphSpec, tier: Tier, candidates: Iterable[Loaded]) -> tuple[list[Loaded], bool]:
        """Which of the candidates, in their order, have to go before a graph fits, and whether that is enough."""
        others: dict[str, tuple[GraphSpec, Tier]] = {one.graph.file: (one.graph, one.tier) for one in self.loaded()}
        others[graph.file] = graph, tier
        victims: list[Loaded] = []
        waiting = iter(candidates)
        while self._limit_mb is not None and self._model.total_mb(others.values(), self.most_rows) > self._limit_mb:
            victim = next(waiting, None)
            if victim is None:
                return victims, False
            if victim.graph.file != graph.file:
                victims.append(victim)
                del others[victim.graph.file]
        return victims, True

    def _drop(self, victim: Loaded) -> None:
        with self._lock:
            self._loaded.pop(victim.graph.file, None)

    def _require_open(self) -> None:
        if self._closed:
            raise BackendError("the engine is closed", hint="load it again")
