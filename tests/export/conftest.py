"""A small random model of every task kind, and its bundle."""

from pathlib import Path

import pytest
import torch

from slimpath.export import export_model
from slimpath.models import HeadConfig, MultiTaskModel, build_preset, save_checkpoint
from slimpath.models.layers import InvertedBottleneck
from slimpath.runtime import Bundle

TASKS = (
    HeadConfig("semseg", "classes", 5),
    HeadConfig("depth", "depth", 1),
    HeadConfig("normals", "normals", 3),
    HeadConfig("edge", "probability", 1),
    HeadConfig("scene", "image_classes", 4),
)


def random_model(
    preset: str, tasks: tuple[HeadConfig, ...] = TASKS, seed: int = 0, **overrides: object
) -> MultiTaskModel:
    """Random weights everywhere: residual branches that start at zero would hide what a graph leaves out."""
    torch.manual_seed(seed)
    model = build_preset(preset, tasks, **overrides)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, InvertedBottleneck):
                layer.down.normal_(std=0.1)
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "bias." in name:
                parameter.normal_(std=0.02)
            elif "norm" in name:  # equal tensors would be stored once by the exporter, and hide a mix-up
                parameter.normal_(mean=1.0, std=0.05)
            elif ".experts." in name or name.startswith("routers."):
                parameter.normal_(std=0.2)  # so that routing and experts matter
    return model.eval()


@pytest.fixture(scope="session")
def model() -> MultiTaskModel:
    return random_model("m3vit_micro")


@pytest.fixture(scope="session")
def checkpoint(model: MultiTaskModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(
        tmp_path_factory.mktemp("checkpoint") / "micro.safetensors", model, {"licence": "Apache-2.0"}
    )


@pytest.fixture(scope="session")
def bundle(model: MultiTaskModel, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Every width at the model's own size."""
    out = tmp_path_factory.mktemp("bundles") / "micro"
    export_model(model, {"licence": "Apache-2.0"}, out, name="micro")
    return Bundle.open(out, verify=True)


@pytest.fixture(scope="session")
def two_task_model() -> MultiTaskModel:
    """A map and an image label: half the graphs to export."""
    return random_model("m3vit_micro", (TASKS[0], TASKS[-1]), seed=1)


@pytest.fixture(scope="session")
def sized_bundle(two_task_model: MultiTaskModel, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Two sizes, two widths."""
    out = tmp_path_factory.mktemp("bundles") / "sized"
    export_model(two_task_model, {}, out, sizes=[(32, 32), (32, 48)], widths=[0.5, 1.0])
    return Bundle.open(out)
