"""A bundle of a micro network, and toy samples of a task that it does not have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slimpath.export import export_model
from slimpath.models import MultiTaskModel
from slimpath.runtime.tasks import TaskSpec
from slimpath.tests.export.conftest import TASKS, random_model
from slimpath.training.packs.run import Samples

BLOBS = TaskSpec("blobs", "classes", 2, ("ground", "blob"), unit="class id")


class ToyBlobs:
    """A bright box on a dark ground; the box is the blob."""

    def __init__(self, first: int, count: int, size_hw: tuple[int, int] = (64, 64)) -> None:
        self.first, self.count, self.size_hw = first, count, size_hw

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int, /) -> Mapping[str, Any]:
        rng = np.random.default_rng(self.first + index)
        top, left = rng.integers(0, self.size_hw[0] // 2, 2)
        truth = np.zeros(self.size_hw, np.uint8)
        truth[top : top + 32, left : left + 32] = 1
        image = np.where(truth[..., None] == 1, 220, 40) + rng.normal(0, 8, (*self.size_hw, 3))
        return {"image": image.clip(0, 255).astype(np.uint8), "semseg": truth}

    def __str__(self) -> str:
        return f"toy blobs from {self.first}"


def blob_samples(trained: int = 12, held: int = 4) -> Samples:
    return Samples(BLOBS, ToyBlobs(0, trained), ToyBlobs(1000, held))


@pytest.fixture(scope="session")
def network() -> MultiTaskModel:
    """A map and an image label."""
    return random_model("m3vit_micro", (TASKS[0], TASKS[-1]), image_hw=(64, 64))


@pytest.fixture(scope="session")
def micro_bundle(network: MultiTaskModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundles") / "micro"
    export_model(network, {"licence": "Apache-2.0"}, out, name="micro", widths=[0.5, 1.0], check=False)
    return out
