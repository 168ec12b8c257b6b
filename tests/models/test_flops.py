"""Costs against an independent counter, torch's own, and parameters against what a narrowed network holds."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from slimpath.models import HeadConfig, MultiTaskModel, preset_config
from slimpath.models.encoder import narrowed
from slimpath.models.flops import Cost, encoder_cost, head_cost, router_parameters

WIDTHS = (0.25, 0.5, 0.75, 1.0)
SHAPES: list[dict[str, Any]] = [
    {},
    {"name": "vit_micro"},
    {"image_hw": (32, 48), "heads": 2, "mlp_ratio": 3.0},
    {"moe_blocks": (0, 2), "experts": 6, "top_k": 3, "expert_hidden": 20},
    {"moe_blocks": (3,), "detail_channels": 0},
]


def counted(run: Callable[[], object]) -> int:
    """FLOPs of matrix products and convolutions. The plain attention kernel is made of products that are counted."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        run()
    return counter.get_total_flops()


@pytest.mark.parametrize("overrides", SHAPES)
@pytest.mark.parametrize("width", WIDTHS)
def test_encoder_flops_equal_torchs_count(
    overrides: dict[str, Any], width: float, make_model: Callable[..., MultiTaskModel]
) -> None:
    model = make_model(**overrides)
    config, names = model.config, ["depth", "edge", "depth"]
    router, bias = model.stacked_routers(names)
    images, index = torch.randn(2, 3, *config.image_hw), torch.tensor([0, 0, 1])
    tokens = 1 + config.grid_hw[0] * config.grid_hw[1]
    # Torch also counts the weighted sum over the ranks, which the cost leaves out: T tokens, K ranks, D channels.
    weighted_sums = len(config.moe_blocks) * 2 * (3 * tokens) * config.top_k * config.dim
    for top_k in range(1, config.top_k + 1):
        each = torch.full((3,), top_k)
        total = counted(lambda each=each: model.encoder(images, index, each, router, bias, width=width))
        assert encoder_cost(config, width).flops(2, 3, top_k) == total - weighted_sums


def test_encoder_flops_add_up_over_rows_of_different_top_k(model: MultiTaskModel) -> None:
    router, bias = model.stacked_routers(["depth", "edge", "edge"])
    images, index, top_k = torch.randn(1, 3, 32, 32), torch.zeros(3, dtype=torch.long), torch.tensor([1, 2, 1])
    total = counted(lambda: model.encoder(images, index, top_k, router, bias))
    cost = encoder_cost(model.config)
    weighted_sums = 2 * 2 * (3 * 5) * 2 * 32
    assert cost.flops_image + 3 * cost.flops_row + 4 * cost.flops_row_per_expert == total - weighted_sums


@pytest.mark.parametrize("overrides", [{}, {"image_hw": (32, 48)}, {"detail_channels": 0, "decoder_hidden": 6}])
@pytest.mark.parametrize("width", WIDTHS)
def test_head_flops_equal_torchs_count(
    overrides: dict[str, Any], width: float, make_model: Callable[..., MultiTaskModel]
) -> None:
    model = make_model(**overrides)
    height, side = model.config.image_hw
    tokens = torch.randn(3, 1 + height * side // 256, 32)
    channels = model.config.detail_channels
    detail = torch.randn(3, channels, height // 4, side // 4) if channels else None
    for task in model.config.tasks:
        total = counted(lambda task=task: model.heads[task.name](tokens, detail, width))
        cost = head_cost(model.config, task, width)
        assert cost.flops(images=0, rows=3, top_k=0) == total, task.name
        assert cost.flops_image == cost.flops_row_per_expert == 0


@pytest.mark.parametrize("overrides", SHAPES)
@pytest.mark.parametrize("width", WIDTHS)
def test_parameters_equal_what_the_narrowed_network_holds(
    overrides: dict[str, Any], width: float, make_model: Callable[..., MultiTaskModel]
) -> None:
    model = make_model(**overrides)
    assert encoder_cost(model.config, width).parameters == held(narrowed(model.encoder, width))
    for task in model.config.tasks:
        assert head_cost(model.config, task, width).parameters == held(narrowed(model.heads[task.name], width))
    for router in model.routers.values():
        assert router_parameters(model.config) == held(router)


def held(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_costs_grow_with_the_width(tasks: tuple[HeadConfig, ...]) -> None:
    config = preset_config("m3vit_nano", tasks)
    for costs in ([encoder_cost(config, w) for w in WIDTHS], [head_cost(config, tasks[0], w) for w in WIDTHS]):
        assert [c.flops(1, 1, 4) for c in costs] == sorted({c.flops(1, 1, 4) for c in costs})
        assert [c.parameters for c in costs] == sorted({c.parameters for c in costs})


def test_flops_of_a_call_follow_the_formula() -> None:
    assert Cost(1000, 100, 10, 7).flops(images=2, rows=3, top_k=4) == 2 * 1000 + 3 * (100 + 4 * 10)


def test_dense_model_costs_nothing_per_row(tasks: tuple[HeadConfig, ...]) -> None:
    cost = encoder_cost(preset_config("vit_micro", tasks))
    assert (cost.flops_row, cost.flops_row_per_expert) == (0, 0)


def test_vit_small_costs_what_is_published() -> None:
    # ViT-S/16 (DeiT-S) at 224 is commonly given as 4.6 G multiply-adds; how many heads share them does not matter.
    dense = preset_config("vit_small", (HeadConfig("depth", "depth", 1),), detail_channels=0)
    assert encoder_cost(dense).flops(1, 1, 1) / 2 == pytest.approx(4.6e9, rel=0.01)
