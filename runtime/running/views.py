"""What an engine answers from, and how that changes while it runs: packs come and go between two requests.

A request is answered from one view, from its plan to its result. Adding or removing a pack puts another view in
place; requests that began on the former one end on it, and a pack's graphs are let go with the last of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..errors import GraphError, PackError, SlimpathError, TaskError, WeightsError

if TYPE_CHECKING:
    from ..bundles.bundle import Bundle
    from ..packs.pack import Pack
    from ..planning.planner import Planner
    from ..tasks import TaskSpec
    from .answering import Answerer
    from .choosing import Chooser
    from .sessions import SessionPool


class View:
    """A bundle, with packs or without, and what plans and answers for it. `users` counts requests under way."""

    def __init__(self, bundle: Bundle, planner: Planner, chooser: Chooser, answerer: Answerer) -> None:
        self.bundle = bundle
        self.planner = planner
        self.chooser = chooser
        self.answerer = answerer
        self.specs: dict[str, TaskSpec] = {task.name: task for task in bundle.manifest.tasks}
        self.packs: dict[str, Pack] = {}
        self.users = 0


class Views:
    """The view that new requests get, and those that older ones still use. Safe to use from several threads.

    Args:
        base: the bundle without packs.
        make: builds a view of a bundle.
        sessions: is told which graphs lie in packs.
    """

    def __init__(self, base: Bundle, make: Callable[[Bundle], View], sessions: SessionPool) -> None:
        self._base = base
        self._make = make
        self._sessions = sessions
        self._changes = threading.Lock()  # one after the other; requests go on meanwhile
        self._lock = threading.Lock()
        self.current = make(base)
        self._former: list[View] = []
        self._lent: dict[str, Pack] = {}  # by digest
        self._coming: Pack | None = None  # being tried: no view has it yet, and it is in use all the same

    @contextmanager
    def use(self) -> Iterator[View]:
        """The current view, for the time of a request."""
        with self._lock:
            view = self.current
            view.users += 1
        try:
            yield view
        finally:
            with self._lock:
                view.users -= 1
                if view.users == 0 and view is not self.current:
                    self._let_go()

    def add(self, pack: Pack) -> None:
        """Answer a pack's task from now on, too.

        Raises:
            PackError: it belongs to another bundle, its task exists, or the backend cannot run it. Nothing changes.
        """
        with self._changes:
            packs = {**self.current.packs, pack.task.name: pack}
            if pack.task.name in self.current.specs:
                packs = {**self.current.packs, "": pack}  # both: `extend` refuses, in its own words
            view = self._view(packs)
            with self._lock:
                self._lent[pack.digest] = self._coming = pack
                self._sessions.lend(pack)
            try:
                self._try(pack)
                self._put(view)
            finally:
                with self._lock:
                    self._coming = None
                    self._let_go()

    def remove(self, task: str) -> None:
        """Answer a pack's task no more; requests under way are answered still.

        Raises:
            TaskError: no pack brought such a task.
        """
        with self._changes:
            packs = dict(self.current.packs)
            if packs.pop(task, None) is None:
                there = ", ".join(packs) or "none"
                raise TaskError(f"no pack brought a task {task!r}", hint=f"tasks that packs brought: {there}")
            self._put(self._view(packs))

    def _view(self, packs: dict[str, Pack]) -> View:
        from ..packs.extend import extend

        view = self._make(extend(self._base, list(packs.values())))
        view.packs = packs
        return view

    def _try(self, pack: Pack) -> None:
        """Load the smallest head, so that a pack which cannot run is refused now and not in a request."""
        smallest = min(pack.graphs, key=lambda graph: graph.weight_bytes)
        try:
            self._sessions.load(smallest, final=False)
        except (GraphError, WeightsError) as error:
            raise PackError(f"{pack.path}: {error.message}", hint=error.hint) from error
        except SlimpathError as error:
            if self._sessions.closed:
                raise
            raise PackError(
                f"{pack.path}: this engine's backend cannot run it: {error.message}", hint="use --backend onnxruntime"
            ) from error

    def _put(self, view: View) -> None:
        with self._lock:
            self._former.append(self.current)
            self.current = view
            self._let_go()

    def _let_go(self) -> None:
        """Forget the graphs of packs that no view has which is in use. Under the lock."""
        self._former = [view for view in self._former if view.users]
        held = {pack.digest for view in (*self._former, self.current) for pack in view.packs.values()}
        if self._coming is not None:
            held.add(self._coming.digest)
        for digest in [digest for digest in self._lent if digest not in held]:
            self._sessions.forget(self._lent.pop(digest))
