"""Importance says what a unit is worth: by its weights, and by what the answers lose without it."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from slimpath.models import HeadConfig, MultiTaskModel
from slimpath.tests.training.adapt.conftest import TASKS, full_width
from slimpath.training.adapt.errors import AdaptError
from slimpath.training.adapt.importance import fisher, magnitude
from slimpath.training.adapt.units import UnitGroup, reorder_, unit_groups

ONE_MAP = (HeadConfig("depth", "depth", 1),)
IMAGE = torch.randn(24, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def group_of(model: MultiTaskModel, name: str) -> UnitGroup:
    return next(group for group in unit_groups(model) if group.name == name)


@torch.no_grad()
def answers(model: MultiTaskModel, width: float = 1.0) -> Tensor:
    return model(IMAGE[:4], ["depth"] * 4, width=width).raw["depth"]


@pytest.fixture
def model() -> MultiTaskModel:
    """Hidden units of block 2 whose ways out differ by a factor of 100."""
    model = full_width("vit_micro", ONE_MAP)
    down = model.get_parameter("encoder.blocks.2.mlp.down")
    with torch.no_grad():
        size_U = torch.logspace(-2, 0, len(down))[torch.randperm(len(down), generator=torch.Generator().manual_seed(2))]
        down.copy_(torch.nn.functional.normalize(down, dim=1) * size_U[:, None])
    return model


def test_magnitude_is_the_norm_of_all_numbers_of_a_unit(model: MultiTaskModel) -> None:
    group = group_of(model, "encoder.blocks.2.mlp")
    mlp = model.get_submodule("encoder.blocks.2.mlp")
    up, bias, down = (mlp.get_parameter(name).detach() for name in ("up", "up_bias", "down"))
    by_hand = [float(torch.cat([up[unit], bias[unit : unit + 1], down[unit]]).norm()) for unit in range(128)]
    np.testing.assert_allclose(magnitude([group])[0], by_hand, rtol=1e-5)


def test_fisher_ranks_units_as_leaving_each_out_does(model: MultiTaskModel) -> None:
    group = group_of(model, "encoder.blocks.2.mlp")
    found_U = fisher(model, [group], IMAGE.split(1))[0]
    whole, lost = answers(model), []
    for unit in range(group.count):
        without = copy.deepcopy(model)
        without.get_parameter("encoder.blocks.2.mlp.down").data[unit] = 0
        lost.append(float((answers(without) - whole).square().mean()))
    found, by_hand = (np.argsort(np.argsort(values)) for values in (found_U.numpy(), np.array(lost)))
    assert np.corrcoef(found, by_hand)[0, 1] > 0.9


def test_important_units_first_leave_more_of_the_answers_than_last(model: MultiTaskModel) -> None:
    groups = unit_groups(model)
    found = fisher(model, groups, IMAGE.split(1))
    lost = {}
    for name, sign in (("first", 1), ("last", -1)):
        ordered = copy.deepcopy(model)
        reorder_(unit_groups(ordered), [sign * value_U for value_U in found])
        lost[name] = float((answers(ordered, 0.5) - answers(model)).square().mean())
    assert lost["first"] < 0.7 * lost["last"]


def test_fisher_of_every_kind_of_task_is_finite_and_equal_for_equal_seeds() -> None:
    heads = (*TASKS, HeadConfig("normals", "normals", 3))
    model = full_width("m3vit_micro", heads)
    groups = unit_groups(model)
    once, again, other = (fisher(model, groups, IMAGE[:4].split(2), seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(one, two) for one, two in zip(once, again))
    assert not all(torch.equal(one, two) for one, two in zip(once, other))
    assert all(bool(torch.isfinite(value_U).all()) and bool((value_U >= 0).all()) for value_U in once)
    assert all(float(value_U.sum()) > 0 for value_U, group in zip(once, groups) if ".experts" not in group.name)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_experts_that_no_token_visits_count_for_nothing() -> None:
    model = full_width("m3vit_micro", ONE_MAP, experts=4, top_k=2)
    for bias in model.routers["depth"].bias:  # type: ignore[union-attr]
        bias.data[3] = -1e4
    groups = [group for group in unit_groups(model) if group.name.startswith("encoder.blocks.1.experts")]
    found = fisher(model, groups, IMAGE[:4].split(2))
    visited = [float(value_U.sum()) > 0 for value_U in found]
    assert visited[3] is False and sum(visited) >= 2


def test_answers_that_are_not_finite_are_refused(model: MultiTaskModel) -> None:
    with pytest.raises(AdaptError, match="not finite"):
        fisher(model, unit_groups(model), [torch.full((1, 3, 32, 32), 1e38)])
