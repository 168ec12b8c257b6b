"""What a network is: slimmable layers, task-routed experts, heads, presets. Needs torch, imports no other folder."""

from .checkpoint import load_checkpoint, save_checkpoint
from .config import HeadConfig, ModelConfig
from .errors import CheckpointError, ConfigError, ModelError
from .fold import folded
from .freeze import freeze_pretrained_, trainable_parameters
from .heads import activate
from .model import ModelOutput, MultiTaskModel
from .presets import PRESETS, build_preset, preset_config
from .swin_config import SwinConfig

__all__ = [
    "PRESETS",
    "CheckpointError",
    "ConfigError",
    "HeadConfig",
    "ModelConfig",
    "ModelError",
    "ModelOutput",
    "MultiTaskModel",
    "SwinConfig",
    "activate",
    "build_preset",
    "folded",
    "freeze_pretrained_",
    "load_checkpoint",
    "preset_config",
    "save_checkpoint",
    "trainable_parameters",
]
