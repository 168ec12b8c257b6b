"""The state of a training on disk: all that exact resuming needs, in one file that appears whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .config import TrainConfig
from .errors import ResumeError

__all__ = [
    "FREE_TO_CHANGE",
    "check_same_training",
    "load_state",
    "random_state",
    "restore_random_state",
    "save_state",
]

FREE_TO_CHANGE = frozenset(
    {"steps", "stages", "schedule", "cooldown", "lr_end", "grad_clip", "log_every", "save_every", "device"}
    | {"checkpointing", "sample_pictures"}  # what is learnt does not depend on these
)
"""Settings that may differ between a saved training and the one that continues it."""


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state under a temporary name, then rename it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_state(path: Path) -> dict[str, Any]:
    """Read a state; nothing in the file is executed.

    Raises:
        ResumeError: the file is damaged or something else.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises a dozen types on a damaged file
        raise ResumeError(f"{path} is not a training state: {error}") from error
    if not isinstance(state, dict) or "step" not in state:
        raise ResumeError(f"{path} is not a training state; delete it to train from the start")
    return state


def random_state(device: str) -> dict[str, Any]:
    """Of torch's generators; numpy's are made anew for every step."""
    cuda = torch.cuda.get_rng_state_all() if device != "cpu" else []
    return {"rng": torch.get_rng_state(), "rng_cuda": cuda}


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Draw on from where `random_state` was taken."""
    torch.set_rng_state(state["rng"])
    if state["rng_cuda"]:
        torch.cuda.set_rng_state_all(state["rng_cuda"])


def check_same_training(saved: TrainConfig, wanted: TrainConfig, path: Path) -> None:
    """Refuse to continue a training under settings that would make it another one.

    Raises:
        ResumeError: a setting outside `FREE_TO_CHANGE` differs.
    """
    differs = [
        f"{name}: saved {getattr(saved, name)}, wanted {getattr(wanted, name)}"
        for name in TrainConfig.__dataclass_fields__
        if name not in FREE_TO_CHANGE and getattr(saved, name) != getattr(wanted, name)
    ]
    if differs:
        raise ResumeError(
            f"{path} is another training ({'; '.join(differs)}); use another folder, or the saved settings"
        )
