"""What the step number decides: the learning rate and the stage (resolution and batch)."""

from __future__ import annotations

import math

from .config import Stage, TrainConfig

__all__ = ["learning_rate", "stage_at", "stage_starts"]


def learning_rate(config: TrainConfig, step: int) -> float:
    """Learning rate of a step: linear warm-up, then cosine or trapezoid down to `lr_end`."""
    warmup = min(config.warmup_steps, config.steps)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    done = (step - warmup) / max(1, config.steps - warmup)
    if config.schedule == "cosine":
        share = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    else:
        share = min(1.0, (1 - min(1.0, done)) / max(config.cooldown, 1e-9))
    return config.lr_end + (config.lr - config.lr_end) * share


def stage_starts(config: TrainConfig) -> list[int]:
    """First step of each stage, then the number of steps: stage i runs from entry i up to entry i + 1."""
    total, passed, starts = sum(stage.share for stage in config.stages), 0.0, [0]
    for stage in config.stages:
        passed += stage.share
        starts.append(round(config.steps * passed / total))
    return starts


def stage_at(config: TrainConfig, step: int) -> tuple[Stage, int]:
    """The stage that `step` belongs to, and the step at which it ends."""
    starts = stage_starts(config)
    for stage, end in zip(config.stages, starts[1:], strict=True):
        if step < end:
            return stage, end
    return config.stages[-1], starts[-1]
