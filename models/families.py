"""Configurations of every backbone, and how to tell them apart."""

from typing import Any

from .config import ModelConfig
from .errors import ConfigError
from .swin_config import SwinConfig

AnyConfig = ModelConfig | SwinConfig


def config_from_dict(values: dict[str, Any]) -> AnyConfig:
    """The configuration that `to_dict` wrote; a ViT's names no family.

    Raises:
        ConfigError: an unknown family, an unknown or missing field, or values that do not fit together.
    """
    family = values.get("family", "vit") if isinstance(values, dict) else "vit"
    if family not in ("vit", "swin"):
        raise ConfigError(f"family must be 'vit' or 'swin', got {family!r}")
    return SwinConfig.from_dict(values) if family == "swin" else ModelConfig.from_dict(values)
