"""The network that a training's settings name, with fresh weights, and which methods it can be trained with."""

from __future__ import annotations

from collections.abc import Sequence

from ..models import HeadConfig, ModelConfig, MultiTaskModel, build_preset
from .config import TrainConfig
from .errors import ConfigError
from .tasks import TrainTask

__all__ = ["check_methods", "fresh_network"]


def fresh_network(config: TrainConfig, tasks: Sequence[TrainTask]) -> MultiTaskModel:
    """The preset at the first stage's size, with a head for each task.

    Raises:
        ConfigError: only adapters are to be trained, and it has none.
    """
    heads = tuple(HeadConfig(task.name, task.kind, task.channels) for task in tasks)  # type: ignore[arg-type]
    routing = {name: getattr(config.methods, name) for name in ("router_noise", "balance")}
    routing = {name: value for name, value in routing.items() if value is not None}
    model = build_preset(config.model, heads, image_hw=config.stages[0].image_hw, **routing)
    if config.adapters_only and not model.config.adapted:
        raise ConfigError(
            f"adapters_only=true needs a network with adapters, and {config.model} has none",
            hint="take an m3lora_* or mtlora_* preset, or leave adapters_only out",
        )
    return model


def check_methods(config: TrainConfig, model: MultiTaskModel) -> None:
    """Refuse methods that this network cannot be trained with.

    Raises:
        ConfigError: Rep-MTL, and the heads read several levels.
    """
    if config.methods.rep_mtl and (not isinstance(model.config, ModelConfig) or model.config.levels):
        raise ConfigError(f"Rep-MTL needs one representation for all heads, and {config.model} has several levels")
