"""What an engine says of its memory."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from slimpath.runtime.bundles.bundle import Bundle
from slimpath.runtime.engine import Engine
from slimpath.runtime.footprint import memory_report
from slimpath.runtime.footprint.memory import PAGE_BYTES
from slimpath.runtime.footprint.residency import WeightMap
from slimpath.tests.runtime.expert_bundle import EXPERTS, KEPT, build_expert_bundle


@pytest.fixture(scope="module")
def expert_bundle(tmp_path_factory):
    return build_expert_bundle(tmp_path_factory.mktemp("bundles") / "experts")


def pages_of(bundle: Bundle, ranges) -> np.ndarray:
    """A file of which only these ranges are in memory."""
    touched = np.zeros(-(-bundle.weights.bytes // PAGE_BYTES), bool)
    for offset, length in ranges:
        touched[offset // PAGE_BYTES : -(-(offset + length) // PAGE_BYTES)] = True
    return touched


def test_each_task_is_told_what_of_its_own_path_is_resident(expert_bundle, monkeypatch):
    bundle = Bundle.open(expert_bundle)
    left = WeightMap(bundle).ranges(["left"])
    monkeypatch.setattr(memory_report, "touched_pages", lambda _: pages_of(bundle, left))
    with Engine.load(bundle, threads=1) as engine:
        tasks = engine.memory().tasks
    assert tasks["left"].resident_mb == pytest.approx(tasks["left"].path_mb)
    assert (tasks["left"].experts, tasks["left"].experts_reachable) == (EXPERTS, len(KEPT["left"]))
    assert tasks["left"].experts_resident == len(KEPT["left"])
    assert tasks["right"].experts_resident == 0  # a page at either end is not an expert
    assert (tasks["right"].resident_mb or 0) < tasks["right"].path_mb / 10


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/pagemap")
def test_only_the_asked_task_becomes_resident(expert_bundle, photo):
    with Engine.load(expert_bundle, threads=1, tier="mapped") as engine:
        before = engine.memory()
        for seed in range(3):
            engine(photo(64, 64, seed=seed), "left")
        after = engine.memory()
    assert before.tasks["left"].experts_resident == 0
    assert (after.tasks["left"].experts_resident, after.tasks["right"].experts_resident) == (len(KEPT["left"]), 0)
    assert (after.weights_resident_mb or 0) > (before.weights_resident_mb or 0)
    assert 10 < (after.anonymous_mb or 0) < (after.process_mb or 0)


def test_sessions_are_listed_with_their_tier_uses_and_cost(tiny_bundle, photo):
    with Engine.load(tiny_bundle, threads=1, memory_limit_mb=4000) as engine:
        engine(photo(), "depth")
        engine.session(engine.bundle.graph("encoder", (32, 48), 0.5))
        report = engine.memory()
    found = {session.graph: (session.tier, session.uses, session.measured) for session in report.sessions}
    assert found == {
        "encoder-32x48-w1.onnx": ("mapped", 1, False),
        "head-depth-32x48-w1.onnx": ("mapped", 1, False),
        "encoder-32x48-w0.5.onnx": ("packed", 0, False),
    }
    assert report.limit_mb == 4000 and report.expected_mb < 4000
    assert all(session.private_mb > 0 for session in report.sessions)


def test_report_is_ready_for_json_and_for_people(tiny_bundle):
    with Engine.load(tiny_bundle, threads=1) as engine:
        report = engine.memory()
    assert json.loads(json.dumps(report.to_json()))["tasks"]["depth"]["experts"] == 0  # its experts have other names
    text = str(report)
    assert "0 graphs loaded" in text and "limit unknown" not in text and "no limit" in text and "depth: " in text


def test_what_the_system_does_not_say_is_none(tiny_bundle, monkeypatch):
    def refuse(_):
        raise OSError("no such file")

    monkeypatch.setattr(memory_report, "touched_pages", refuse)
    monkeypatch.setattr(memory_report, "memory_use", lambda: None)
    with Engine.load(tiny_bundle, threads=1) as engine:
        report = engine.memory()
    assert report.process_mb is report.anonymous_mb is report.weights_resident_mb is None
    assert report.tasks["depth"].resident_mb is report.tasks["depth"].experts_resident is None
    assert "process unknown" in str(report)


def test_library_that_knows_its_memory_is_believed(tiny_bundle, monkeypatch):
    from slimpath.runtime.backends.ort import OrtSession

    monkeypatch.setattr(OrtSession, "memory_bytes", lambda self: 7_000_000)
    with Engine.load(tiny_bundle, threads=1) as engine:
        engine.session(engine.bundle.manifest.graphs[0])
        (session,) = engine.memory().sessions
    assert (session.private_mb, session.measured) == (7.0, True)
