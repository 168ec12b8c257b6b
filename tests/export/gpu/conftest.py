"""A small random model as a bundle, and the same with graphs for GPUs in every precision."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from slimpath.export import Calibration, export_model
from slimpath.export.gpu import GpuReport, add_gpu_graphs
from slimpath.models import HeadConfig, MultiTaskModel, build_preset
from slimpath.models.layers import InvertedBottleneck
from slimpath.runtime import Bundle

TASKS = (HeadConfig("depth", "depth", 1), HeadConfig("scene", "image_classes", 4))


def random_model(preset: str, tasks: tuple[HeadConfig, ...] = TASKS, **overrides: object) -> MultiTaskModel:
    """Random weights everywhere: residual branches that start at zero would hide what a graph leaves out."""
    torch.manual_seed(0)
    model = build_preset(preset, tasks, **overrides)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, InvertedBottleneck):
                layer.down.normal_(std=0.1)
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "bias." in name:
                parameter.normal_(std=0.02)
            elif "norm" in name:
                parameter.normal_(mean=1.0, std=0.05)
            elif ".experts." in name or name.startswith("routers."):
                parameter.normal_(std=0.2)
    return model.eval()


def noise_pictures(count: int = 2) -> Calibration:
    generator = np.random.default_rng(0)
    return Calibration([generator.integers(0, 256, (40, 40, 3), dtype=np.uint8) for _ in range(count)], "noise")


@pytest.fixture(scope="session")
def moe_model() -> MultiTaskModel:
    return random_model("m3vit_micro")


@pytest.fixture(scope="session")
def plain_bundle(moe_model: MultiTaskModel, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("bundles") / "plain"
    export_model(moe_model, {}, out, widths=[0.5, 1.0], check=False)
    return Bundle.open(out)


@pytest.fixture(scope="session")
def gpu_report(plain_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> GpuReport:
    """Two encoders, a batch of one image and two rows, three precisions; `test_families.py` has larger batches."""
    return add_gpu_graphs(
        plain_bundle,
        tmp_path_factory.mktemp("bundles") / "gpu",
        precisions=("fp32", "fp16", "int8"),
        configurations=[(0.5, 1), (1.0, 2)],
        batches=[(1, 2)],
        calibration=noise_pictures(),
    )


@pytest.fixture(scope="session")
def gpu_bundle(gpu_report: GpuReport) -> Bundle:
    return Bundle.open(gpu_report.path)


@pytest.fixture(scope="session")
def make_model() -> Callable[..., MultiTaskModel]:
    """A preset with random weights everywhere."""
    return random_model
