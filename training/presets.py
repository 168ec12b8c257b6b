"""Named settings of a training, and changes to them as a command line has them: `key=value`."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Sequence
from typing import Any

from .augment import AugmentConfig
from .config import DataConfig, Stage, TrainConfig
from .config_build import build
from .errors import ConfigError

__all__ = ["PRESETS", "preset", "with_overrides"]

PRESETS: dict[str, dict[str, Any]] = {
    # Two processes on two cores: a bit over an hour. At twice this rate attention collapses early on.
    "bundled": {
        "stages": (Stage((128, 128), 48, 0.806), Stage((224, 224), 24, 0.194)),
        "steps": 2800,
        "lr": 6e-4,
        "warmup_steps": 200,
        "save_every": 50,
        "data": DataConfig(scenes=6144),
    },
    # From what `bundled` made (start=...): what photographs have and rooms lack. Three quarters of an hour.
    "bundled-wide": {
        "stages": (Stage((128, 128), 48, 0.6), Stage((224, 224), 24, 0.4)),
        "steps": 1500,
        "lr": 4e-4,
        "warmup_steps": 100,
        "save_every": 50,
        "data": DataConfig(scenes=4608, world="wide"),
    },
    "smoke": {
        "stages": (Stage((64, 64), 24, 0.6), Stage((96, 96), 12, 0.4)),
        "steps": 60,
        "warmup_steps": 10,
        "ema_decay": 0.9,
        "log_every": 5,
        "save_every": 50,
        "data": DataConfig(scenes=64, render_hw=(96, 96)),
    },
    # Less than two minutes of one core, to try a setting out. As the runs of benchmarks/studies.py, with the smaller
    # network that has a preset. Without edges: so short a training does not beat "an edge everywhere".
    "micro": {
        "model": "m3vit_micro",
        "tasks": ("semseg", "depth", "normals"),
        "stages": (Stage((64, 64), 24, 1.0),),
        "steps": 400,
        "lr": 2e-3,
        "warmup_steps": 40,
        "ema_decay": 0.99,
        "precision": "fp32",
        "augment": AugmentConfig(letterbox=0.0, photometric=0.0),
        "data": DataConfig(scenes=512, render_hw=(64, 64), rows_per_image=3),
    },
}


def preset(name: str) -> TrainConfig:
    """The named settings.

    Raises:
        ConfigError: no preset has that name.
    """
    if name not in PRESETS:
        raise ConfigError(f"preset must be one of {', '.join(PRESETS)}, got '{name}'")
    return TrainConfig(**PRESETS[name])


def with_overrides(config: TrainConfig, overrides: Sequence[str]) -> TrainConfig:
    """Change settings by `key=value` texts, as `lr=1e-3`, `data.shards=rooms`, `stages=128x128:96:0.7,224x224:48:0.3`.

    Raises:
        ConfigError: a text is not `key=value`, the key does not exist, or the value does not fit it.
    """
    tree = dataclasses.asdict(config)
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"an override is key=value, as lr=1e-3, got '{text}'")
        node, *parents = tree, *key.split(".")[:-1]
        for parent in parents:
            node = node.get(parent) if isinstance(node, dict) else None
        leaf = key.split(".")[-1]
        if not isinstance(node, dict) or leaf not in node:
            raise ConfigError(f"there is no setting '{key}'; settings are {', '.join(tree)}")
        node[leaf] = _parse_text(key, value)
        if node[leaf] is None and _type_of(key) is str:
            node[leaf] = value
    return build(TrainConfig, tree, "")


def _parse_text(key: str, value: str) -> Any:
    if key == "stages":
        return [_parse_stage(part) for part in value.split(",")]
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        pass
    if "," in value:
        return value.split(",")
    if key.endswith("_hw") and "x" in value:
        return [int(side) for side in value.split("x")]
    return {"none": None, "None": None, "True": True, "False": False}.get(value, value)


def _type_of(key: str) -> Any:
    """The type of a setting; None where it is an entry of a mapping."""
    kind: Any = TrainConfig
    for name in key.split("."):
        kind = typing.get_type_hints(kind).get(name) if dataclasses.is_dataclass(kind) else None
    return kind


def _parse_stage(text: str) -> dict[str, Any]:
    try:
        size, batch, share = text.split(":")
        height, width = size.split("x")
        return {"image_hw": [int(height), int(width)], "batch": int(batch), "share": float(share)}
    except ValueError as error:
        raise ConfigError(f"a stage is HEIGHTxWIDTH:BATCH:SHARE, as 128x128:96:0.7, got '{text}'") from error
