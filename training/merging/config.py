"""Every setting of a merge, as one frozen dataclass; it is saved beside the result."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .errors import MergeError

__all__ = ["LEARNED", "METHODS", "MergeConfig"]

#: Method -> the factor on the task vectors where none is given: what the published code of each method has.
METHODS: dict[str, float] = {
    "task-arithmetic": 0.3,
    "ties": 1.0,
    "adamerging": 0.3,
    "atlas": 0.0,
    "twin": 0.3,
}

#: Methods that learn their coefficients on pictures.
LEARNED = ("adamerging", "atlas")


@dataclass(frozen=True)
class MergeConfig:
    """Everything that decides the outcome of a merge, besides the checkpoints and the pictures.

    Args:
        method: one of `METHODS`.
        scale: factor on the sum of the task vectors (task-arithmetic), on their elected mean (ties), on the sum that
            makes the shared part (twin); where the learned coefficients start (adamerging, atlas). None: the method's.
        keep: share of each task vector, by magnitude, that TIES keeps.
        ties_first: adamerging on vectors that TIES trimmed and whose signs it elected ("AdaMerging++").
        regression: what adamerging does with tasks whose answers have no entropy (depth, normals): "fine-tune" keeps
            them near the answers of their own fine-tune, "none" leaves them out.
        exclusive: where twin keeps what a task has for itself: "adapters" of the task as far as the backbone has places
            for them, or "static", a mean over the tasks that is merged.
        rank: how many singular values of every matrix twin keeps of that.
        steps: updates of learned coefficients.
        images: pictures per update, each with every task.
        lr: learning rate of the coefficients.
        weight_decay: on the coefficients (atlas).
        grad_clip: longest gradient of the coefficients (atlas).
        seed: of the order of the pictures.
    """

    method: str = "task-arithmetic"
    scale: float | None = None
    keep: float = 0.2
    ties_first: bool = False
    regression: str = "fine-tune"
    exclusive: str = "adapters"
    rank: int = 8
    steps: int = 500
    images: int = 16
    lr: float = 1e-3
    weight_decay: float = 0.1
    grad_clip: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        _check_choice("method", self.method, tuple(METHODS))
        _check_choice("regression", self.regression, ("fine-tune", "none"))
        _check_choice("exclusive", self.exclusive, ("adapters", "static"))
        if not math.isfinite(self.factor):
            raise MergeError(f"scale must be a finite number, got {self.scale}")
        if not 0 < self.keep <= 1:
            raise MergeError(f"keep must be a share in (0, 1], got {self.keep}")
        for name in ("rank", "steps", "images"):
            if getattr(self, name) < 1:
                raise MergeError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise MergeError(f"lr must be a number above 0, got {self.lr}")
        if self.weight_decay < 0 or self.grad_clip <= 0:
            raise MergeError(
                f"weight_decay must not be negative and grad_clip be above 0, got {self.weight_decay} "
                f"and {self.grad_clip}"
            )

    @property
    def factor(self) -> float:
        """`scale`, or that of the method."""
        return METHODS[self.method] if self.scale is None else self.scale

    @property
    def learned(self) -> bool:
        """Whether pictures are needed."""
        return self.method in LEARNED


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise MergeError(f"{name} must be one of {', '.join(choices)}, got '{value}'")
