"""Tiny families, read once."""

from __future__ import annotations

import pytest

from slimpath.tests.training.merging.families import read_family
from slimpath.training.merging import Family


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    """An m3vit_micro of 32 x 32 pixels, fine-tuned for semseg, depth and edge. Read it only."""
    return read_family(tmp_path_factory.mktemp("family"))
