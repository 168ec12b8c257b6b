"""Every setting of an adaptation, and the training that it means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ...models.widths import DEFAULT_WIDTHS, check_widths
from ..augment import AugmentConfig
from ..config import DataConfig, Stage, TrainConfig
from ..devices import is_present
from .errors import AdaptError
from .importance import MEASURES

__all__ = ["AdaptConfig"]


@dataclass(frozen=True)
class AdaptConfig:
    """Everything that decides the outcome, beside the checkpoint and the pictures.

    Args:
        widths: that the result offers.
        importance: how units are ordered: see `importance`; `none` leaves them where they are.
        calibration: pictures that `fisher` looks at.
        native_decoders: published heads are replaced by native ones, which are slimmable.
        steps: of the training; `images` pictures a step, each with all tasks.
        distill_weight: with labels: share of the full-width original in the loss, beside the ground truth's.
    """

    widths: tuple[float, ...] = DEFAULT_WIDTHS
    importance: str = "fisher"
    calibration: int = 64
    native_decoders: bool = False
    steps: int = 1000
    images: int = 8
    lr: float = 3e-4
    distill_weight: float = 0.5
    precision: str = "bf16"
    device: str = "cpu"
    seed: int = 0
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", check_widths((*self.widths, 1.0)))
        if len(self.widths) < 2:
            raise AdaptError("widths must be at least one below 1, got 1 alone", hint="for example 0.25,0.5,0.75,1")
        if self.importance not in (*MEASURES, "none"):
            raise AdaptError(f"importance must be one of {', '.join(MEASURES)}, none, got '{self.importance}'")
        if min(self.calibration, self.steps, self.images) < 1 or self.lr <= 0 or not 0 <= self.distill_weight <= 1:
            raise AdaptError(
                "calibration, steps and images must be at least 1, lr above 0, distill_weight from 0 to 1, got "
                f"{self.calibration}, {self.steps}, {self.images}, {self.lr:g} and {self.distill_weight:g}"
            )

        if not is_present(self.device):
            raise AdaptError(f"device must be cpu, or cuda where torch finds one, got '{self.device}'")

    def to_json(self) -> dict[str, Any]:
        """Plain values, for reports."""
        return asdict(self)

    def training(self, network: str, tasks: Sequence[str], size_hw: tuple[int, int], *, labelled: bool) -> TrainConfig:
        """What the trainer is told: the sandwich rule over the widths, taught by the original.

        Args:
            network: what the checkpoint is known by.
            tasks: as the trainer calls them.
            labelled: whether the ground truth teaches, too.
        """
        return TrainConfig(
            model=network,
            tasks=tuple(tasks),
            stages=(Stage(size_hw, self.images * len(tasks), 1.0),),
            steps=self.steps,
            data=DataConfig(rows_per_image=len(tasks)),
            augment=self.augment,
            lr=self.lr,
            lr_end=self.lr / 100,
            warmup_steps=min(100, self.steps // 10),
            ema_decay=0.99,
            balance_weight=0.0,  # routers are trained already: what teaches them is the original
            distill_weight=self.distill_weight if labelled else 1.0,
            precision=self.precision,
            device=self.device,
            seed=self.seed,
            sample_pictures=False,  # there may be no ground truth to draw
        )
