"""Fine-tuning: a training that starts from a checkpoint instead of from random weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..models import ModelError, MultiTaskModel, load_checkpoint
from ..models.model import SHARED_PARTS
from .errors import ConfigError

__all__ = ["TRAINING_ONLY", "Origin", "sha256_of", "start_from"]


@dataclass(frozen=True)
class Origin:
    """The checkpoint that a training started from: its file's SHA-256, and how it was made itself."""

    sha256: str
    provenance: Mapping[str, Any]


TRAINING_ONLY = ("router_noise", "balance")
"""Fields of a network's configuration that matter while it is trained alone."""

_OF_ADAPTERS = ("adapter_", "shared_", "task_ranks", "task_scales", "merge_adapters")
"""How fields begin that say which low-rank adapters there are: a network without any can start one that has some."""


@torch.no_grad()
def start_from(model: MultiTaskModel, path: Path) -> Origin:
    """Copy a checkpoint's encoder into a fresh model, and head, routers and adapters of every task that both have.

    Positions are resampled to the model's image size. A model with low-rank adapters can start from a checkpoint that
    has none: its own begin at 0, so that it answers as the checkpoint did.

    Returns:
        What the fine-tune's metadata says about its base.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is no checkpoint.
        ConfigError: it holds another network.
    """
    start, metadata = load_checkpoint(path)
    wanted, got = model.config.to_dict(), start.config.to_dict()
    differs = [name for name in {**wanted, **got} if name not in ("tasks", "image_hw", *TRAINING_ONLY)]
    if not start.config.adapted:
        differs = [name for name in differs if not name.startswith(_OF_ADAPTERS)]
    if differs := [name for name in differs if wanted.get(name) != got.get(name)]:
        lines = [f"{name}: expected {wanted.get(name)}, got {got.get(name)}" for name in differs]
        raise ConfigError(f"{path} holds another network ({'; '.join(lines)})", hint="set `model` to its preset")
    try:
        start = start if start.config.image_hw == model.config.image_hw else start.resized(model.config.image_hw)
    except ModelError as error:
        raise ConfigError(f"{path} cannot start a training at {model.config.image_hw}: {error}") from error
    shared = {head.name for head in start.config.tasks} & {head.name for head in model.config.tasks}
    for task in shared:
        if start.config.task(task) != model.config.task(task):
            raise ConfigError(
                f"{path} answers '{task}' with {start.config.task(task).channels} channels, this training with "
                f"{model.config.task(task).channels}",
                hint="start from a checkpoint without this task, or train on the same classes",
            )
    parts = tuple(f"{part}.{task}." for task in shared for part in ("heads", "routers", "adapters"))
    own, begins = model.state_dict(), (*SHARED_PARTS, *parts)
    taken = {name: value for name, value in start.state_dict().items() if name.startswith(begins) and name in own}
    model.load_state_dict({**own, **taken})
    return Origin(sha256_of(path), dict(metadata.get("provenance") or {}))


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
