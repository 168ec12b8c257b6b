"""Every setting of a training, as frozen dataclasses; presets; overrides; JSON beside every result."""

from __future__ import annotations

import dataclasses
import json
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .augment import AugmentConfig
from .errors import ConfigError
from .methods.settings import MethodConfig

__all__ = ["PRESETS", "DataConfig", "MethodConfig", "Stage", "TrainConfig", "preset", "with_overrides"]


@dataclass(frozen=True)
class Stage:
    """A part of the training at one resolution: `share` of all steps with `batch` rows of `image_hw`."""

    image_hw: tuple[int, int]
    batch: int
    share: float


@dataclass(frozen=True)
class DataConfig:
    """Where samples come from.

    With `dataset`, one of the layouts of `training.datasets`, they are read from the folder `root`. With `shards` they
    are read from a folder that `slimpath.training.synthrooms.cache` wrote; without either, `scenes` rooms from
    `first_seed` on are rendered at `render_hw` while the training runs, and kept in memory.
    """

    dataset: str | None = None
    root: str | None = None
    split: str = "train"
    shards: str | None = None
    first_seed: int = 0
    scenes: int = 20_000
    render_hw: tuple[int, int] = (224, 224)
    samples_per_pixel: int = 1
    world: str = "rooms"  # or "wide", see `synthrooms.render`
    # Rows (one task each) that share an image: the image-only part of the model then runs once for all of them.
    rows_per_image: int = 2
    queue: int = 4


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the outcome of a training."""

    model: str = "m3vit_nano"
    # A checkpoint of the same network to start from: its encoder, and what it has of `tasks`. Without: random weights.
    start: str | None = None
    # Train what MTLoRA trains (adapters, norms, embeddings, routers, decoders) and leave the big products as they are.
    adapters_only: bool = False
    tasks: tuple[str, ...] = ("semseg", "depth", "normals", "edge", "saliency", "scene")
    stages: tuple[Stage, ...] = (Stage((128, 128), 48, 0.72), Stage((224, 224), 24, 0.28))
    steps: int = 3000
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    lr: float = 1.5e-3
    lr_end: float = 1e-5
    warmup_steps: int = 200
    schedule: str = "cosine"  # or "trapezoid": constant, then linear to lr_end over the last `cooldown` share
    cooldown: float = 0.3
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    grad_clip: float = 1.0
    ema_decay: float = 0.998

    loss_weights: Mapping[str, float] = field(
        default_factory=lambda: {
            "semseg": 1.0,
            "human_parts": 1.0,
            "depth": 2.0,
            "normals": 2.0,
            "edge": 1.0,
            "saliency": 1.0,
            "scene": 1.0,
        }
    )
    balance_weight: float = 0.01
    sandwich: bool = True
    random_widths: int = 1
    random_top_k: float = 0.5
    independent_decoder: float = 0.5
    distill_weight: float = 0.5
    loss_stride: int = 2  # class losses and distillation look at every such pixel, from a random place
    methods: MethodConfig = field(default_factory=MethodConfig)

    precision: str = "bf16"  # or "fp32"
    checkpointing: bool = False  # of gradients: blocks of the encoder are computed twice, and less memory is needed
    device: str = "cpu"
    seed: int = 0
    log_every: int = 20
    sample_pictures: bool = True  # after every epoch, some samples as the averaged weights answer them
    save_every: int = 200

    def __post_init__(self) -> None:
        """Refuse settings that cannot work, before anything expensive is built."""
        if self.precision not in ("bf16", "fp32"):
            raise ConfigError(f"precision must be 'bf16' or 'fp32', got '{self.precision}'")
        if not re.fullmatch(r"cpu|cuda(:\d+)?", self.device):
            raise ConfigError(f"device must be 'cpu', 'cuda' or 'cuda:NUMBER', got '{self.device}'")
        if self.schedule not in ("cosine", "trapezoid"):
            raise ConfigError(f"schedule must be 'cosine' or 'trapezoid', got '{self.schedule}'")
        if self.adapters_only and self.start is None:
            raise ConfigError(
                "adapters_only=true leaves the big products as they are: at random, without start=CHECKPOINT",
                hint="give start=, or leave adapters_only out",
            )
        if self.data.world not in ("rooms", "wide"):
            raise ConfigError(f"data.world must be 'rooms' or 'wide', got '{self.data.world}'")
        if self.steps < 1:
            raise ConfigError(f"steps must be at least 1, got {self.steps}")
        if not self.stages or any(stage.share <= 0 for stage in self.stages):
            raise ConfigError("stages must be at least one, each with a share above 0, as 128x128:96:0.7")
        if missing := [task for task in self.tasks if task not in self.loss_weights]:
            raise ConfigError(f"loss_weights lacks {missing}; give loss_weights.{missing[0]}=1")
        if not self.tasks:
            raise ConfigError("tasks must be at least one name, got none", hint="for example tasks=depth,edge")
        if not 1 <= self.data.rows_per_image <= len(self.tasks):
            raise ConfigError(
                f"data.rows_per_image must be at least 1 and at most {len(self.tasks)}, the number of tasks, as the "
                f"rows of a picture differ in their task; got {self.data.rows_per_image}",
                hint=f"give data.rows_per_image={len(self.tasks)}",
            )
        for stage in self.stages:
            if stage.batch % self.data.rows_per_image or stage.batch < 1:
                raise ConfigError(
                    f"batch must be a multiple of data.rows_per_image = {self.data.rows_per_image}, got {stage.batch}"
                )

    def to_json(self) -> str:
        """The settings as JSON text, readable by `from_json`."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> TrainConfig:
        """Read what `to_json` wrote.

        Raises:
            ConfigError: the text is not such JSON, or names a setting that does not exist.
        """
        try:
            loaded = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"training config is not JSON: {error}") from error
        return _build(cls, loaded, "")

    def save(self, path: Path) -> None:
        """Write the settings beside a result."""
        path.write_text(self.to_json() + "\n", encoding="utf-8")


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
    return _build(TrainConfig, tree, "")


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


def _build(kind: Any, value: Any, where: str) -> Any:
    """Turn plain JSON values into `kind`, checking every name and type on the way."""
    origin = typing.get_origin(kind)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        if not isinstance(value, dict) or set(value) - set(hints):
            got = sorted(set(value) - set(hints)) if isinstance(value, dict) else repr(value)
            raise ConfigError(f"{where or 'config'} takes {', '.join(hints)}; got {got}")
        built = {name: _build(hints[name], item, f"{where}.{name}".lstrip(".")) for name, item in value.items()}
        return typing.cast(Any, kind)(**built)
    if origin is tuple:
        arguments = typing.get_args(kind)
        items = [value] if isinstance(value, str | int | float) else list(value)
        if arguments[-1] is Ellipsis:
            return tuple(_build(arguments[0], item, where) for item in items)
        if len(items) != len(arguments):
            raise ConfigError(f"{where} takes {len(arguments)} values, got {value!r}")
        return tuple(_build(argument, item, where) for argument, item in zip(arguments, items, strict=True))
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _build(next(part for part in typing.get_args(kind) if part is not type(None)), value, where)
    if origin is not None:  # Mapping[str, float]
        return {str(name): float(item) for name, item in dict(value).items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ConfigError(f"{where} must be {kind.__name__}, got {value!r}")
    return value
