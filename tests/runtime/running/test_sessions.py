from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from slimpath.runtime.backends.fake import FakeBackend, FakeSession
from slimpath.runtime.bundles.bundle import Bundle
from slimpath.runtime.errors import BackendError
from slimpath.runtime.running.sessions import SessionPool


@pytest.fixture
def bundle(tiny_bundle) -> Bundle:
    return Bundle.open(tiny_bundle)


def test_each_graph_is_loaded_once_by_however_many_threads(bundle):
    loads: list[bytes] = []

    def make(graph: bytes) -> FakeSession:
        time.sleep(0.02)  # long enough for every thread to arrive
        loads.append(graph)
        return FakeSession((), (), lambda _: {})

    pool = SessionPool(bundle, FakeBackend(make))
    graphs = bundle.manifest.graphs[:2]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda i: pool.get(graphs[i % 2]), range(16)))
    assert sorted(loads) == sorted(bundle.graph_bytes(graph) for graph in graphs)
    assert len({id(session) for session in found}) == len(pool) == 2


def test_different_graphs_load_side_by_side(bundle):
    both_here = threading.Barrier(2, timeout=5)

    def make(_: bytes) -> FakeSession:
        both_here.wait()  # passes only if the other load has begun too
        return FakeSession((), (), lambda _: {})

    pool = SessionPool(bundle, FakeBackend(make))
    with ThreadPoolExecutor(2) as threads:
        assert len(list(threads.map(pool.get, bundle.manifest.graphs[:2]))) == 2


def test_graph_that_fails_to_load_is_named_and_can_be_tried_again(bundle):
    def refuse(_: bytes) -> FakeSession:
        raise BackendError("no such operator", hint="upgrade")

    pool = SessionPool(bundle, FakeBackend(refuse))
    for _ in range(2):
        with pytest.raises(BackendError, match=r"encoder-32x48-w0.5.onnx: no such operator; upgrade"):
            pool.get(bundle.manifest.graphs[0])


def test_closed_pool_closes_its_sessions_and_refuses_more(bundle):
    made: list[FakeSession] = []
    pool = SessionPool(bundle, FakeBackend(lambda _: made.append(FakeSession((), (), lambda _: {})) or made[-1]))
    pool.get(bundle.manifest.graphs[0])
    pool.close()
    pool.close()
    assert [session.closed for session in made] == [True]
    for graph in bundle.manifest.graphs[:2]:
        with pytest.raises(BackendError, match="the engine is closed; load it again"):
            pool.get(graph)


def test_session_that_is_still_loading_when_the_pool_closes_is_closed_too(bundle):
    loading, closed = threading.Event(), threading.Event()
    made: list[FakeSession] = []

    def make(_: bytes) -> FakeSession:
        loading.set()
        assert closed.wait(5)
        made.append(FakeSession((), (), lambda _: {}))
        return made[-1]

    pool = SessionPool(bundle, FakeBackend(make))
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(pool.get, bundle.manifest.graphs[0])
        assert loading.wait(5)
        pool.close()
        closed.set()
        with pytest.raises(BackendError, match="closed"):
            waiting.result()
    assert made[0].closed and len(pool) == 0
