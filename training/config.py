"""Every setting of a training, as frozen dataclasses, with JSON beside every result. Named ones are in `presets`."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .augment import AugmentConfig
from .config_build import build
from .errors import ConfigError
from .methods.settings import MethodConfig

__all__ = ["DataConfig", "MethodConfig", "Stage", "TrainConfig"]


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
        return build(cls, loaded, "")

    def save(self, path: Path) -> None:
        """Write the settings beside a result."""
        path.write_text(self.to_json() + "\n", encoding="utf-8")
