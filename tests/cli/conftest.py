"""A tiny bundle, pictures of it, and a way to run the command line in process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from slimpath.cli.app import app
from slimpath.tests.runtime.tiny_bundle import build_tiny_bundle


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes where it is started, or reads the cache of whoever runs it."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("SLIMPATH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERMINAL_WIDTH", "120")


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read it only."""
    return build_tiny_bundle(tmp_path_factory.mktemp("bundles") / "moe")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of two pictures, one of them further down."""
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, size_hw in (("a.png", (40, 60)), ("below/b.png", (64, 48))):
        assert cv2.imwrite(str(folder / name), rng.integers(0, 255, (*size_hw, 3), np.uint8))
    return folder


@pytest.fixture
def slimpath() -> Callable[..., Any]:
    """Run a command line; the result has exit_code, stdout and stderr."""

    def invoke(*arguments: object) -> Any:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return invoke
