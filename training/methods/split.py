"""Weights by whom they serve, and moving them for a moment."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["Average", "Split", "TaskLoss", "gradients", "length", "moved", "rescaled", "split_weights"]

TaskLoss = Callable[[str], Tensor]
"""Loss of one task at the weights as they are now, with a graph; calls with equal weights agree."""

Average = Callable[[Sequence[Tensor]], None]
"""Replace tensors by their means over the processes."""

_OWN = ("heads", "routers", "adapters")


@dataclass(frozen=True)
class Split:
    """Weights that all tasks share, and those that only one of them uses."""

    shared: list[nn.Parameter]
    own: dict[str, list[nn.Parameter]]

    def only(self, tasks: Collection[str]) -> Split:
        """Without the tasks that a batch has no rows of."""
        return Split(self.shared, {task: own for task, own in self.own.items() if task in tasks})


def split_weights(model: nn.Module, tasks: Sequence[str]) -> Split:
    """Heads, routers and adapters belong to their task; everything else that is trained is shared."""
    shared: list[nn.Parameter] = []
    own: dict[str, list[nn.Parameter]] = {task: [] for task in tasks}
    for name, weight in model.named_parameters():
        part, task = (name.split(".") + [""])[:2]
        if weight.requires_grad:
            (own[task] if part in _OWN and task in own else shared).append(weight)
    return Split(shared, own)


def gradients(loss: Tensor, weights: Sequence[nn.Parameter], *, keep_graph: bool = False) -> list[Tensor]:
    """Gradient by each weight; zeros where the loss does not depend on it."""
    if not loss.requires_grad:
        return [torch.zeros_like(weight) for weight in weights]
    found = torch.autograd.grad(loss, list(weights), allow_unused=True, retain_graph=keep_graph)
    return [torch.zeros_like(weight) if part is None else part for weight, part in zip(weights, found)]


def length(vectors: Sequence[Tensor]) -> Tensor:
    """Euclidean length of several tensors taken as one vector."""
    return torch.stack([vector.norm() for vector in vectors]).norm()


def rescaled(vectors: Sequence[Tensor], to: float) -> list[Tensor]:
    """The same direction with another length: `to * v / (|v| + 1e-12)`, as in SAM (Foret et al. 2021, eq. 2)."""
    factor = to / (length(vectors) + 1e-12)
    return [vector * factor.to(vector.dtype) for vector in vectors]


@contextmanager
def moved(weights: Sequence[nn.Parameter], by: Sequence[Tensor]) -> Iterator[None]:
    """Inside, the weights are moved; after it they have exactly the values they had."""
    with torch.no_grad():
        before = [weight.detach().clone() for weight in weights]
        for weight, step in zip(weights, by):
            weight.add_(step)
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, value in zip(weights, before):
                weight.copy_(value)
