"""A small base and fine-tunes of it: the same network, moved a little at random, each with a task of its own."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from slimpath.models import HeadConfig, MultiTaskModel, build_preset, save_checkpoint
from slimpath.models.model import SHARED_PARTS
from slimpath.training.merging import Family, Source, load_family

HEADS = {
    "semseg": HeadConfig("semseg", "classes", 3),
    "depth": HeadConfig("depth", "depth", 1),
    "normals": HeadConfig("normals", "normals", 3),
    "edge": HeadConfig("edge", "probability", 1),
    "scene": HeadConfig("scene", "image_classes", 2),
}


def random_model(preset: str, tasks: tuple[str, ...], seed: int, **overrides: Any) -> MultiTaskModel:
    """A network whose every number is random, so that none is zero by its initialisation and hides a mistake."""
    torch.manual_seed(seed)
    model = build_preset(preset, tuple(HEADS[task] for task in tasks), **overrides)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.add_(torch.randn_like(parameter) * (0.1 if parameter.ndim < 2 or "down" in name else 0.02))
    return model.eval()


def moved(base: MultiTaskModel, task: str, seed: int, by: float = 0.1, only: str = "") -> MultiTaskModel:
    """A fine-tune for one task: what the base shares plus `by` times its deviation of noise (where the pattern
    `only` fits the name), and a head, routers and adapters of its own."""
    model = random_model_like(base, task, seed)
    generator = torch.Generator().manual_seed(seed + 100)
    own = model.state_dict()
    state = {
        name: value.clone()
        for name, value in base.state_dict().items()
        if name in own and name.startswith(SHARED_PARTS)
    }
    for name, value in state.items():
        noise = torch.randn(value.shape, generator=generator)
        if re.search(only, name):
            state[name] = value + by * noise * value.std(correction=0)
    model.load_state_dict({**own, **state})
    return model


def random_model_like(base: MultiTaskModel, task: str, seed: int) -> MultiTaskModel:
    torch.manual_seed(seed)
    head = HEADS[task]
    if base.config.has_decoder_experts and not head.pooled:
        head = replace(head, decoder="taskexpert")
    model = MultiTaskModel(replace(base.config, tasks=(head,)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def write_family(
    folder: Path,
    tasks: tuple[str, ...] = ("semseg", "depth", "edge"),
    *,
    preset: str = "m3vit_micro",
    by: float = 0.1,
    only: str = "",
    **overrides: Any,
) -> tuple[Path, list[Path]]:
    """Files of a base (of two tasks) and of one fine-tune per task."""
    base = random_model(preset, ("semseg", "scene"), 0, **overrides)
    path = save_checkpoint(folder / "base.safetensors", base, {"licence": "Apache-2.0"})
    tuned = []
    for seed, task in enumerate(tasks, start=1):
        model = moved(base, task, seed, by, only)
        tuned.append(save_checkpoint(folder / f"{task}.safetensors", model, {"licence": "Apache-2.0"}))
    return path, tuned


def read_family(folder: Path, *arguments: Any, **options: Any) -> Family:
    """`write_family`, read again."""
    base, tuned = write_family(folder, *arguments, **options)
    return load_family(base, [Source(path) for path in tuned])
