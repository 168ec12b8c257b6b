"""Costs of decoders after TaskExpert against torch's own counter, and against what a narrowed network holds."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from slimpath.models import HeadConfig, MultiTaskModel, preset_config
from slimpath.models.encoder import narrowed
from slimpath.models.flops import encoder_cost, head_cost, router_parameters
from slimpath.models.presets import PRESETS

from .test_flops import counted

TASKS = (HeadConfig("semseg", "classes", 5), HeadConfig("depth", "depth", 1), HeadConfig("scene", "image_classes", 4))
WIDTHS = (0.25, 0.5, 0.75, 1.0)
SHAPES: list[dict[str, Any]] = [
    {"name": "taskexpert_vit_micro"},
    {"name": "taskexpert_m3vit_micro", "image_hw": (32, 48), "decoder_experts": 3, "decoder_expert_hidden": 6},
    {"name": "taskexpert_m3vit_micro", "taps": (1,), "detail_channels": 0},
    {"name": "taskexpert_swin_micro"},
    {"name": "taskexpert_mtlora_micro", "image_hw": (64, 128), "decoder_experts": 2},
]


@pytest.fixture(params=SHAPES, ids=lambda shape: "-".join(map(str, shape.values())))
def model(request: pytest.FixtureRequest, make_model: Callable[..., MultiTaskModel]) -> MultiTaskModel:
    return make_model(**{"tasks": TASKS, **request.param})


def held(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("width", WIDTHS)
def test_flops_and_parameters_equal_what_is_counted(model: MultiTaskModel, width: float) -> None:
    config, rows = model.config, torch.tensor([0, 1])
    features = model.encode(torch.randn(2, 3, *config.image_hw), rows, ["depth"] * 2, torch.tensor([1, 1]))
    for task in config.tasks:
        cost = head_cost(config, task, width)
        total = counted(lambda task=task: model.decode(task.name, features, rows[:1], rows[:1], width))
        assert cost.flops(images=0, rows=1, top_k=0) == total, task.name
        kept = held(narrowed(model.heads[task.name], width))
        if task.decoder == "taskexpert":
            kept += held(narrowed(model.decoder_experts, width))
        assert cost.parameters == kept, task.name


def test_narrow_decoder_costs_less(model: MultiTaskModel) -> None:
    costs = [head_cost(model.config, model.config.tasks[0], width) for width in WIDTHS]
    for values in ([cost.flops(0, 1, 0) for cost in costs], [cost.parameters for cost in costs]):
        assert values == sorted(set(values))


def test_taps_cost_the_encoder_nothing() -> None:
    native = preset_config("m3vit_micro", TASKS)
    assert encoder_cost(native) == encoder_cost(preset_config("taskexpert_m3vit_micro", TASKS))


@pytest.mark.parametrize("name", PRESETS)
def test_any_preset_can_have_them_and_holds_what_it_is_said_to(name: str) -> None:
    with torch.device("meta"):  # shapes without memory
        model = MultiTaskModel(preset_config(f"taskexpert_{name}", TASKS))
    config, shared = model.config, held(model.decoder_experts)
    expected = encoder_cost(config).parameters + len(model.routers) * router_parameters(config)
    expected += len(model.adapters) * sum(site.numbers for site in model.encoder.sites())
    expected += (
        sum(head_cost(config, task).parameters for task in config.tasks) - shared
    )  # two maps, one set of experts
    assert held(model) == expected
