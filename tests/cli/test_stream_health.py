"""`slimpath stream` on a board with sensors: what it prints of them, and what a limit of watts does."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import slimpath.runtime.health.watch as module
from slimpath.tests.runtime.device_trees import put, unpack
from slimpath.tests.runtime.stream.conftest import write_film

Cli = Callable[..., Any]


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Three seconds."""
    return write_film(tmp_path / "film.mp4", 60, fps=20)


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An Orin Nano's files in place of this machine's."""
    root, real = unpack("orin-nano-jetpack6", tmp_path / "root"), module.watch
    monkeypatch.setattr(module, "watch", lambda *arguments, **options: real(*arguments, **{**options, "root": root}))
    return root


def documents(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def test_line_shows_temperature_and_watts(slimpath: Cli, tiny_bundle: Path, film: Path, board: Path) -> None:
    done = slimpath("stream", film, "--bundle", tiny_bundle, "--tasks", "depth", "--fps", 10)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[0].endswith(" dropped | 47 °C, 3.6 W")
    assert "slimpath-health" not in [thread.name for thread in threading.enumerate()]


def test_brake_is_shown_and_narrows(slimpath: Cli, tiny_bundle: Path, film: Path, board: Path) -> None:
    put(board, "/sys/class/thermal/cooling_device4/cur_state", 1)  # cpu-throttle-alert
    done = slimpath("stream", film, "--bundle", tiny_bundle, "--tasks", "depth", "--json")
    assert done.exit_code == 0, done.output
    last = documents(done.stdout)[-1]
    assert last["health"]["brakes"] == ["cpu"] and last["health"]["slowdown"] == 1.25
    assert last["health"]["temperature_c"] == 46.843 and last["health"]["power_w"] == pytest.approx(3.584)


def test_watts_that_are_kept_change_nothing_and_others_press(
    slimpath: Cli, tiny_bundle: Path, tmp_path: Path, board: Path
) -> None:
    long = write_film(tmp_path / "long.mp4", 600, fps=20)

    def slowdown(watts: float) -> float:
        done = slimpath(
            "stream", long, "--bundle", tiny_bundle, "--tasks", "depth", "--json", "--watts", watts, "--duration", 4
        )
        assert done.exit_code == 0, done.output
        return max(document["slowdown"] for document in documents(done.stdout))

    put(board, "/sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1/curr1_input", 60_000)  # 297 W
    assert slowdown(1.0) >= 1.3 * slowdown(1000.0) or slowdown(1.0) >= 5


def test_watts_without_sensors_are_refused_in_one_line(
    slimpath: Cli, tiny_bundle: Path, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module.watch
    empty = tmp_path / "empty"
    monkeypatch.setattr(module, "watch", lambda *arguments, **options: real(*arguments, **{**options, "root": empty}))
    done = slimpath("stream", film, "--bundle", tiny_bundle, "--watts", 10, "--tasks", "depth", "--duration", 1)
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1].startswith("slimpath: 10 W cannot be held: no power sensors of the board")


def test_machine_without_sensors_says_nothing_of_them(
    slimpath: Cli, tiny_bundle: Path, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module.watch
    empty = tmp_path / "empty"
    monkeypatch.setattr(module, "watch", lambda *arguments, **options: real(*arguments, **{**options, "root": empty}))
    done = slimpath("stream", film, "--bundle", tiny_bundle, "--tasks", "depth", "--json")
    assert done.exit_code == 0, done.output
    assert documents(done.stdout)[-1]["health"] is None
