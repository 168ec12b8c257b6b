"""Swin with MTLoRA's adapters: what its branches read, what folding and narrowing keep, what a training may change."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from slimpath.models import (
    ConfigError,
    HeadConfig,
    MultiTaskModel,
    SwinConfig,
    folded,
    freeze_pretrained_,
    load_checkpoint,
    save_checkpoint,
    trainable_parameters,
)
from slimpath.models.encoder import narrowed
from slimpath.models.families import config_from_dict

HRNET = (
    HeadConfig("semseg", "classes", 21, decoder="hrnet", stream=(18, 36, 72, 144)),
    HeadConfig("normals", "normals", 3, decoder="hrnet", stream=(18, 36, 72, 144)),
    HeadConfig("saliency", "probability", 1, decoder="hrnet", stream=(18, 36, 72, 144)),
    HeadConfig("human_parts", "classes", 7, decoder="hrnet", stream=(18, 36, 72, 144)),
)
MIXED = (
    HeadConfig("semseg", "classes", 5, decoder="hrnet", stream=(3, 4, 5, 6)),
    HeadConfig("depth", "depth", 1),
    HeadConfig("scene", "image_classes", 4),
)
#: Every way of adapting; ranks differ between stages so that a mix-up shows.
KINDS: dict[str, dict[str, Any]] = {
    "matrix": {},
    "matrixv2": {"adapter_mode": "matrixv2"},
    "plus": {"merge_adapters": True},
    "shared only": {"task_ranks": (0, 0, 0, 0)},
    "plain": {"task_ranks": (0, 0, 0, 0), "shared_ranks": (0, 0, 0, 0)},
    "tasks only": {"shared_ranks": (0, 0, 0, 0)},
}


@pytest.fixture(scope="session")
def make_swin(make_model: Callable[..., MultiTaskModel]) -> Callable[..., MultiTaskModel]:
    """`mtlora_micro` (64 x 64 pixels) with random weights and batch statistics; adapters of every stage differ."""

    def build(**overrides: Any) -> MultiTaskModel:
        values = {"tasks": MIXED, "shared_ranks": (3, 4, 2, 5), "task_ranks": (2, 1, 3, 2), **overrides}
        model = make_model("mtlora_micro", **values)
        generator = torch.Generator().manual_seed(9)
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                assert layer.running_mean is not None and layer.running_var is not None
                layer.running_mean.normal_(std=0.3, generator=generator)
                layer.running_var.uniform_(0.5, 2.0, generator=generator)
        return model

    return build


@torch.no_grad()
def run(model: MultiTaskModel, images: Tensor, width: float = 1.0, tasks: tuple[str, ...] | None = None) -> dict:
    """Raw answers of every task for every image."""
    names = [task for task in tasks or model.config.task_names for _ in range(len(images))]
    index = torch.arange(len(images)).repeat(len(names) // len(images))
    return model(images, names, width=width, image_index_B=index).raw


@pytest.mark.parametrize(("rank", "trainable"), [(16, 4_953_146), (32, 6_083_642), (64, 8_344_634)])
def test_trainable_parameters_of_mtlora_are_the_published_ones(rank: int, trainable: int) -> None:
    with torch.device("meta"):
        model = MultiTaskModel(SwinConfig(HRNET, image_hw=(448, 448), shared_ranks=(rank,) * 4, task_ranks=(4,) * 4))
    assert trainable_parameters(freeze_pretrained_(model)) == trainable
    if rank == 64:
        assert sum(parameter.numel() for parameter in model.parameters()) == 34_262_906


@pytest.mark.parametrize(
    ("rank", "task_rank", "millions"), [(4, 4, 2.57), (8, 8, 3.15), (16, 16, 4.30), (16, 4, 3.47), (64, 4, 7.05)]
)
def test_trainable_parameters_of_mtlora_plus_are_the_published_ones(rank: int, task_rank: int, millions: float) -> None:
    shared, own = (rank,) * 4, (task_rank,) * 4
    with torch.device("meta"):
        config = SwinConfig(HRNET, image_hw=(448, 448), merge_adapters=True, shared_ranks=shared, task_ranks=own)
        model = MultiTaskModel(config)
    assert round(trainable_parameters(freeze_pretrained_(model)) / 1e6, 2) == millions


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [0.25, 0.5, 1.0])
def test_folding_changes_no_answer_at_any_width(kind: str, width: float, make_swin: Any, make_images: Any) -> None:
    model, images = make_swin(**KINDS[kind]), make_images(2, (64, 64))
    wanted, found = run(model, images, width), run(folded(model), images, width)
    for task, value in wanted.items():
        torch.testing.assert_close(found[task], value, atol=2e-5, rtol=1e-5)


def test_folding_leaves_only_the_adapters_that_branches_need(make_swin: Any) -> None:
    names = [name for name, _ in folded(make_swin(merge_adapters=True)).encoder.named_parameters() if "shared" in name]
    parts = {(name.split(".")[1], name.split(".")[3], name.split(".", 4)[4].rpartition(".")[0]) for name in names}
    depths = (2, 1, 2, 2)
    kept = {(str(s), str(depths[s] - 1), part) for s in range(4) for part in ("attn.proj_shared", "mlp.up_shared")}
    assert parts == kept | {(str(s), str(depths[s] - 1), "mlp.down_shared") for s in range(3)}
    assert not [name for name, _ in folded(make_swin(adapter_mode="matrixv2")).encoder.named_parameters()
                if "shared" in name]  # fmt: skip


@pytest.mark.parametrize("fold", [False, True])
def test_narrowed_network_is_the_width_of_the_whole(fold: bool, make_swin: Any, make_images: Any) -> None:
    model, images = make_swin(), make_images(1, (64, 64))
    model = folded(model) if fold else model
    index, tasks = torch.zeros(3, dtype=torch.long), list(model.config.task_names)
    for width in (0.25, 0.5, 0.75):
        with torch.no_grad():
            wanted = model.encode(images, index, tasks, width=width)
            cut = narrowed(model.encoder, width)
            found = cut(images, index, model.row_inputs(tasks, width)["adapter"])
        for one, other in zip((*wanted.levels, wanted.tokens_BND), (*found.levels, found.tokens_BND), strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)
        held = sum(parameter.numel() for parameter in cut.parameters())
        assert held < sum(parameter.numel() for parameter in model.encoder.parameters())


def test_every_width_answers_otherwise(make_swin: Any, make_images: Any) -> None:
    model, images = make_swin(), make_images(1, (64, 64))
    answers = [run(model, images, width)["depth"] for width in (0.25, 0.5, 0.75, 1.0)]
    for one, other in pairwise(answers):
        assert (one - other).abs().max() > 1e-3


def test_tasks_do_not_see_each_other(make_swin: Any, make_images: Any) -> None:
    """Any subset of tasks, in any order, gives the same numbers, and another task's adapters change nothing."""
    model, images = make_swin(), make_images(2, (64, 64))
    together, alone = run(model, images), run(model, images, tasks=("depth",))
    torch.testing.assert_close(together["depth"], alone["depth"], atol=1e-6, rtol=1e-6)
    with torch.no_grad():
        for parameter in model.adapters["semseg"].parameters():
            parameter.add_(0.5)
    changed = run(model, images)
    torch.testing.assert_close(changed["depth"], together["depth"], atol=0, rtol=0)
    assert (changed["semseg"] - together["semseg"]).abs().max() > 1e-3


def test_every_adapter_of_a_task_matters_to_it(make_swin: Any, make_images: Any) -> None:
    model, images = make_swin(), make_images(1, (64, 64))
    before = run(model, images)["semseg"]  # its decoder reads all four levels
    for name, adapter in model.adapters["semseg"].items():
        kept = adapter.up.detach().clone()
        with torch.no_grad():
            adapter.up.zero_()
        assert (run(model, images)["semseg"] - before).abs().max() > 1e-5, name
        with torch.no_grad():
            adapter.up.copy_(kept)


def test_branches_of_one_mode_are_not_those_of_the_other(make_swin: Any, make_images: Any) -> None:
    images = make_images(1, (64, 64))
    one, other = (run(make_swin(**KINDS[kind]), images)["depth"] for kind in ("matrix", "matrixv2"))
    assert (one - other).abs().max() > 1e-3


def test_rows_take_their_own_image(make_swin: Any, make_images: Any) -> None:
    model, images = make_swin(), make_images(3, (64, 64))
    with torch.no_grad():
        mixed = model(images, ["depth", "depth"], image_index_B=torch.tensor([2, 0])).raw["depth"]
    each = torch.cat([run(model, images[number : number + 1])["depth"] for number in (2, 0)])
    torch.testing.assert_close(mixed, each, atol=1e-5, rtol=1e-5)


def test_shifted_windows_do_not_join_opposite_edges(make_swin: Any) -> None:
    """A change in the last row reaches the first one only through windows that really contain both."""
    model = make_swin(**KINDS["plain"], depths=(2, 1, 1, 1), tasks=MIXED[1:2])
    image = torch.zeros(1, 3, 64, 64)
    changed = image.clone()
    changed[..., -4:, :] = 3.0  # the last row of patches
    stage = model.encoder.stages[0]

    @torch.no_grad()
    def rows_of(picture: Tensor, mask: Tensor | None) -> Tensor:
        tokens = model.encoder.embed_norm(model.encoder.patch_embed(picture).flatten(2).transpose(1, 2))
        for block in stage.blocks:
            tokens = block(tokens, stage.grid_hw, mask, 1.0)
        return tokens.unflatten(1, stage.grid_hw)[0, :, 0]

    # Windows of 4, then shifted by 2: rows 0 and 1 form a window with rows 14 and 15, masked apart.
    difference = rows_of(changed, stage.mask) - rows_of(image, stage.mask)
    assert difference[:2].abs().max() < 1e-6 < difference[-2:].abs().max()
    unmasked = rows_of(changed, None) - rows_of(image, None)
    assert unmasked[:2].abs().max() > 1e-3


def test_other_size_keeps_the_weights_and_wants_the_same_windows(make_swin: Any, make_images: Any) -> None:
    model = make_swin(image_hw=(128, 128))
    larger = model.resized((256, 128))
    assert {name: tuple(value.shape) for name, value in larger.state_dict().items()} == {
        name: tuple(value.shape) for name, value in model.state_dict().items()
    }
    assert run(larger, make_images(1, (256, 128)))["depth"].shape == (1, 1, 256, 128)
    with pytest.raises(ConfigError, match=r"windows of another size"):
        model.resized((64, 64))
    with pytest.raises(ConfigError, match="must be multiples of the window"):
        model.resized((96, 128))


def test_freezing_survives_another_size(make_swin: Any) -> None:
    model = freeze_pretrained_(make_swin(image_hw=(128, 128)))
    assert trainable_parameters(model.resized((256, 256))) == trainable_parameters(model)


def test_frozen_are_the_products_beside_adapters_and_nothing_else(make_swin: Any) -> None:
    model = freeze_pretrained_(make_swin(merge_adapters=True))
    frozen = {name.rpartition(".")[2] for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"qkv", "qkv_bias", "proj", "proj_bias", "up", "up_bias", "down", "down_bias", "reduction"}
    assert all(p.requires_grad for name, p in model.named_parameters() if "shared" in name or name[0] in "ah")


def test_training_step_reaches_every_trainable_parameter_but_the_dead_adapter(make_swin: Any, make_images: Any) -> None:
    model = make_swin().train()
    out = model(make_images(2, (64, 64)), ["semseg", "depth", "scene"] * 2, image_index_B=torch.arange(6) % 2)
    torch.stack([(raw**2).mean() for raw in out.raw.values()]).sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    # Nothing reads the shared output of the last stage, as upstream; a pooled head reads the deepest level only.
    dead = "encoder.stages.3.blocks.1.mlp.down_shared"
    unread = [name for name in dict(model.named_parameters()) if name.startswith("adapters.scene.stage")]
    assert without == [f"{dead}.down", f"{dead}.up", *(name for name in unread if "stage3" not in name)]


def test_checkpoint_comes_back_whole(make_swin: Any, make_images: Any, tmp_path: Any) -> None:
    model, images = make_swin(), make_images(1, (64, 64))
    again, metadata = load_checkpoint(save_checkpoint(tmp_path / "swin.safetensors", model, {"licence": "x"}))
    assert again.config == model.config and metadata == {"licence": "x"}
    for task, value in run(model, images).items():
        assert torch.equal(run(again, images)[task], value)


def test_configuration_goes_through_json_and_tells_its_family(make_swin: Any) -> None:
    import json

    config = make_swin().config
    assert config_from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(ConfigError, match="family must be 'vit' or 'swin', got 'resnet'"):
        config_from_dict({**config.to_dict(), "family": "resnet"})
    with pytest.raises(ConfigError, match="not a model configuration"):
        config_from_dict({**config.to_dict(), "dims": 3})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": (3, 4, 4, 4)}, "the channels of stage 0, 16, must be a multiple of heads, got 3"),
        ({"depths": (2, 2, 2)}, "depths must be 4 numbers, one a stage"),
        ({"depths": (2, 0, 2, 2)}, "depths must be 4 numbers, one a stage, each at least 1"),
        ({"image_hw": (64, 72)}, "image size must be multiples of 32"),
        ({"image_hw": (96, 96)}, "the grid of stage 2, (6, 6)"),
        ({"window": 0}, "window must be at least 1"),
        ({"task_ranks": (1, 0, 1, 1)}, "task_ranks must be above 0 in every stage, or 0 in every stage"),
        ({"shared_ranks": (-1, 0, 0, 0)}, "shared_ranks must be 4 numbers"),
        ({"adapter_mode": "addition"}, "adapter_mode must be one of"),
        ({"patch": 8, "image_hw": (128, 128)}, "slimmable decoders for maps need a patch of 4"),
        ({"tasks": (HeadConfig("x", "depth", 1, decoder="setr_pup", stream=(8,)),)}, "does not read the features"),
    ],
)
def test_impossible_configuration_is_refused(change: dict[str, Any], message: str, make_swin: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        MultiTaskModel(replace(make_swin().config, **change))
    assert message in str(caught.value)
