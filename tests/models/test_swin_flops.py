"""Costs of Swins and of published decoders, against torch's own counter and against what a network holds."""

from typing import Any

import pytest
import torch

from slimpath.models import HeadConfig, MultiTaskModel, build_preset, folded
from slimpath.models.encoder import narrowed
from slimpath.models.flops import encoder_cost, head_cost

from .test_flops import counted
from .test_swin import KINDS, MIXED

LINEAR = (HeadConfig("label", "image_classes", 7, decoder="linear", pool="mean"),)
WIDTHS = (0.25, 0.75, 1.0)


def swin(fold: bool = False, **overrides: Any) -> MultiTaskModel:
    ranks = {"shared_ranks": (3, 4, 2, 5), "task_ranks": (2, 1, 3, 2)}
    model = build_preset("mtlora_micro", overrides.pop("tasks", MIXED), **{**ranks, **overrides}).eval()
    return folded(model) if fold else model


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", WIDTHS)
def test_encoder_flops_equal_torchs_count(width: float, kind: str, fold: bool) -> None:
    model = swin(fold, **KINDS[kind])
    images, index, tasks = torch.randn(2, 3, 64, 64), torch.tensor([0, 0, 1]), ["depth", "semseg", "depth"]
    total = counted(lambda: model.encode(images, index, tasks, width=width))
    cost = encoder_cost(model.config, width)
    assert cost.flops(2, 3, 1) == total
    assert (cost.flops_row > 0) == model.config.per_task


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("width", WIDTHS)
def test_parameters_equal_what_the_narrowed_network_holds(width: float, fold: bool) -> None:
    model = swin(fold, merge_adapters=True)
    held = sum(parameter.numel() for parameter in narrowed(model.encoder, width).parameters())
    assert encoder_cost(model.config, width).parameters == held
    for task in model.config.tasks:
        cut = narrowed(model.heads[task.name], width)
        assert head_cost(model.config, task, width).parameters == sum(p.numel() for p in cut.parameters()), task.name


@pytest.mark.parametrize("tasks", [MIXED, LINEAR])
@pytest.mark.parametrize("width", WIDTHS)
def test_head_flops_equal_torchs_count(width: float, tasks: tuple[HeadConfig, ...]) -> None:
    model = swin(tasks=tasks)
    rows = [task.name for task in tasks]
    features = model.encode(torch.randn(1, 3, 64, 64), torch.zeros(len(rows), dtype=torch.long), rows)
    for row, task in enumerate(tasks):
        place = torch.tensor([row])
        total = counted(lambda task=task, place=place: model.decode(task.name, features, place, place * 0, width))
        assert head_cost(model.config, task, width).flops(0, 1, 0) == total, task.name


@pytest.mark.parametrize("fold", [False, True])
def test_setr_head_flops_equal_torchs_count(fold: bool) -> None:
    heads = (
        HeadConfig("semseg", "classes", 5, decoder="setr_pup", stream=(6,)),
        HeadConfig("label", "image_classes", 3, decoder="linear"),
    )
    model = build_preset("m3vit_micro", heads).eval()
    model = folded(model) if fold else model
    for task in heads:
        total = counted(lambda task=task: model.heads[task.name](torch.randn(1, 5, 32)))
        assert head_cost(model.config, task).flops(0, 1, 0) == total
        held = sum(parameter.numel() for parameter in model.heads[task.name].parameters())
        assert head_cost(model.config, task).parameters == held


@pytest.mark.parametrize("adapter_blocks", [(0, 2), (1,), (2, 3), (3,)])
@pytest.mark.parametrize("name", ["m3vit_micro", "vit_micro"])
def test_encoder_flops_of_an_adapted_vit_equal_torchs_count(name: str, adapter_blocks: tuple[int, ...]) -> None:
    model = build_preset(name, MIXED[1:2], adapter_blocks=adapter_blocks, adapter_rank=3).eval()
    config = model.config
    images, index, top_k = torch.randn(2, 3, 32, 32), torch.tensor([0, 0, 1]), torch.full((3,), config.top_k)
    for width in WIDTHS:
        total = counted(lambda width=width: model.encode(images, index, ["depth"] * 3, top_k, width=width))
        weighted_sums = len(config.moe_blocks) * 2 * (3 * 5) * config.top_k * config.dim
        assert encoder_cost(config, width).flops(2, 3, config.top_k) == total - weighted_sums
