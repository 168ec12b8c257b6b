"""Tiny networks, the same on every run. All of it runs on one CPU thread in milliseconds."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from slimpath.models import HeadConfig, MultiTaskModel, build_preset

TASKS = (
    HeadConfig("semseg", "classes", 5),
    HeadConfig("depth", "depth", 1),
    HeadConfig("normals", "normals", 3),
    HeadConfig("edge", "probability", 1),
    HeadConfig("scene", "image_classes", 4),
)


def enliven(model: nn.Module, seed: int = 0) -> None:
    """Draw every parameter anew, so that none is zero or one by its initialisation and hides a mistake."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        with torch.no_grad():
            if re.search(r"\bnorm\d?\.", name):  # not the task "normals"
                parameter.copy_(0.2 * noise + (1.0 if name.endswith("weight") else 0.0))
            elif name.endswith(("class_token", "position")) or parameter.ndim == 1:
                parameter.copy_(0.3 * noise)
            else:
                parameter.copy_(noise * max(parameter.shape[0], parameter[0].numel()) ** -0.5)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Products of this size only get slower with more threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tasks() -> tuple[HeadConfig, ...]:
    """One task of every kind."""
    return TASKS


@pytest.fixture(scope="session")
def make_model() -> Callable[..., MultiTaskModel]:
    """Build a preset in evaluation mode, every parameter random; any field of its configuration can be overridden."""

    def build(name: str = "m3vit_micro", *, seed: int = 0, **overrides: Any) -> MultiTaskModel:
        model = build_preset(name, overrides.pop("tasks", TASKS), **overrides)
        enliven(model, seed)
        return model.eval()

    return build


@pytest.fixture
def model(make_model: Callable[..., MultiTaskModel]) -> MultiTaskModel:
    """A fresh `m3vit_micro` of 32 x 32 pixels: 4 blocks, experts in blocks 1 and 3, 4 experts, top-2."""
    return make_model()


@pytest.fixture(scope="session")
def make_images() -> Callable[..., Tensor]:
    """Random normalised images [I, 3, H, W]."""

    def draw(count: int = 2, size_hw: tuple[int, int] = (32, 32), *, seed: int = 1) -> Tensor:
        return torch.randn(count, 3, *size_hw, generator=torch.Generator().manual_seed(seed))

    return draw
