"""A tiny bundle, and one server of it that tests may ask but not change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from slimpath.tests.runtime.tiny_bundle import build_tiny_bundle
from slimpath.tests.service.running import serving, settings_for


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads the cache of whoever runs it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIMPATH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read it only."""
    return build_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="module")
def client(bundle: Path) -> Iterator[httpx.Client]:
    """The application with its default settings."""
    with serving(settings_for(bundle)) as running:
        yield running
