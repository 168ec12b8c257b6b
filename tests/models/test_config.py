"""Configurations: what is refused and how it is said, and the way through JSON."""

import json
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from slimpath.models import ConfigError, HeadConfig, ModelConfig, ModelError, preset_config

DEPTH = HeadConfig("depth", "depth", 1)


def build(**overrides: Any) -> ModelConfig:
    values: dict[str, Any] = {"dim": 32, "depth": 4, "heads": 4, "tasks": (DEPTH,), "image_hw": (32, 32)}
    return ModelConfig(**{**values, **overrides})


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"dim": 30}, "dim must be a multiple of heads, got dim 30 and 4 heads"),
        ({"heads": 0}, "heads must be at least 1, got 0"),
        ({"dim": 0}, "dim must be at least 1, got 0"),
        ({"depth": 0}, "depth must be at least 1, got 0"),
        ({"experts": 0}, "experts must be at least 1, got 0"),
        ({"expert_hidden": -1}, "expert_hidden must be at least 1, got -1"),
        ({"decoder_channels": 0}, "decoder_channels must be at least 1, got 0"),
        ({"decoder_hidden": 0}, "decoder_hidden must be at least 1, got 0"),
        ({"detail_hidden": 0}, "detail_hidden must be at least 1, got 0"),
        ({"detail_channels": -1}, "detail_channels and router_noise must not be negative, got 4.0, -1 and 1.0"),
        ({"router_noise": -1.0}, "detail_channels and router_noise must not be negative"),
        ({"mlp_ratio": 0.0}, "mlp_ratio must leave a hidden unit"),
        ({"patch": 8}, "patch must be 16, what the heads scale up by, got 8"),
        ({"image_hw": (32, 40)}, "multiples of the patch 16, got (32, 40)"),
        ({"image_hw": (0, 32)}, "multiples of the patch 16, got (0, 32)"),
        ({"image_hw": (32,)}, "image_hw is (height, width) in pixels, got (32,)"),
        ({"moe_blocks": (4,)}, "moe_blocks must lie in 0..3, got (4,)"),
        ({"moe_blocks": (-1,)}, "moe_blocks must lie in 0..3, got (-1,)"),
        ({"moe_blocks": (3, 1)}, "ascend without repeats, got (3, 1)"),
        ({"moe_blocks": (1, 1)}, "ascend without repeats, got (1, 1)"),
        ({"moe_blocks": (1,), "top_k": 17}, "top_k must lie in 1..16 (experts), got 17"),
        ({"moe_blocks": (1,), "top_k": 0}, "top_k must lie in 1..16 (experts), got 0"),
        ({"gate_mode": "hard"}, "gate_mode must be one of ('softmax_topk', 'renormalised'), got 'hard'"),
        ({"balance": "none"}, "balance must be one of ('joint', 'per_task'), got 'none'"),
        ({"tasks": ()}, "a model needs tasks with different names, got []"),
        ({"tasks": (DEPTH, DEPTH)}, "a model needs tasks with different names, got ['depth', 'depth']"),
        ({"widths": (0.5,)}, "the widths must include 1, the full model, got (0.5,)"),
    ],
)
def test_impossible_configuration_is_refused_with_expected_and_got(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(**overrides)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "kind", "channels", "message"),
    [
        ("x", "boxes", 1, "task 'x': kind must be one of ('classes', 'depth', 'normals', 'probability',"),
        ("x", "depth", 2, "task 'x' of kind depth has 1 channels, got 2"),
        ("x", "normals", 1, "task 'x' of kind normals has 3 channels, got 1"),
        ("x", "probability", 2, "task 'x' of kind probability has 1 channels, got 2"),
        ("x", "classes", 0, "task 'x' of kind classes has >= 1 channels, got 0"),
        ("a-b", "depth", 1, "a task name is letters, digits and '_', got 'a-b'"),
        ("../x", "depth", 1, "a task name is letters, digits and '_', got '../x'"),
        ("", "depth", 1, "a task name is letters, digits and '_', got ''"),
    ],
)
def test_impossible_task_is_refused_with_expected_and_got(name: str, kind: Any, channels: int, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        HeadConfig(name, kind, channels)
    assert message in str(caught.value)


def test_config_error_is_a_model_error_and_a_value_error() -> None:
    assert issubclass(ConfigError, ModelError)
    assert issubclass(ModelError, ValueError)


def test_configuration_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        build().dim = 64  # type: ignore[misc]


def test_derived_sizes() -> None:
    config = build(image_hw=(32, 64), mlp_ratio=3.0)
    assert (config.mlp_hidden, config.head_dim, config.grid_hw) == (96, 8, (2, 4))
    assert config.expert_hidden == config.dim  # the default: one expert is a quarter of an MLP of ratio 4
    assert build(expert_hidden=48).expert_hidden == 48


def test_unknown_task_names_the_known_ones() -> None:
    assert build().task("depth") is DEPTH
    with pytest.raises(ConfigError, match="unknown task 'edge'; this model has depth"):
        build().task("edge")


def test_only_image_labels_are_pooled(tasks: tuple[HeadConfig, ...]) -> None:
    assert [task.name for task in tasks if task.pooled] == ["scene"]


def test_configuration_survives_json(tasks: tuple[HeadConfig, ...]) -> None:
    config = build(tasks=tasks, moe_blocks=(1, 3), widths=(1.0, 0.5), gate_mode="renormalised")
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("damage", [{"surplus": 1}, {"tasks": [{"name": "x"}]}, {"tasks": None}, {"dim": "wide"}])
def test_from_dict_refuses_fields_that_do_not_fit(damage: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="not a model configuration"):
        ModelConfig.from_dict({**build().to_dict(), **damage})


def test_from_dict_refuses_what_is_no_mapping_or_misses_a_field() -> None:
    values = build().to_dict()
    del values["dim"]
    for wrong in (values, [1, 2], {}):
        with pytest.raises(ConfigError, match="not a model configuration"):
            ModelConfig.from_dict(wrong)  # type: ignore[arg-type]


def test_from_dict_keeps_the_message_of_an_impossible_value() -> None:
    with pytest.raises(ConfigError, match="multiple of heads"):
        ModelConfig.from_dict({**build().to_dict(), "dim": 30})


def test_task_named_like_a_method_of_the_container_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be called 'items'"):
        HeadConfig("items", "depth", 1)


def test_unknown_override_of_a_preset_lists_the_settings() -> None:
    with pytest.raises(ConfigError, match="unknown settings dims; a model has dim, depth"):
        preset_config("m3vit_micro", (HeadConfig("depth", "depth", 1),), dims=3)
