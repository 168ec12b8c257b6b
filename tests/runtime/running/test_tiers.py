"""Which tier answers when: mapped at once, packed in the background, within the memory limit."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slimpath.runtime.backends.base import Tier
from slimpath.runtime.backends.fake import FakeSession
from slimpath.runtime.bundles.bundle import Bundle
from slimpath.runtime.errors import BackendError
from slimpath.runtime.footprint.memory_model import MemoryModel, private_mb
from slimpath.runtime.running import sessions as sessions_module
from slimpath.runtime.running.sessions import HOT_USES, IDLE_USES, SessionPool


class TieredBackend:
    """Sessions that know their tier; `packing` is called where a packed one is made."""

    name, version, threads, precision, precisions = "tiered", "0", 1, "fp32", ("fp32",)

    def __init__(self, packing: Callable[[], object] = lambda: None, tiers: tuple[Tier, ...] = ("mapped", "packed")):
        self.tiers = tiers
        self.loads: list[tuple[bytes, Tier]] = []
        self._packing = packing

    def load(self, graph: bytes, folder: Path, *, tier: Tier = "packed") -> FakeSession:
        self.loads.append((graph, tier))
        if tier == "packed":
            self._packing()
        return FakeSession((), (tier,), lambda _: {})


@pytest.fixture
def bundle(tiny_bundle) -> Bundle:
    return Bundle.open(tiny_bundle)


@pytest.fixture(autouse=True)
def process_as_expected(monkeypatch):
    """The process of the tests is none that a limit of kilobytes could hold."""
    monkeypatch.setattr(sessions_module, "process_mb", lambda: 0.0)
    monkeypatch.setattr(sessions_module, "release_free_memory", lambda: None)


def tier_of(pool: SessionPool, graph) -> str:
    return pool.get(graph).outputs[0]


def use(pool: SessionPool, graph, times: int) -> str:
    """The tier that the last of some uses got, once what they set off is through."""
    for _ in range(times):
        pool.get(graph)
    assert pool.wait(5)
    return tier_of(pool, graph)


def test_unused_graph_is_answered_mapped_and_a_hot_one_packed(bundle):
    backend = TieredBackend()
    pool = SessionPool(bundle, backend, tier="auto")
    cold, hot = bundle.manifest.graphs[:2]
    assert use(pool, cold, HOT_USES - 2) == "mapped"
    assert use(pool, hot, HOT_USES) == "packed"
    assert [tier for _, tier in backend.loads] == ["mapped", "mapped", "packed"]
    assert [one.tier for one in pool.loaded()] == ["mapped", "packed"]


@pytest.mark.parametrize("tier", ["mapped", "packed"])
def test_pool_of_one_tier_never_changes_it(bundle, tier):
    pool = SessionPool(bundle, TieredBackend(), tier=tier)
    assert use(pool, bundle.manifest.graphs[0], 5 * HOT_USES) == tier


def test_backend_without_a_mapped_tier_is_packed_at_once(bundle):
    backend = TieredBackend(tiers=("packed",))
    assert use(SessionPool(bundle, backend, tier="auto"), bundle.manifest.graphs[0], 9) == "packed"
    assert len(backend.loads) == 1


def test_no_request_waits_for_a_promotion(bundle):
    may_pack = threading.Event()
    pool = SessionPool(bundle, TieredBackend(lambda: may_pack.wait(10)), tier="auto")
    graph, other = bundle.manifest.graphs[:2]
    # If one of these waited, it would wait for ever: only what comes after them lets the packing end.
    assert {tier_of(pool, graph) for _ in range(50)} == {"mapped"}
    assert tier_of(pool, other) == "mapped"
    assert not pool.settled(graph)
    may_pack.set()
    assert pool.wait(5) and tier_of(pool, graph) == "packed" and pool.settled(graph)


def test_session_that_was_replaced_still_answers_whoever_holds_it(bundle):
    pool = SessionPool(bundle, TieredBackend(), tier="auto")
    held = pool.get(bundle.manifest.graphs[0])
    assert use(pool, bundle.manifest.graphs[0], HOT_USES) == "packed"
    assert held.run({}) == {}


def test_promotion_that_fails_leaves_the_mapped_session(bundle):
    def refuse():
        raise BackendError("out of memory")

    backend = TieredBackend(refuse)
    assert use(SessionPool(bundle, backend, tier="auto"), bundle.manifest.graphs[0], 9 * HOT_USES) == "mapped"
    assert len(backend.loads) == 2  # and is not tried again and again


def test_slow_backend_is_started_by_another(bundle):
    slow, starter = TieredBackend(tiers=("packed",)), TieredBackend()
    pool = SessionPool(bundle, slow, tier="auto", starter=starter)
    graph = bundle.manifest.graphs[0]
    assert tier_of(pool, graph) == "mapped" and not slow.loads
    assert use(pool, graph, HOT_USES) == "packed"
    assert [tier for _, tier in starter.loads] == ["mapped"] and [tier for _, tier in slow.loads] == ["packed"]


def test_slow_backend_that_fails_is_not_silently_replaced_by_its_starter(bundle):
    def refuse():
        raise BackendError("no such operator", hint="upgrade")

    pool = SessionPool(bundle, TieredBackend(refuse), tier="auto", starter=TieredBackend())
    graph = bundle.manifest.graphs[0]
    for _ in range(HOT_USES):
        pool.get(graph)
    assert pool.wait(5)
    for _ in range(2):
        with pytest.raises(BackendError, match="no such operator; upgrade"):
            pool.get(graph)


def test_loading_ahead_counts_as_no_use(bundle):
    backend = TieredBackend()
    pool = SessionPool(bundle, backend, tier="auto")
    graph = bundle.manifest.graphs[0]
    for _ in range(2 * HOT_USES):
        assert pool.load(graph, final=False).outputs == ("mapped",)
    assert pool.load(graph, final=True).outputs == ("packed",)
    assert pool.load(graph, final=False).outputs == ("packed",)  # what is there already is better
    assert [tier for _, tier in backend.loads] == ["mapped", "packed"]
    assert pool.loaded()[0].uses == 0


def test_promotion_that_comes_after_closing_is_thrown_away(bundle):
    may_pack = threading.Event()
    pool = SessionPool(bundle, TieredBackend(lambda: may_pack.wait(10)), tier="auto")
    for _ in range(HOT_USES):
        pool.get(bundle.manifest.graphs[0])
    pool.close()
    may_pack.set()
    assert pool.wait(5) and len(pool) == 0


# --- the memory limit ---------------------------------------------------------------------------------------------


def limited(bundle: Bundle, limit_mb: float, backend: TieredBackend | None = None) -> SessionPool:
    """A pool whose process, before any session, holds nothing."""
    model = MemoryModel(bundle.manifest, 0.0)
    return SessionPool(bundle, backend or TieredBackend(), tier="auto", model=model, limit_mb=limit_mb)


def needed_mb(bundle: Bundle, *loaded) -> float:
    return MemoryModel(bundle.manifest, 0.0).total_mb(loaded)


def test_nothing_is_packed_that_would_exceed_the_limit(bundle):
    graph = max(bundle.manifest.graphs, key=lambda graph: graph.weight_bytes)
    packed_mb = needed_mb(bundle, (graph, "packed"))
    assert use(limited(bundle, packed_mb * 0.999), graph, 20) == "mapped"
    assert use(limited(bundle, packed_mb * 1.001), graph, 20) == "packed"


def test_promotion_that_turns_out_to_exceed_the_limit_is_undone(bundle, monkeypatch):
    monkeypatch.setattr(sessions_module, "process_mb", lambda: 1e6)
    backend = TieredBackend()
    assert use(limited(bundle, 100.0, backend), bundle.manifest.graphs[0], 20) == "mapped"
    assert [tier for _, tier in backend.loads] == ["mapped", "packed"]


def test_least_recently_used_goes_first(bundle):
    graphs = bundle.manifest.graphs[:3]
    pool = limited(bundle, needed_mb(bundle, *((graph, "mapped") for graph in graphs[:2])) * 1.001)
    for index in (0, 1, 0, 2):
        assert tier_of(pool, graphs[index]) == "mapped"
    assert [one.graph for one in pool.loaded()] == [graphs[0], graphs[2]]


def test_request_is_answered_even_where_nothing_fits(bundle):
    pool = limited(bundle, 1e-6)
    for graph in bundle.manifest.graphs[:3]:
        assert tier_of(pool, graph) == "mapped" and len(pool) == 1
        assert not pool.fits(graph, final=False)


def test_idle_packed_session_makes_room_for_a_hot_one(bundle):
    graphs = sorted((g for g in bundle.manifest.graphs if g.kind == "encoder"), key=lambda graph: -graph.weight_bytes)
    old, new = graphs[:2]
    # Room for either of them packed beside the other mapped, not for both packed.
    both = [needed_mb(bundle, (old, a), (new, b)) for a, b in (("packed", "mapped"), ("mapped", "packed"))]
    limit_mb = max(both) * 1.0001
    assert needed_mb(bundle, (old, "packed"), (new, "packed")) > limit_mb
    pool = limited(bundle, limit_mb)
    assert use(pool, old, HOT_USES) == "packed"
    assert use(pool, new, IDLE_USES // 2) == "mapped"
    assert tier_of(pool, old) == "packed"  # used lately: alternating requests drive nobody out
    assert use(pool, new, 4 * IDLE_USES) == "packed"
    assert [one.graph for one in pool.loaded()] == [new]
    assert tier_of(pool, old) == "mapped"  # what had to go comes back mapped


def test_without_a_limit_packing_takes_at_most_half_of_what_is_free(bundle, monkeypatch):
    graph = bundle.manifest.graphs[0]
    for free_mb, tier in ((private_mb(graph, "packed") * 1.9, "mapped"), (private_mb(graph, "packed") * 2.1, "packed")):
        monkeypatch.setattr(sessions_module, "available_mb", lambda free_mb=free_mb: free_mb)
        assert use(SessionPool(bundle, TieredBackend(), tier="auto"), graph, HOT_USES) == tier


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_expected_memory_never_exceeds_the_limit_and_every_request_is_answered(tiny_bundle, data):
    bundle = Bundle.open(tiny_bundle)
    graphs = bundle.manifest.graphs
    everything = needed_mb(bundle, *((graph, "packed") for graph in graphs))
    limit_mb = data.draw(st.floats(0.05, 1.1)) * everything
    pool = limited(bundle, limit_mb)
    for index in data.draw(st.lists(st.integers(0, len(graphs) - 1), max_size=60)):
        for _ in range(data.draw(st.integers(1, 5))):
            assert pool.get(graphs[index]) is not None
        assert pool.wait(5)
        loaded = pool.loaded()
        assert graphs[index] in [one.graph for one in loaded]
        assert len(loaded) == 1 or needed_mb(bundle, *((one.graph, one.tier) for one in loaded)) <= limit_mb
