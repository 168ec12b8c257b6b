"""Loading ahead: after `Engine.warm`, no request waits for a graph."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from slimpath.runtime.backends.base import Tier
from slimpath.runtime.backends.ort import OrtBackend, OrtSession
from slimpath.runtime.bundles.bundle import Bundle
from slimpath.runtime.engine import Engine
from slimpath.runtime.errors import BudgetError, TaskError
from slimpath.runtime.footprint.memory_model import MemoryModel, private_mb


@pytest.fixture
def loads(monkeypatch) -> list[str]:
    """The tier of every graph that somebody waited for; what a used session is packed to in the background is apart."""
    made: list[str] = []
    load = OrtBackend.load

    def noted(self: OrtBackend, graph: bytes, folder: Path, *, tier: Tier = "packed") -> OrtSession:
        if threading.current_thread().name != "slimpath-packing":
            made.append(tier)
        return load(self, graph, folder, tier=tier)

    monkeypatch.setattr(OrtBackend, "load", noted)
    return made


def test_every_width_and_head_is_ready_and_nothing_loads_afterwards(tiny_bundle, photo, loads):
    with Engine.load(tiny_bundle, threads=1) as engine:
        plans = engine.warm()
        graphs = engine.bundle.manifest.graphs
        assert loads == ["mapped"] * len(graphs)
        assert sorted((plan.size_hw, plan.encoder_width) for plan in plans) == sorted(
            (graph.size_hw, graph.width) for graph in graphs if graph.kind == "encoder"
        )
        encoders = [one for one in engine.sessions.loaded() if one.graph.task is None]
        assert all(one.uses == 1 for one in encoders)
        for budget in (None, "width=0.5", "width=1,decoder_width=0.5"):
            engine(photo(), None, budget)
        assert loads == ["mapped"] * len(graphs)


def test_only_the_heads_of_the_tasks_are_loaded(tiny_bundle, loads):
    with Engine.load(tiny_bundle, threads=1) as engine:
        engine.warm("depth,edge")
        assert {one.graph.task for one in engine.sessions.loaded()} == {None, "depth", "edge"}


def test_named_budgets_are_packed_at_once(tiny_bundle, loads):
    with Engine.load(tiny_bundle, threads=1) as engine:
        (plan,) = engine.warm("depth", ["width=0.5"])
        assert (plan.encoder_width, list(plan.decoder_widths)) == (0.5, ["depth"])
        assert loads == ["packed", "packed"]
        plan = engine.plan("edge", 0.9)
        assert engine.warm(iter(["edge"]), [plan, "width=1"])[0] == plan


@pytest.mark.parametrize("tier", ["mapped", "packed"])
def test_engine_of_one_tier_warms_in_it(tiny_bundle, loads, tier):
    with Engine.load(tiny_bundle, threads=1, tier=tier) as engine:
        engine.warm("depth")
        engine.warm("depth", [None])
    assert set(loads) == {tier}


def test_progress_counts_every_step_to_the_last(tiny_bundle):
    steps: list[tuple[str, int, int]] = []
    with Engine.load(tiny_bundle, threads=1) as engine:
        engine.warm(progress=lambda *step: steps.append(step))
        heads_apart = 0  # every head has the width of an encoder here, and runs with it
        total = len([g for g in engine.bundle.manifest.graphs if g.kind == "encoder"]) + heads_apart
    assert [(done, of) for _, done, of in steps] == [(i + 1, total) for i in range(total)]
    assert steps[0][0].startswith("32x")


def test_what_does_not_fit_the_memory_limit_is_left_out(tiny_bundle, photo, monkeypatch):
    graphs = Bundle.open(tiny_bundle).manifest.graphs
    model = MemoryModel(Bundle.open(tiny_bundle).manifest, 0.0)
    all_mb = model.total_mb((graph, "mapped") for graph in graphs)
    limit_mb = 100 + all_mb - sum(private_mb(graph, "mapped") for graph in graphs) / 2  # half of the graphs
    monkeypatch.setattr("slimpath.runtime.running.opening.process_mb", lambda: 100.0)
    with Engine.load(tiny_bundle, threads=1, memory_limit_mb=limit_mb) as engine:
        ready = engine.warm()
        report = engine.memory()
        assert report.expected_mb <= limit_mb
        assert 0 < len(report.sessions) < len(graphs)
        assert len(ready) < 4
        engine(photo(), "depth")  # is answered all the same


def test_bad_request_is_refused(tiny_bundle):
    with Engine.load(tiny_bundle, threads=1) as engine:
        with pytest.raises(TaskError, match="unknown task 'up'"):
            engine.warm("up")
        with pytest.raises(BudgetError, match="cannot read 'lots'"):
            engine.warm("depth", ["lots"])
