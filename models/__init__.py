"""What a network is: slimmable layers, task-routed experts, heads, presets. Needs torch, imports no other folder."""

from .checkpoint import load_checkpoint, save_checkpoint
from .config import HeadConfig, ModelConfig
from .errors import CheckpointError, ConfigError, ModelError
from .heads import activate
from .model import ModelOutput, MultiTaskModel
from .presets import PRESETS, build_preset, preset_config

__all__ = [
    "PRESETS",
    "CheckpointError",
    "ConfigError",
    "HeadConfig",
    "ModelConfig",
    "ModelError",
    "ModelOutput",
    "MultiTaskModel",
    "activate",
    "build_preset",
    "load_checkpoint",
    "preset_config",
    "save_checkpoint",
]
