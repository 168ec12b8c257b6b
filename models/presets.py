"""Named sizes. Published ones after M3ViT (Fan et al. 2022; upstream configuration files), DeiT (Touvron et al.), Swin
(Liu et al. 2021) and MTLoRA (Agiza et al. 2024).

The M3ViT sizes: MoE in every second block from block 1, 16 experts, top-4, expert hidden = dim (the upstream README's
command line). `m3vit_small` has 12 heads, not DeiT-S's 6, as upstream has. The dense `vit_*` counterparts have the
same active compute: a top-4 of experts with hidden = dim costs what an MLP of ratio 4 costs (micro: top-2, half of it).
`taskexpert_` before any of these names gives it decoders after TaskExpert (Ye and Xu 2023) that tap the backbone four
times: a ViT after each quarter of its blocks.
`mtlora_*` are the `swin_*` with adapters of rank 16 that all tasks share, and of rank 4 for each task.
`m3lora_*` (every size that `m3vit_*` has; `PRESETS` lists the smallest) are the `m3vit_*` with the same: shared ones
in every block, those of tasks in the last third.
"""

from dataclasses import fields, replace
from typing import Any

from .config import ModelConfig
from .config_base import HeadConfig
from .errors import ConfigError
from .families import AnyConfig
from .model import MultiTaskModel
from .swin_config import SwinConfig

_SIZES: dict[str, dict[str, Any]] = {
    "micro": {"dim": 32, "depth": 4, "heads": 4, "experts": 4, "top_k": 2, "decoder_channels": 8, "decoder_hidden": 16},
    "nano": {"dim": 128, "depth": 12, "heads": 4, "decoder_channels": 64, "decoder_hidden": 128},
    "tiny": {"dim": 192, "depth": 12, "heads": 3, "decoder_channels": 64, "decoder_hidden": 128},
    "small": {"dim": 384, "depth": 12, "heads": 12, "decoder_channels": 96, "decoder_hidden": 256},
    "base": {"dim": 768, "depth": 12, "heads": 12, "decoder_channels": 128, "decoder_hidden": 384},
}
_SIZES["micro"] |= {"detail_channels": 8, "detail_hidden": 16, "image_hw": (32, 32)}

_SWIN_SIZES: dict[str, dict[str, Any]] = {
    "micro": {"dim": 16, "depths": (2, 1, 2, 2), "heads": (2, 4, 4, 4), "window": 4, "image_hw": (64, 64)},
    "nano": {"dim": 32, "depths": (2, 2, 4, 2), "heads": (2, 4, 8, 16)},
    "tiny": {"dim": 96, "depths": (2, 2, 6, 2), "heads": (3, 6, 12, 24)},
    "small": {"dim": 96, "depths": (2, 2, 18, 2), "heads": (3, 6, 12, 24)},
    "base": {"dim": 128, "depths": (2, 2, 18, 2), "heads": (4, 8, 16, 32)},
}
_SWIN_SIZES["micro"] |= {"decoder_channels": 8, "decoder_hidden": 16}
_RANKS = {"shared_ranks": (16, 16, 16, 16), "task_ranks": (4, 4, 4, 4)}

#: MTLoRA's ranks and factors, for a ViT with experts.
_VIT_RANKS: dict[str, Any] = {"shared_rank": 16, "shared_scale": 4.0, "adapter_rank": 4, "adapter_scale": 4.0}
_VIT_RANKS |= {"adapter_on": ("qkv", "proj", "fc1", "fc2", "feed")}

PRESETS: tuple[str, ...] = (
    *(f"{family}_{size}" for family in ("m3vit", "vit") for size in _SIZES),
    *(f"{family}_{size}" for family in ("swin", "mtlora") for size in _SWIN_SIZES),
    "m3lora_micro",
)

#: Before the name of a preset: the same network with decoders after TaskExpert.
TASKEXPERT = "taskexpert_"


def preset_config(name: str, tasks: tuple[HeadConfig, ...], **overrides: Any) -> AnyConfig:
    """Configuration of a named model; any field can be overridden.

    Raises:
        ConfigError: no preset or no field has that name.
    """
    plain = name.removeprefix(TASKEXPERT)
    family, _, size = plain.partition("_")
    if plain not in PRESETS and not (family == "m3lora" and size in _SIZES):
        raise ConfigError(
            f"unknown model '{name}'; choose one of {', '.join(PRESETS)}, with {TASKEXPERT} before it or without"
        )
    if plain != name:
        tasks = tuple(_with_experts(task) for task in tasks)
    kind = SwinConfig if family in ("swin", "mtlora") else ModelConfig
    known = [field.name for field in fields(kind)]
    if unknown := sorted(overrides.keys() - set(known)):
        raise ConfigError(f"unknown settings {', '.join(unknown)}; a model has {', '.join(known)}")
    if kind is SwinConfig:
        ranks = _RANKS if family == "mtlora" else {}
        return SwinConfig(**{**_SWIN_SIZES[size], **ranks, "tasks": tasks, **overrides})
    values = {**_SIZES[size], "tasks": tasks, **overrides}
    if plain != name:
        values.setdefault("taps", _quarters(values["depth"]))
    if family in ("m3vit", "m3lora"):
        values.setdefault("moe_blocks", tuple(range(1, values["depth"], 2)))
    if family == "m3lora":
        first = max(0, values["depth"] - max(2, values["depth"] // 3))
        values = {**_VIT_RANKS, "adapter_blocks": tuple(range(first, values["depth"])), **values}
    return ModelConfig(**values)


def build_preset(name: str, tasks: tuple[HeadConfig, ...], **overrides: Any) -> MultiTaskModel:
    """A named model with fresh weights (seed with `torch.manual_seed`)."""
    return MultiTaskModel(preset_config(name, tasks, **overrides))


def _with_experts(task: HeadConfig) -> HeadConfig:
    """The task with a `taskexpert` decoder, if it is a map that a native one would decode."""
    return replace(task, decoder="taskexpert") if task.decoder == "native" and not task.pooled else task


def _quarters(depth: int) -> tuple[int, ...]:
    """The blocks that end the first three quarters of a ViT; fewer where there are too few blocks."""
    return tuple(sorted({depth * part // 4 - 1 for part in (1, 2, 3)} - {-1, depth - 1}))
