"""Bundles and pictures that the runtime's tests share."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slimpath.runtime.engine import Engine
from slimpath.runtime.planning.plan import Plan
from slimpath.tests.runtime.tiny_bundle import build_tiny_bundle


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the cache of whoever runs it."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("SLIMPATH_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mixture-of-experts bundle; read it only."""
    return build_tiny_bundle(tmp_path_factory.mktemp("bundles") / "moe")


@pytest.fixture(scope="session")
def dense_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle without MoE blocks, detail and accuracies; read it only."""
    return build_tiny_bundle(tmp_path_factory.mktemp("bundles") / "dense", moe=False, detail=False, accuracies=False)


@pytest.fixture
def copied_bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle to damage."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


@pytest.fixture
def engine(tiny_bundle: Path) -> Iterator[Engine]:
    # One tier for good: a promotion between two calls changes the last bits, and tests compare exactly.
    with Engine.load(tiny_bundle, threads=1, tier="packed") as loaded:
        yield loaded


@pytest.fixture
def photo() -> Callable[..., np.ndarray]:
    """Smooth random pictures, by size and seed."""

    def make(height: int = 40, width: int = 60, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[0:height, 0:width]
        waves = rng.uniform(0.05, 0.4, (3, 2))
        planes = [np.sin(a * y + b * x + seed) for a, b in waves]
        return (np.stack(planes, axis=-1) * 127 + 128).astype(np.uint8)

    return make


@pytest.fixture
def make_plan() -> Callable[..., Plan]:
    """Plans of one task, by width; anything else of a Plan by its name."""

    def make(width: float = 1.0, **changes: Any) -> Plan:
        plan = Plan(
            (32, 48), width, 2, {"depth": width}, int(width * 1e9), width, {"depth": None}, "flops", True,
            {"depth": 1.0}, "full",
        )  # fmt: skip
        return replace(plan, **changes)

    return make
