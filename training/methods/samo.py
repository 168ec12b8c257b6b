"""SAMO: sharpness-aware multi-task descent whose moves mix all tasks' gradient with a forward-only guess of each one's.

Source: Ban, Subramani, Ji 2025, "SAMO: A Lightweight Sharpness-Aware Approach for Multi-Task Optimization with Joint
Global-Local Perturbation" (ICCV 2025, arXiv 2507.07883); read in the published code (OptMN-Lab/SAMO @ c7c431c,
`trainer_samo.py` and `GradEstimator`). With shared weights s in tensors (layers) l, own weights o_t, and g the gradient
by s of the mean of all losses:

    z ~ N(0, 1),   q_t = z * ( L_t(s + mu z) - L_t(s - mu z) ) / (2 mu)         two forward passes, no backward
    m_t[l] = (1 - beta) * g[l] + beta * |g[l]| * q_t[l] / |q_t[l]|              layer by layer
    e_t    = rho * m_t / |m_t|,   d_t = rho * (dL/do_t) / |dL/do_t|
    shared gradient = aggregate( dL_t/ds at (s + e_t, o_t + d_t) ),   own gradient dL_t/do_t there

The published code draws another z for each task, from a seed; here the seed comes from the training's own, so that a
resumed training repeats it, and all processes draw the same.

A note on cost: what the forward passes save is a backward pass per task. Where each row has one task, as here, the
tasks' gradients cost no more than their sum, so SAMO saves little over `flat`; the published recipe is kept as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .aggregate import Aggregate
from .split import Average, Split, TaskLoss, gradients, moved, rescaled

__all__ = ["guessed_gradient", "joint_direction", "samo_gradients"]


def guessed_gradient(
    task_loss: TaskLoss, task: str, weights: Sequence[nn.Parameter], probe: float, seed: int, average: Average
) -> list[Tensor]:
    """A task's gradient from two forward passes along one random direction (SPSA, Spall 1992)."""
    direction = _noise(weights, seed)
    values = []
    with torch.no_grad():
        for sign in (1.0, -1.0):
            with moved(weights, [sign * probe * part for part in direction]):
                values.append(task_loss(task).detach())
        slope = (values[0] - values[1]) / (2 * probe)
        average([slope])
    return [part * slope.to(part.dtype) for part in direction]


def joint_direction(common: Sequence[Tensor], guessed: Sequence[Tensor], beta: float) -> list[Tensor]:
    """All tasks' gradient and one task's guess, mixed layer by layer; the guess takes the layer's length."""
    mixed = []
    for all_tasks, one in zip(common, guessed):
        own_direction = one * (all_tasks.norm() / one.norm().clamp(min=1e-12))
        mixed.append((1 - beta) * all_tasks + beta * own_direction)
    return mixed


def samo_gradients(
    task_loss: TaskLoss,
    common: dict[nn.Parameter, Tensor],
    split: Split,
    *,
    rho: float,
    beta: float,
    probe: float,
    seeds: dict[str, int],
    aggregate: Aggregate,
    average: Average,
) -> dict[nn.Parameter, Tensor]:
    """Gradient of every weight after SAMO's moves.

    Args:
        task_loss: see `split.TaskLoss`; called three times for each task, twice of it without a graph.
        common: gradient of the sum (or mean: only its direction counts) of all losses by every weight.
        split: whose gradients are wanted.
        rho: length of each of the two moves.
        beta: share of the task's own guess in the move.
        probe: step of the two forward passes.
        seeds: what each task's random direction is drawn from.
        aggregate: makes one of the tasks' shared gradients.
        average: over processes; `common` is averaged already.
    """
    gathered, result = [], {}
    for task, own in split.own.items():
        guessed = guessed_gradient(task_loss, task, split.shared, probe, seeds[task], average)
        towards = rescaled(joint_direction([common[weight] for weight in split.shared], guessed, beta), rho)
        own_move = rescaled([common[weight] for weight in own], rho) if own else []
        with moved([*split.shared, *own], [*towards, *own_move]):
            there = gradients(task_loss(task), [*split.shared, *own])
        average(there)
        gathered.append(there[: len(split.shared)])
        result.update(zip(own, there[len(split.shared) :]))
    result.update(zip(split.shared, aggregate(gathered)))
    return result


def _noise(weights: Sequence[nn.Parameter], seed: int) -> list[Tensor]:
    """Standard normal numbers, the same on every device and in every process."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(weight.shape, generator=generator).to(weight.device, weight.dtype) for weight in weights]
