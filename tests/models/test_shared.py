"""Low-rank adapters that all tasks share in a ViT: what they add, that folding keeps it, that widths are prefixes."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from slimpath.models import (
    ConfigError,
    ModelConfig,
    MultiTaskModel,
    build_preset,
    folded,
    freeze_pretrained_,
    load_checkpoint,
    preset_config,
    save_checkpoint,
)
from slimpath.models.encoder import narrowed
from slimpath.models.fold import folds
from slimpath.models.moe import Routing
from slimpath.models.shared import SharedAttention, SharedExperts, SharedMlp
from slimpath.models.widths import kept
from slimpath.training.kernels import fast_cpu_kernels

from .conftest import TASKS
from .test_layers import WIDTHS, draw

SHARED = {"shared_rank": 3, "shared_scale": 0.5}
#: Preset and what is shared where.
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "dense": ("vit_micro", SHARED),
    "experts": ("m3vit_micro", SHARED),
    "some blocks": ("m3vit_micro", {**SHARED, "shared_blocks": (0, 3)}),
    "attention alone": ("m3vit_micro", {**SHARED, "shared_on": ("qkv", "proj")}),
    "second products alone": ("m3vit_micro", {**SHARED, "shared_on": ("fc2",)}),
    "with those of tasks": ("m3lora_micro", {}),
}


@torch.no_grad()
def answers(model: MultiTaskModel, images: Tensor, width: float) -> dict[str, Tensor]:
    names = [*model.config.task_names]
    return model(images, names, width=width, image_index_B=torch.zeros(len(names), dtype=torch.long)).raw


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [0.25, 0.5, 1.0])
def test_folding_changes_no_answer_at_any_width(kind: str, width: float, make_model: Any, make_images: Any) -> None:
    preset, settings = KINDS[kind]
    model, images = make_model(preset, **settings), make_images(1)
    wanted, found = answers(model, images, width), answers(folded(model), images, width)
    for task, value in wanted.items():
        torch.testing.assert_close(found[task], value, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_what_deploys_has_the_weights_of_a_plain_network_and_no_adapter_that_is_shared(
    kind: str, make_model: Any
) -> None:
    preset, settings = KINDS[kind]
    model = make_model(preset, **settings)
    merged = folded(model)
    assert merged.config.folded and not folds(merged.config)
    again = MultiTaskModel(merged.config)
    again.load_state_dict(merged.state_dict())  # a bundle is read back this way
    assert any("_shared" in name for name in model.state_dict())
    assert not any("_shared" in name for name in merged.state_dict())
    assert not torch.equal(merged.encoder.blocks[3].attn.proj, model.encoder.blocks[3].attn.proj) or (
        kind == "second products alone"
    )


@pytest.mark.parametrize("preset", ["vit_micro", "m3vit_micro"])
def test_shared_adapters_of_zeros_change_nothing_and_others_do(preset: str, make_model: Any, make_images: Any) -> None:
    model, plain = make_model(preset, **SHARED), make_model(preset)
    own = {name: value for name, value in model.state_dict().items() if "_shared" not in name}
    plain.load_state_dict(own)
    before, wanted = answers(model, make_images(1), 0.5), answers(plain, make_images(1), 0.5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("_shared.up"):
                parameter.zero_()
    after = answers(model, make_images(1), 0.5)
    for task, value in wanted.items():
        torch.testing.assert_close(after[task], value, atol=1e-6, rtol=1e-6)
        assert (before[task] - value).abs().max() > 1e-3, task


def shared_layers() -> dict[str, nn.Module]:
    return {
        "attention": draw(SharedAttention(12, 3, (2, 3), 0.5)),
        "mlp": draw(SharedMlp(8, 12, (2, 3), 0.5)),
        "experts": draw(SharedExperts(8, 12, 2, (2, 3), 0.5)),
    }


def run_layer(layer: nn.Module, width: float) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(2, 5, 12 if isinstance(layer, SharedAttention) else 8, generator=generator)
    if isinstance(layer, SharedExperts):
        expert = torch.tensor([0, 1, 1, 0, 1]).expand(2, 5)[..., None]
        weight = torch.rand(2, 5, 1, generator=generator)
        return layer(tokens, Routing(expert, weight, weight, weight), width)
    return layer(tokens if isinstance(layer, SharedAttention) else tokens.flatten(0, 1), width)


@pytest.mark.parametrize("name", ["attention", "mlp", "experts"])
@pytest.mark.parametrize("width", WIDTHS)
def test_a_narrow_layer_is_a_prefix_adapters_included(name: str, width: float) -> None:
    layer = shared_layers()[name]
    expected = run_layer(layer, width)
    cut = narrowed(layer, width)
    torch.testing.assert_close(run_layer(cut, 1.0), expected, rtol=0, atol=1e-6)
    whole = dict(layer.named_parameters())
    for place, parameter in cut.named_parameters():
        assert torch.equal(parameter, whole[place][: len(parameter)]), place
    units = kept({"attention": 3, "mlp": 12, "experts": 12}[name], width)
    side = {"attention": 4 * units, "mlp": units, "experts": units}[name]
    slimmed = ("proj_shared.down",) if name == "attention" else ("up_shared.up", "down_shared.down")
    for place in slimmed:
        assert len(dict(cut.named_parameters())[place]) == side


def test_the_change_that_experts_share_is_the_same_for_each_of_them() -> None:
    layer = shared_layers()["experts"]
    assert isinstance(layer, SharedExperts) and layer.up_shared is not None and layer.down_shared is not None
    up, _, down, _ = layer.views(1.0)
    for expert in range(2):
        torch.testing.assert_close(up[expert] - layer.up[expert], layer.up_shared.product(0.5).float())
        torch.testing.assert_close(down[expert] - layer.down[expert], layer.down_shared.product(0.5).T.float())


def test_fast_kernels_of_training_know_the_change(make_images: Any) -> None:
    layer = shared_layers()["experts"]
    gradients = []
    for fast in (False, True):
        layer.zero_grad(set_to_none=True)
        with fast_cpu_kernels(fast):
            run_layer(layer, 0.5).square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in layer.named_parameters()})
    for name in ("up_shared.down", "up_shared.up", "down_shared.down", "down_shared.up"):
        plain, fast_one = gradients[0][name], gradients[1][name]
        assert plain is not None and fast_one is not None and plain.abs().max() > 0
        torch.testing.assert_close(fast_one, plain, rtol=1e-4, atol=1e-5)


def test_frozen_network_trains_adapters_and_moves_all_experts_together() -> None:
    model = freeze_pretrained_(build_preset("m3lora_micro", TASKS))
    inside = {name.split(".", 2)[2] for name, p in model.encoder.blocks.named_parameters(prefix="x") if p.requires_grad}
    trained = {name for name in inside if name.startswith(("attn.", "mlp.", "experts."))}
    products = ("attn.qkv", "attn.proj", "mlp.up", "mlp.down", "experts.up", "experts.down")
    assert trained == {f"{product}_shared.{part}" for product in products for part in ("down", "up")}


def test_a_checkpoint_keeps_every_setting(tmp_path: Any, make_model: Any) -> None:
    model = make_model("m3lora_micro", shared_blocks=(1, 2), shared_on=("qkv", "fc2"), adapter_on=("proj", "fc1"))
    again, _ = load_checkpoint(save_checkpoint(tmp_path / "model.safetensors", model))
    assert again.config == model.config
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


def test_presets_have_mtloras_ranks_beside_the_experts() -> None:
    config = preset_config("m3lora_small", TASKS)
    assert isinstance(config, ModelConfig)
    assert config.moe_blocks == (1, 3, 5, 7, 9, 11) and config.shared_blocks == tuple(range(12))
    assert config.adapter_blocks == (8, 9, 10, 11)
    assert config.task_products(8) == ("qkv", "proj", "fc1", "fc2") and config.task_products(0) == ()
    assert config.task_products(9) == ("qkv", "proj", "feed")
    assert (config.shared_rank, config.shared_scale, config.adapter_rank, config.adapter_scale) == (16, 4.0, 4, 4.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shared_rank": -1}, "shared adapters need a rank, got shared_rank -1"),
        ({"shared_blocks": (1,)}, "shared adapters need a rank"),
        ({"shared_rank": 2, "shared_blocks": (4,)}, r"shared_blocks must lie in 0\.\.3"),
        ({"shared_rank": 2, "shared_on": ()}, "shared_on must be some of qkv, proj, fc1, fc2, in this order"),
        ({"shared_rank": 2, "shared_on": ("feed",)}, "shared_on must be some of"),
        ({"adapter_on": ("proj", "qkv")}, "adapter_on must be some of qkv, proj, fc1, fc2, feed, in this order"),
        ({"adapter_mode": "leaf"}, "adapter_mode must be one of"),
        ({"adapter_blocks": (1,), "adapter_rank": 2, "adapter_on": ("fc1",)}, r"nothing that blocks \[1\] have"),
        ({"adapter_mode": "branch"}, "branches need the last blocks of a dense ViT"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_preset("m3vit_micro", TASKS, **change)
