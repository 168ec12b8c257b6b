"""Named sizes: the published ones are as published, and every one is what its configuration says."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from slimpath.models import PRESETS, ConfigError, HeadConfig, ModelConfig, MultiTaskModel, build_preset, preset_config
from slimpath.models.flops import encoder_cost, head_cost, router_parameters


@pytest.mark.parametrize(("size", "dim", "heads"), [("tiny", 192, 3), ("small", 384, 12), ("base", 768, 12)])
def test_published_sizes(size: str, dim: int, heads: int, tasks: tuple[HeadConfig, ...]) -> None:
    config = preset_config(f"m3vit_{size}", tasks)
    assert isinstance(config, ModelConfig)
    assert (config.dim, config.depth, config.heads) == (dim, 12, heads)
    assert (config.experts, config.top_k, config.expert_hidden) == (16, 4, dim)
    assert config.moe_blocks == (1, 3, 5, 7, 9, 11)
    assert (config.patch, config.mlp_ratio, config.gate_mode) == (16, 4.0, "softmax_topk")
    dense = preset_config(f"vit_{size}", tasks)
    assert isinstance(dense, ModelConfig)
    assert (dense.dim, dense.depth, dense.heads, dense.moe_blocks) == (dim, 12, heads, ())


def test_nano_encoder_takes_about_19_mb(tasks: tuple[HeadConfig, ...]) -> None:
    config = preset_config("m3vit_nano", tasks)
    assert 4 * encoder_cost(config).parameters / 1e6 == pytest.approx(19.4, abs=0.5)


@pytest.mark.parametrize("name", PRESETS)
def test_preset_holds_exactly_the_parameters_it_is_said_to(name: str, tasks: tuple[HeadConfig, ...]) -> None:
    with torch.device("meta"):  # shapes without memory
        model = build_preset(name, tasks)
    config = model.config
    expected = encoder_cost(config).parameters + len(model.routers) * router_parameters(config)
    expected += len(model.adapters) * sum(site.numbers for site in model.encoder.sites())
    expected += sum(head_cost(config, task).parameters for task in tasks)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


@pytest.mark.parametrize("size", ["nano", "tiny", "small", "base"])
def test_dense_counterpart_costs_the_same_but_for_the_routing(size: str, tasks: tuple[HeadConfig, ...]) -> None:
    sparse, dense = preset_config(f"m3vit_{size}", tasks), preset_config(f"vit_{size}", tasks)
    routing = 6 * 2 * 197 * sparse.dim * 16
    assert encoder_cost(sparse).flops(1, 1, 4) == encoder_cost(dense).flops(1, 1, 4) + routing


def test_unknown_preset_names_the_known_ones(tasks: tuple[HeadConfig, ...]) -> None:
    with pytest.raises(ConfigError, match="unknown model 'm3vit_huge'; choose one of m3vit_micro, m3vit_nano"):
        preset_config("m3vit_huge", tasks)


def test_any_field_can_be_overridden(tasks: tuple[HeadConfig, ...]) -> None:
    config = preset_config("m3vit_micro", tasks, depth=2, moe_blocks=(0,), image_hw=(48, 32))
    assert isinstance(config, ModelConfig)
    assert (config.depth, config.moe_blocks, config.image_hw) == (2, (0,), (48, 32))
    assert preset_config("m3vit_micro", tasks, depth=6).moe_blocks == (1, 3, 5)


@pytest.mark.parametrize("name", ["m3vit_micro", "vit_micro"])
def test_fresh_model_runs_and_is_the_same_for_the_same_seed(
    name: str, tasks: tuple[HeadConfig, ...], make_images: Callable[..., Tensor]
) -> None:
    def build() -> MultiTaskModel:
        torch.manual_seed(3)
        return build_preset(name, tasks).eval()

    one, other = build()(make_images(1), ["semseg"]), build()(make_images(1), ["semseg"])
    assert one.raw["semseg"].isfinite().all()
    assert torch.equal(one.raw["semseg"], other.raw["semseg"])
