"""A network with one task more, in which only that task's own numbers learn.

As in CLR: what a network knows lies in weights that never change, so nothing is forgotten; a task brings a small change
of how they are used. CLR's change is a depthwise convolution after each convolution; here it is what this network's
rows bring anyway: the task's routers, its low-rank adapters, and its head.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from ...models import HeadConfig, MultiTaskModel
from ..errors import ConfigError

__all__ = ["default_like", "frozen_state", "own_parts", "with_task"]


def default_like(model: MultiTaskModel, head: HeadConfig) -> str:
    """The task to begin from: the first of the same kind, else the first with the same sort of head."""
    tasks = model.config.tasks
    same = [task.name for task in tasks if task.kind == head.kind]
    alike = [task.name for task in tasks if task.pooled == head.pooled]
    return (same or alike or [tasks[0].name])[0]


def with_task(model: MultiTaskModel, head: HeadConfig, like: str | None = None) -> MultiTaskModel:
    """A copy with the task `head` beside the others, everything but that task's own parts frozen.

    Args:
        like: the task whose routers, adapters and head it begins from, wherever shapes agree; `default_like` if None.

    Raises:
        ConfigError: a task of that name exists, or `like` does not.
    """
    names = model.config.task_names
    if head.name in names:
        raise ConfigError(f"there is a task '{head.name}' already; this bundle has {', '.join(names)}")
    like = default_like(model, head) if like is None else like
    if like not in names:
        raise ConfigError(f"no task '{like}' to begin from; this bundle has {', '.join(names)}")
    grown = MultiTaskModel(replace(model.config, tasks=(*model.config.tasks, head)))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    fresh = {name: value for name, value in grown.state_dict().items() if name not in state}
    for name, value in fresh.items():
        part, _, rest = name.split(".", 2)
        start = state.get(f"{part}.{like}.{rest}")
        # Experts that the other task's expert paths rule out (a bias of -inf) are open to this one.
        state[name] = start.nan_to_num(neginf=0.0) if start is not None and start.shape == value.shape else value
    grown.load_state_dict(state)
    grown.requires_grad_(False)
    own_parts(grown, head.name).requires_grad_(True)
    return grown.to(model.device).eval()  # the backbone's routers make no noise, and nothing in it adapts


def own_parts(model: MultiTaskModel, task: str) -> nn.ModuleDict:
    """What a task has for itself: `router` and `adapters` where the network has such, and `head`."""
    groups = {"router": model.routers, "adapters": model.adapters, "head": model.heads}
    return nn.ModuleDict({part: group[task] for part, group in groups.items() if task in group})


def frozen_state(model: MultiTaskModel, task: str) -> dict[str, torch.Tensor]:
    """Every tensor that learning the task must not change, by name."""
    own = tuple(f"{part}.{task}." for part in ("routers", "adapters", "heads"))
    return {name: value for name, value in model.state_dict().items() if not name.startswith(own)}
