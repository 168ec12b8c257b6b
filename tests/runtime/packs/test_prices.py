"""A measured profile prices the head of a pack, which it never saw, by the heads that it measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from slimpath.runtime.bundles.bundle import Bundle
from slimpath.runtime.engine import Engine
from slimpath.runtime.profiling.profile import Profile, conditions_of
from slimpath.tests.runtime.fake_device import PaperDevice
from slimpath.tests.runtime.profiling.test_profile import make_data
from slimpath.tests.runtime.tiny_pack import build_tiny_pack


@pytest.fixture
def profile(tiny_bundle: Path) -> Profile:
    bundle = Bundle.open(tiny_bundle)
    return Profile(make_data(bundle, conditions_of(bundle, PaperDevice(bundle).backend, "packed")), bundle.manifest)


def test_limits_in_ms_hold_for_the_task_of_a_pack(tiny_bundle: Path, tmp_path: Path, profile: Profile) -> None:
    with Engine.load(tiny_bundle, threads=1, profile=profile) as engine:
        depth = engine.plan("depth", "10s")
        engine.add_pack(build_tiny_pack(tmp_path / "pack", tiny_bundle))
        both = engine.plan("depth,layout", "10s")
        assert both.costed_by == "profile" and depth.latency_ms is not None and both.latency_ms is not None
        head = dict(both.parts)["layout"]
        assert head.latency_ms is not None and head.latency_ms > 0 and not head.measured
        assert both.latency_ms > depth.latency_ms
        assert engine.plan("depth", "10s").latency_ms == depth.latency_ms


def test_the_same_manifest_keeps_its_profile(profile: Profile, tiny_bundle: Path) -> None:
    assert profile.of(profile._manifest) is profile
    assert profile.of(Bundle.open(tiny_bundle).manifest).key == profile.key
