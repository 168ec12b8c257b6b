"""An engine that keeps limits in ms hears of heat where the device shows it; other engines start nothing."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import slimpath.runtime.health.watch as module
from slimpath.runtime.engine import Engine
from slimpath.runtime.running import opening
from slimpath.tests.runtime.device_trees import put, unpack


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root, real = unpack("orin-nano-jetpack6", tmp_path / "root"), module.watch
    monkeypatch.setattr(module, "watch", lambda *arguments, **options: real(*arguments, **{**options, "root": root}))
    return root


def running() -> bool:
    return "slimpath-health" in [thread.name for thread in threading.enumerate()]


def load(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, *, profile: bool) -> Engine:
    class Controlled:
        """As much of a profile as an engine asks for when it starts."""

        headroom = 1.1

    if profile:
        monkeypatch.setattr(opening, "Planner", lambda *arguments, **options: object())
    return Engine.load(tiny_bundle, profile=Controlled() if profile else None)  # type: ignore[arg-type]


def test_engine_without_a_profile_starts_nothing(tiny_bundle: Path, board: Path, monkeypatch: pytest.MonkeyPatch):
    with load(tiny_bundle, monkeypatch, profile=False) as engine:
        assert engine.health is None and not running()


def test_engine_with_a_profile_hears_of_heat_until_it_is_closed(
    tiny_bundle: Path, board: Path, monkeypatch: pytest.MonkeyPatch
):
    put(board, "/sys/class/thermal/cooling_device4/cur_state", 1)
    with load(tiny_bundle, monkeypatch, profile=True) as engine:
        assert engine.health is not None and engine.health.throttled and running()
        assert engine.controller is not None and engine.controller.state.throttle == 1.25
    assert not running()
