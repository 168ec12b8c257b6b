"""From the losses of a step to a gradient for every weight: all at once, or task by task."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from . import distributed
from .methods.aggregate import aggregator
from .methods.flat import flat_gradients, task_gradients
from .methods.samo import samo_gradients
from .methods.split import Split, gradients, split_weights
from .step_loss import PassLosses, StepLoss, Teacher

__all__ = ["per_task_descent", "plain_descent"]

_NOISE, _PROBE, _ORDER = 5, 6, 7  # what a seed is for; 1 to 4 are taken by batches and passes


def plain_descent(step_loss: StepLoss) -> tuple[Tensor, dict[str, Tensor]]:
    """Leave the gradient of the mean over all passes in every weight.

    Returns:
        The sum of the passes' losses, and what the journal shows of them; detached.
    """
    total, shown = torch.zeros((), device=step_loss.config.device), {}
    teacher: Teacher | None = step_loss.original_teacher()
    for number, chosen in enumerate(step_loss.passes):
        found = step_loss.of_pass(chosen, teacher)
        loss = found.total()
        (loss / len(step_loss.passes)).backward()
        total += loss.detach()
        teacher = teacher or found.teacher
        shown |= _shown(number, found)
    return total, shown


def per_task_descent(step_loss: StepLoss, step: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Leave the gradient of the chosen methods in every weight: tasks apart, then aggregated; what belongs to no single
    task (balance, features, saliencies) is added as it is at the unmoved weights.

    Returns:
        As `plain_descent`.
    """
    methods, seed = step_loss.config.methods, step_loss.config.seed
    split = split_weights(step_loss.model, step_loss.config.tasks).only(step_loss.batch.present_tasks())
    common, total, shown = _common(step_loss, split, wanted=methods.sharpness == "samo")
    numbers = {task: number for number, task in enumerate(step_loss.config.tasks)}
    noise = {task: _seed(seed, _NOISE, step, numbers[task], distributed.rank()) for task in split.own}

    def task_loss(task: str) -> Tensor:
        return step_loss.of_task(task, noise[task])

    aggregate = aggregator(methods.aggregate, _seed(seed, _ORDER, step), methods.cagrad_c)
    if methods.sharpness == "samo":
        found = samo_gradients(
            task_loss,
            common,
            split,
            rho=methods.rho,
            beta=methods.samo_beta,
            probe=methods.samo_probe,
            seeds={task: _seed(seed, _PROBE, step, numbers[task]) for task in split.own},
            aggregate=aggregate,
            average=distributed.average_tensors,
        )
    elif methods.sharpness == "flat":
        found = flat_gradients(task_loss, split, methods.rho, aggregate, distributed.average_tensors)
    else:
        found = task_gradients(task_loss, split, aggregate, distributed.average_tensors)
    for weight, gradient in found.items():
        weight.grad = gradient if weight.grad is None else weight.grad + gradient
    return total, shown


def _common(
    step_loss: StepLoss, split: Split, *, wanted: bool
) -> tuple[dict[nn.Parameter, Tensor], Tensor, dict[str, Tensor]]:
    """One ordinary pass over everything: leaves the gradient of what belongs to no single task in the weights.

    Returns:
        The gradient of the sum of the tasks' losses by every weight, if it is wanted, averaged over processes (the
        other gradients are averaged at the end of the step); then as `plain_descent`.
    """
    weights = [*split.shared, *(weight for own in split.own.values() for weight in own)]
    learnt = list(step_loss.uncertainty.parameters()) if step_loss.uncertainty is not None else []
    parts = [torch.zeros_like(weight) for weight in weights] if wanted else []
    total, shown = torch.zeros((), device=step_loss.config.device), {}
    teacher: Teacher | None = None
    for number, chosen in enumerate(step_loss.passes):
        found = step_loss.of_pass(chosen, teacher)
        terms = torch.stack(list(found.terms.values())).sum() / len(step_loss.passes)
        if wanted or learnt:
            asked = [*(weights if wanted else []), *learnt]
            gradient = gradients(terms, asked, keep_graph=True)
            parts = [old + new for old, new in zip(parts, gradient)]
            _add_gradients(learnt, gradient[len(gradient) - len(learnt) :])
        if found.extra.requires_grad:
            (found.extra / len(step_loss.passes)).backward()
        total += found.total().detach()
        teacher = teacher or found.teacher
        shown |= _shown(number, found)
    distributed.average_tensors(parts)
    return dict(zip(weights, parts)), total, shown


def _add_gradients(weights: Sequence[nn.Parameter], by: Sequence[Tensor]) -> None:
    for weight, gradient in zip(weights, by):
        weight.grad = gradient if weight.grad is None else weight.grad + gradient


def _shown(number: int, found: PassLosses) -> dict[str, Tensor]:
    """What the journal shows of a pass: the widest comes first, the narrowest second."""
    if number > 1:
        return {}
    name = ("widest", "narrowest")[number]
    balance = {"balance": found.balance} if number == 0 else {}
    return balance | {f"{task}_{name}": value for task, value in found.truth.items()}


def _seed(*numbers: int) -> int:
    return int(np.random.default_rng(numbers).integers(2**62))
