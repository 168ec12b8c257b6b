"""Faults are made in processes of their own, or in an application with an engine that misbehaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slimpath.tests.service.running import encoded


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def large_picture() -> bytes:
    """A PNG that takes some tenths of a second to decode: a request that stays in flight for a while."""
    noise = np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), np.uint8)
    return encoded(".png", noise)
