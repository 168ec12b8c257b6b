"""Which units matter: what the answers lose when a unit is left out.

| measure | of a unit | needs |
|---|---|---|
| `fisher` | E[(dL/dm)²], m a factor (1) on what the unit gives | pictures |
| `magnitude` | L2 norm of all its numbers | nothing |

`fisher`: L is the log-likelihood of answers drawn from the network's own predictions (classes and probabilities as
predicted; depth and normals as normal distributions around them), so no labels are needed, and the mean of the squared
derivative is the Fisher information of m: how far the predictions move, to second order, when the unit goes. After
Theis et al. 2018 (Faster gaze prediction with dense networks and Fisher pruning) and Molchanov et al. 2019 (Importance
estimation for neural network pruning). As m multiplies the rows w of the products behind the unit, dL/dm = <w, dL/dw>:
no hook is needed. Every answer of every task counts alike: a map is divided by its pixels.

Axes: I images, U units of a group, R rows of a task, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from ...models import MultiTaskModel
from .errors import AdaptError
from .units import UnitGroup, rows_of_units

__all__ = ["MEASURES", "fisher", "magnitude"]

MEASURES = ("fisher", "magnitude")


def magnitude(groups: list[UnitGroup]) -> list[Tensor]:
    """L2 norm of each unit's numbers, [U] for each group."""
    return [
        torch.stack([rows.square().flatten(1).sum(1) for rows, _ in rows_of_units(group, way_out=False)]).sum(0).sqrt()
        for group in groups
    ]


def fisher(
    model: MultiTaskModel,
    groups: list[UnitGroup],
    batches: Iterable[Tensor],
    *,
    seed: int = 0,
    advance: Callable[[int], None] = lambda images: None,
) -> list[Tensor]:
    """Fisher information of each unit at full width, [U] for each group; experts that no token visits get 0.

    Args:
        batches: normalised pictures [I, 3, H, W]. Small batches are better: derivatives are squared once a batch.
        advance: told how many more pictures are done.

    Raises:
        AdaptError: the network's answers are not finite.
    """
    generator = torch.Generator().manual_seed(seed)
    found = [torch.zeros(group.count) for group in groups]
    for image_I3HW in batches:
        model.zero_grad(set_to_none=True)
        _drawn_likelihood(model, image_I3HW, generator).backward()
        for total_U, group in zip(found, groups, strict=True):
            derivative_U = torch.zeros(group.count)
            for rows, gradient in rows_of_units(group, way_out=True):
                if gradient is not None:
                    derivative_U += (rows * gradient).flatten(1).sum(1)
            total_U += derivative_U.square()
        advance(len(image_I3HW))
    model.zero_grad(set_to_none=True)
    if not all(bool(torch.isfinite(total_U).all()) for total_U in found):
        raise AdaptError("the network's answers on these pictures are not finite")
    return found


def _drawn_likelihood(model: MultiTaskModel, image_I3HW: Tensor, generator: torch.Generator) -> Tensor:
    """Log-likelihood of drawn answers, summed over images and tasks, a scalar."""
    tasks, images = model.config.task_names, len(image_I3HW)
    index_B = torch.arange(images).repeat(len(tasks))
    output = model(image_I3HW, [task for task in tasks for _ in range(images)], image_index_B=index_B)
    parts = [_of_task(model.config.task(task).kind, output.raw[task].float(), generator) for task in tasks]
    return torch.stack(parts).sum()


def _of_task(kind: str, raw: Tensor, generator: torch.Generator) -> Tensor:
    places = raw[0, 0].numel() if raw.ndim == 4 else 1
    if kind in ("classes", "image_classes"):
        log_p = raw.log_softmax(1).movedim(1, -1).flatten(0, -2)
        drawn = torch.multinomial(log_p.detach().exp(), 1, generator=generator)
        return log_p.gather(1, drawn).sum() / places**0.5
    if kind == "probability":
        drawn = torch.bernoulli(raw.detach().sigmoid(), generator=generator)
        return -F.binary_cross_entropy_with_logits(raw, drawn, reduction="sum") / places**0.5
    value = F.normalize(raw, dim=1, eps=1e-6) if kind == "normals" else raw
    noise = torch.randn(value.shape, generator=generator)
    return (value * noise).sum() / value.detach().std().clamp(min=1e-6) / places**0.5
