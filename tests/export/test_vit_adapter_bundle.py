"""A ViT with low-rank adapters, with and without experts, exported: every task and width through the engine."""

from typing import Any

import numpy as np
import onnx
import pytest
import torch

from slimpath.export import export_model
from slimpath.export.reload import model_from_bundle
from slimpath.models import HeadConfig, MultiTaskModel, folded
from slimpath.runtime import Bundle, Engine
from slimpath.tests.export.answering import check_engine_answers

from .conftest import random_model

TASKS = (HeadConfig("semseg", "classes", 5), HeadConfig("depth", "depth", 1), HeadConfig("scene", "image_classes", 4))
WIDTHS = (0.25, 0.5, 1.0)
BRANCHES = {"adapter_mode": "branch", "adapter_on": ("proj", "fc1", "fc2"), "adapter_blocks": (2, 3), "adapter_rank": 3}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "experts": ("m3lora_micro", {}),
    "branches": ("vit_micro", {**BRANCHES, "shared_rank": 2}),
}


def random_adapted(family: str) -> MultiTaskModel:
    preset, settings = FAMILIES[family]
    model = random_model(preset, TASKS, **settings)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "_shared" in name or name.startswith("adapters."):
                parameter.normal_(std=0.1)
    return model


@pytest.fixture(scope="module", params=FAMILIES)
def adapted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[MultiTaskModel, Bundle]:
    model = random_adapted(request.param)
    report = export_model(model, {}, tmp_path_factory.mktemp("adapted") / "bundle", widths=list(WIDTHS))
    return model, Bundle.open(report.path, verify=True)


def test_engine_answers_every_task_at_every_width_as_the_network(adapted: tuple[MultiTaskModel, Bundle]) -> None:
    model, bundle = adapted
    assert all(graph.parity is not None and graph.parity.passed for graph in bundle.manifest.graphs)
    check_engine_answers(model, bundle, WIDTHS)
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    with Engine.load(bundle, threads=1) as engine:
        for width in WIDTHS:
            together = engine(image, budget=f"width={width}")
            for task in TASKS:
                alone = engine(image, tasks=[task.name], budget=f"width={width}")
                np.testing.assert_allclose(alone[task.name], together[task.name], atol=1e-4, rtol=1e-4)


def test_shared_adapters_are_in_the_weights_and_tasks_adapters_beside_them(
    adapted: tuple[MultiTaskModel, Bundle],
) -> None:
    model, bundle = adapted
    again, _ = model_from_bundle(bundle)
    merged = folded(model)
    assert again.config == merged.config
    assert all(torch.equal(value, merged.state_dict()[name]) for name, value in again.state_dict().items())
    for spec in bundle.manifest.graphs:
        graph = onnx.load(bundle.path / spec.file, load_external_data=False).graph
        assert not [
            tensor.name for tensor in graph.initializer if "_shared" in tensor.name or "adapters." in tensor.name
        ]
    tensors = bundle.manifest.encoder.adapters["depth"]
    assert len(tensors) == 2 * len(model.encoder.sites())
    narrow, full = (bundle.graph("encoder", (32, 32), width).adapter_rows for width in (0.25, 1.0))
    assert len(narrow) == len(tensors) and all(rows <= most for rows, most in zip(narrow, full)) and narrow != full


def test_planner_pays_for_rows_what_tasks_do_not_share(adapted: tuple[MultiTaskModel, Bundle]) -> None:
    _, bundle = adapted
    cost = bundle.graph("encoder", (32, 32), 1.0).cost
    assert bundle.manifest.rows_per_task and cost.flops_row > 0
    with Engine.load(bundle, threads=1) as engine:
        one, two = engine.plan(["depth"]), engine.plan(["depth", "scene"])
        head = bundle.graph("head", (32, 32), 1.0, "scene")
        per_row = cost.flops_row + max(1, bundle.manifest.encoder.top_k) * cost.flops_row_per_expert
        assert two.flops - one.flops == per_row + head.cost.flops_row
        assert engine.plan(["depth"], 0.6).flops <= 0.6 * one.flops
