"""Loaded graphs: each once, on first use, from whichever thread comes first."""

from __future__ import annotations

import threading

from .backends.base import Backend, Session, Tier
from .bundle import Bundle
from .errors import BackendError
from .manifest import GraphSpec


class SessionPool:
    """Sessions by graph. Different graphs load side by side; of one graph the second thread waits for the first."""

    def __init__(self, bundle: Bundle, backend: Backend, *, tier: Tier = "packed") -> None:
        self._bundle = bundle
        self._backend = backend
        self._tier: Tier = tier
        self._sessions: dict[str, Session] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()
        self._closed = False

    def get(self, graph: GraphSpec) -> Session:
        """The session of a graph.

        Raises:
            BackendError: it cannot be loaded, or the pool is closed.
        """
        session = self._sessions.get(graph.file)
        if session is not None:
            return session
        with self._lock:
            self._require_open()
            lock = self._locks.setdefault(graph.file, threading.Lock())
        with lock:
            session = self._sessions.get(graph.file)
            if session is None:
                session = self._load(graph)
                with self._lock:
                    if self._closed:
                        session.close()
                    self._require_open()
                    self._sessions[graph.file] = session
            return session

    def __len__(self) -> int:
        return len(self._sessions)

    def close(self) -> None:
        """Close every session; a second call does nothing."""
        with self._lock:
            self._closed = True
            sessions = list(self._sessions.values())
            self._sessions.clear()
        for session in sessions:
            session.close()

    def _load(self, graph: GraphSpec) -> Session:
        try:
            return self._backend.load(self._bundle.graph_bytes(graph), self._bundle.path, tier=self._tier)
        except BackendError as error:
            raise BackendError(f"{self._bundle.path / graph.file}: {error.message}", hint=error.hint) from error

    def _require_open(self) -> None:
        if self._closed:
            raise BackendError("the engine is closed", hint="load it again")
