"""Low-rank adapters of each task in a ViT, dense or with experts: rows differ by task, nothing else changes."""

from typing import Any

import pytest
import torch

from slimpath.models import ConfigError, MultiTaskModel, build_preset, freeze_pretrained_, trainable_parameters
from slimpath.models.encoder import narrowed

from .conftest import TASKS

MAPS = TASKS[:3]


def adapted(make_model: Any, name: str, blocks: tuple[int, ...] = (2, 3)) -> MultiTaskModel:
    return make_model(name, tasks=MAPS, adapter_blocks=blocks, adapter_rank=3, adapter_scale=0.5)


def tokens(model: MultiTaskModel, images: torch.Tensor, tasks: list[str], width: float = 1.0) -> torch.Tensor:
    index, top_k = torch.arange(len(tasks)) % len(images), torch.full((len(tasks),), model.config.top_k)
    with torch.no_grad():
        return model.encode(images, index, tasks, top_k, width=width).tokens_BND


@pytest.mark.parametrize("name", ["m3vit_micro", "vit_micro"])
@pytest.mark.parametrize("blocks", [(0,), (1, 2), (3,)])
def test_adapters_of_zeros_change_nothing(
    name: str, blocks: tuple[int, ...], make_model: Any, make_images: Any
) -> None:
    model, plain = adapted(make_model, name, blocks), make_model(name, tasks=MAPS)
    plain.load_state_dict({key: value for key, value in model.state_dict().items() if not key.startswith("adapters.")})
    with torch.no_grad():
        for task in model.adapters.values():
            for adapter in task.values():  # type: ignore[operator]
                adapter.up.zero_()
    names = ["semseg", "normals"]
    torch.testing.assert_close(
        tokens(model, make_images(2), names), tokens(plain, make_images(2), names), atol=1e-6, rtol=1e-6
    )


@pytest.mark.parametrize("name", ["m3vit_micro", "vit_micro"])
@pytest.mark.parametrize("width", [0.25, 1.0])
def test_rows_of_one_image_differ_by_task_alone(name: str, width: float, make_model: Any, make_images: Any) -> None:
    model, image = adapted(make_model, name), make_images(1)
    rows = tokens(model, image, ["semseg", "depth", "semseg"], width)
    assert torch.equal(rows[0], rows[2])
    assert (rows[0] - rows[1]).abs().max() > 1e-3
    alone = tokens(model, image, ["depth"], width)
    torch.testing.assert_close(rows[1:2], alone, atol=1e-5, rtol=1e-5)


def test_adapters_alone_tell_the_tasks_of_a_dense_vit_apart(make_model: Any, make_images: Any) -> None:
    model = adapted(make_model, "vit_micro")
    assert model.config.per_task and not make_model("vit_micro", tasks=MAPS).config.per_task
    with torch.no_grad():
        for site, adapter in model.adapters["depth"].items():  # type: ignore[operator]
            adapter.load_state_dict(model.adapters["semseg"][site].state_dict())  # type: ignore[index]
    rows = tokens(model, make_images(1), ["semseg", "depth", "normals"])
    assert torch.equal(rows[0], rows[1]) and not torch.equal(rows[0], rows[2])


@pytest.mark.parametrize("name", ["m3vit_micro", "vit_micro"])
def test_narrowed_network_is_the_width_of_the_whole(name: str, make_model: Any, make_images: Any) -> None:
    model, images, names = adapted(make_model, name), make_images(2), ["semseg", "depth"]
    index, top_k = torch.arange(2), torch.full((2,), model.config.top_k)
    for width in (0.25, 0.5):
        rows = model.row_inputs(names, width)
        cut = narrowed(model.encoder, width)
        with torch.no_grad():
            found = cut(images, index, top_k, rows.get("router"), rows.get("router_bias"), rows["adapter"])
        torch.testing.assert_close(found.tokens_BND, tokens(model, images, names, width), atol=1e-5, rtol=1e-5)


def test_frozen_model_trains_adapters_norms_routers_and_decoders() -> None:
    model = freeze_pretrained_(build_preset("m3vit_micro", MAPS, adapter_blocks=(1, 3), adapter_rank=2))
    thawed = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert thawed == {"encoder", "routers", "adapters", "heads"}
    inside = [name for name, p in model.encoder.named_parameters() if p.requires_grad]
    assert not [name for name in inside if ".attn." in name or ".mlp." in name or ".experts." in name]
    whole = sum(parameter.numel() for parameter in model.parameters())
    assert trainable_parameters(model) < whole


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"adapter_blocks": (4,), "adapter_rank": 2}, r"adapter_blocks must lie in 0\.\.3, got \(4,\)"),
        ({"adapter_blocks": (1,)}, "adapters need blocks and a rank"),
        ({"adapter_rank": 2}, "adapters need blocks and a rank"),
        ({"gate_floor": 1.0}, r"gate_floor lie in \[0, 1\)"),
        ({"gate_input": "tokens"}, "gate_input must be one of"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_preset("m3vit_micro", MAPS, **change)


def test_routers_can_read_the_blocks_input_and_small_scores_can_be_dropped(make_model: Any, make_images: Any) -> None:
    """M3ViT's two options, against the definition."""
    images, names = make_images(1), ["depth"]
    index, top_k = torch.zeros(1, dtype=torch.long), torch.tensor([2])
    plain = make_model(tasks=MAPS)
    ahead = make_model(tasks=MAPS, gate_input="block")
    with torch.no_grad():
        found = ahead.encode(images, index, names, top_k).routings[0]
        first, second = ahead.encoder.blocks[0], ahead.encoder.blocks[1]
        detail = ahead.encoder.detail(images, 1.0)
        entered = ahead.encoder.embed(images, detail)
        entered = first.attend(entered, 1.0)
        entered = first.feed(entered, 1.0)  # what block 1 gets
        logits = entered @ ahead.routers["depth"].weight[0] + ahead.routers["depth"].bias[0]
        torch.testing.assert_close(found.logits_BNE, logits, atol=1e-5, rtol=1e-5)
        assert second.is_moe
        assert (plain.encode(images, index, names, top_k).routings[0].logits_BNE - logits).abs().max() > 1e-3

        pruned = make_model(tasks=MAPS, gate_floor=0.3).encode(images, index, names, top_k).routings[0]
        usual = plain.encode(images, index, names, top_k).routings[0]
        expected = torch.where(usual.weight_BNK > 0.3, usual.weight_BNK, 0.0)
        assert torch.equal(pruned.weight_BNK, expected) and (expected == 0).any() and (expected > 0).any()
