"""Units that widths cut are found, and their order does not matter at full width."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from slimpath.models import HeadConfig, MultiTaskModel
from slimpath.models.swin_layers import WindowAttention
from slimpath.tests.training.adapt.conftest import TASKS, full_width
from slimpath.training.adapt.errors import AdaptError
from slimpath.training.adapt.units import reorder_, unit_groups

SETR = HeadConfig("normals", "normals", 3, decoder="setr_pup", stream=(8,))
HRNET = HeadConfig("normals", "normals", 3, decoder="hrnet", stream=(4, 4, 4, 4))
TASK_EXPERT = HeadConfig("semseg", "classes", 3, decoder="taskexpert")
NETWORKS = {
    "vit": full_width("vit_micro"),
    "vit, one of its tasks with a published head": full_width("vit_micro", (*TASKS, SETR)),
    "vit with adapters": full_width("vit_micro", adapter_blocks=(1, 3), adapter_rank=2),
    "vit with adapters on every product": full_width(
        "vit_micro", adapter_blocks=(0, 2), adapter_rank=2, adapter_on=("qkv", "proj", "fc1", "fc2"), shared_rank=2
    ),
    "vit with branches": full_width(
        "vit_micro",
        adapter_blocks=(2, 3),
        adapter_rank=2,
        adapter_on=("proj", "fc1", "fc2"),
        adapter_mode="branch",
        shared_rank=2,
    ),
    "vit with decoders that share experts": full_width("vit_micro", (TASK_EXPERT, TASKS[1]), taps=(1,)),
    "experts": full_width("m3vit_micro"),
    "experts with a shared adapter": full_width(
        "m3vit_micro", adapter_blocks=(1, 3), adapter_rank=2, adapter_on=("qkv", "proj", "feed"), shared_rank=2
    ),
    "experts with adapters": full_width("m3vit_micro", adapter_blocks=(0, 1, 3), adapter_rank=2),
    "swin": full_width("swin_micro"),
    "swin with adapters": full_width("mtlora_micro"),
    "swin with all adapters": full_width("mtlora_micro", (*TASKS, HRNET), adapter_mode="matrixv2", merge_adapters=True),
    "swin with shared adapters alone": full_width("swin_micro", shared_ranks=(2, 2, 2, 2)),
}
by_network = pytest.mark.parametrize("name", NETWORKS)


@torch.no_grad()
def answers(model: MultiTaskModel, width: float = 1.0) -> dict[str, Tensor]:
    image = torch.randn(2, 3, *model.config.image_hw, generator=torch.Generator().manual_seed(0))
    tasks = [task for task in model.config.task_names for _ in range(2)]
    index = torch.arange(2).repeat(len(model.config.task_names))
    return model(image, tasks, width=width, image_index_B=index).raw


def shuffled(model: MultiTaskModel, seed: int = 0) -> MultiTaskModel:
    import copy

    clone, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    groups = unit_groups(clone)
    reorder_(groups, [torch.rand(group.count, generator=generator) for group in groups])
    return clone


@by_network
def test_any_order_of_units_gives_the_same_answers_at_full_width(name: str) -> None:
    model = NETWORKS[name]
    before, after = answers(model), answers(shuffled(model))
    for task, raw in before.items():
        # fp32: the same sums in another order.
        assert torch.allclose(raw, after[task], rtol=0, atol=2e-5 * max(1.0, float(raw.abs().max()))), task


@by_network
def test_order_of_units_decides_what_narrow_widths_answer(name: str) -> None:
    """Otherwise nothing was moved, and the test above proves nothing."""
    model = NETWORKS[name]
    before, after = answers(model, 0.5), answers(shuffled(model), 0.5)
    assert all(not torch.allclose(raw, after[task], rtol=0, atol=1e-3) for task, raw in before.items())


def test_groups_are_heads_hidden_units_and_each_experts_own() -> None:
    groups = {group.name: group for group in unit_groups(NETWORKS["experts with adapters"])}
    assert groups["encoder.blocks.0.attn"].count == 4
    assert {part.rows for part in groups["encoder.blocks.0.attn"].parts} == {24, 8}  # 3 x 8 of qkv, 8 of proj
    assert groups["encoder.blocks.0.mlp"].count == 128
    experts = [group for name, group in groups.items() if name.startswith("encoder.blocks.1.experts.")]
    assert [group.count for group in experts] == [32] * 4
    # The adapters of four tasks beside the projection read the heads.
    assert sum(part.way_out for part in groups["encoder.blocks.0.attn"].parts) == 1 + len(TASKS)
    assert groups["heads.semseg.coarse.0"].count == 32 and groups["heads.scene"].count == 32


def test_experts_that_an_adapter_changes_alike_have_their_units_in_common() -> None:
    groups = [group for group in unit_groups(NETWORKS["experts with a shared adapter"]) if "blocks.1.exp" in group.name]
    assert [(group.name, group.count) for group in groups] == [("encoder.blocks.1.experts", 32)]
    assert len(groups[0].parts) == 3 * 4 + 2  # up, up_bias and down of four experts, and the adapters beside them


def test_stages_of_a_swin_have_their_own_units() -> None:
    model = NETWORKS["swin with adapters"]
    groups = {group.name: group for group in unit_groups(model)}
    heads = [groups[f"encoder.stages.{stage}.blocks.0.attn"].count for stage in range(4)]
    assert heads == [2, 4, 4, 4]
    attention = model.get_submodule("encoder.stages.0.blocks.0.attn")
    assert isinstance(attention, WindowAttention) and attention.bias_table is not None
    assert any(part.tensor is attention.bias_table for part in groups["encoder.stages.0.blocks.0.attn"].parts)


def test_a_single_unit_is_no_group() -> None:
    groups = [group.name for group in unit_groups(full_width("vit_micro", heads=1))]
    assert groups and not any(name.endswith("attn") for name in groups)


def test_most_important_come_first_and_equal_ones_stay() -> None:
    model = full_width("vit_micro")
    group = next(group for group in unit_groups(model) if group.name == "encoder.blocks.2.mlp")
    up = model.get_parameter("encoder.blocks.2.mlp.up")
    before = up.detach().clone()
    value = torch.zeros(group.count)
    value[7], value[3] = 2.0, 1.0
    reorder_([group], [value])
    rest = [unit for unit in range(group.count) if unit not in (3, 7)]
    assert torch.equal(up, before[[7, 3, *rest]])


def test_adapters_at_an_unknown_place_are_refused() -> None:
    model = full_width("vit_micro", adapter_blocks=(1,), adapter_rank=2)
    block = model.get_submodule("encoder.blocks.1")
    block.site = "somewhere"  # type: ignore[assignment]
    for task in model.adapters.values():
        for site in ("proj", "feed"):
            task[f"somewhere_{site}"] = task.pop(f"block1_{site}")  # type: ignore[index, operator]
    with pytest.raises(AdaptError, match="not known which layer the adapters at 'somewhere_proj'"):
        unit_groups(model)
