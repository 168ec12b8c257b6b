"""Task-based flat minima: sharpness-aware descent with a move of the weights for each task.

Source: Phan et al. 2022, "Improving Multi-task Learning via Seeking Task-based Flat Regions" (arXiv 2211.13723; ICCV
2025 as "Beyond Losses Reweighting"), sections 4.3 and 4.4, algorithm 1; read in the published code (FS-MTL,
`city2scape/train.py`). For each task t with shared weights s and own weights o_t:

    g_t   = dL_t/ds at (s, o_t)
    e_t   = rho * g_t / |g_t|,   d_t = rho * (dL_t/do_t) / |dL_t/do_t|
    G_t   = dL_t/ds at (s + e_t, o_t + d_t),   own gradient dL_t/do_t there, too
    h_t   = G_t - g_t                                    the part that leads to flat regions
    shared gradient = aggregate(g_1 .. g_T) + aggregate(h_1 .. h_T)

With the sum as aggregate this is the sum of G_t; the split matters for those that resolve conflicts.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from .aggregate import Aggregate
from .split import Average, Split, TaskLoss, gradients, moved, rescaled

__all__ = ["flat_gradients", "task_gradients"]


def task_gradients(
    task_loss: TaskLoss, split: Split, aggregate: Aggregate, average: Average
) -> dict[nn.Parameter, Tensor]:
    """Gradient of every weight, the tasks' shared ones aggregated; no weight is moved."""
    shared, result = [], {}
    for task, own in split.own.items():
        mine, theirs = _both(task_loss, task, split, average)
        shared.append(mine)
        result.update(zip(own, theirs))
    result.update(zip(split.shared, aggregate(shared)))
    return result


def flat_gradients(
    task_loss: TaskLoss, split: Split, rho: float, aggregate: Aggregate, average: Average
) -> dict[nn.Parameter, Tensor]:
    """Gradient of every weight that leads to minima flat for each task.

    Args:
        task_loss: see `split.TaskLoss`; called twice for each task.
        split: whose gradients are wanted.
        rho: length of each of the two moves.
        aggregate: makes one of the tasks' shared gradients.
        average: over processes.
    """
    losses, flats = [], []
    result: dict[nn.Parameter, Tensor] = {}
    for task, own in split.own.items():
        shared_g, own_g = _both(task_loss, task, split, average)
        with moved([*split.shared, *own], [*rescaled(shared_g, rho), *(rescaled(own_g, rho) if own else [])]):
            shared_there, own_there = _both(task_loss, task, split, average)
        losses.append(shared_g)
        flats.append([there - here for there, here in zip(shared_there, shared_g)])
        result.update(zip(own, own_there))
    both = zip(aggregate(losses), aggregate(flats))
    result.update(zip(split.shared, [loss + flat for loss, flat in both]))
    return result


def _both(task_loss: TaskLoss, task: str, split: Split, average: Average) -> tuple[list[Tensor], Sequence[Tensor]]:
    """A task's gradients of shared and own weights, averaged over processes."""
    found = gradients(task_loss(task), [*split.shared, *split.own[task]])
    average(found)
    return found[: len(split.shared)], found[len(split.shared) :]
