"""Learned coefficients: theta^l = theta_0^l + sum_t lambda_t^l * tau_t^l, one lambda for every task and tensor.

What AdaMerging and aTLAS share; they differ in where the coefficients start, in what they are bound to, and in what
they are learned for. Axes: L tensors of the backbone, T tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call

from ...models import ModelOutput, MultiTaskModel
from .errors import MergeError
from .vectors import Tensors

__all__ = ["Blend", "Learned", "Steps", "answers", "learn"]

#: Told after every step: how many are done, and the loss.
Steps = Callable[[int, float], None]


@dataclass(frozen=True)
class Learned:
    """What was learned: coefficients [L, T] by tensor and task, and the loss of every step."""

    names: tuple[str, ...]
    coefficients_LT: Tensor
    losses: tuple[float, ...]

    def by_tensor(self) -> dict[str, list[float]]:
        """The coefficients of every tensor, in the order of the tasks."""
        return {name: row.tolist() for name, row in zip(self.names, self.coefficients_LT, strict=True)}


class Blend:
    """A base and task vectors, to be mixed by coefficients [L, T]."""

    def __init__(self, base: Mapping[str, Tensor], vectors: Sequence[Mapping[str, Tensor]]) -> None:
        self.names = tuple(base)
        self.base = dict(base)
        self.stacked = {name: torch.stack([vector[name] for vector in vectors]) for name in base}
        self.tasks = len(vectors)

    def start(self, value: float) -> Tensor:
        """Coefficients [L, T] that are all the same, in fp32, to be learned."""
        return torch.full((len(self.names), self.tasks), value, requires_grad=True)

    def change(self, coefficients_LT: Tensor) -> Tensors:
        """sum_t lambda_t^l tau_t^l of every tensor, float64."""
        rows = coefficients_LT.double()
        return {name: torch.tensordot(row, self.stacked[name], 1) for name, row in zip(self.names, rows, strict=True)}

    def tensors(self, coefficients_LT: Tensor) -> Tensors:
        """The mixed backbone in the base's precision, with a gradient to the coefficients."""
        change = self.change(coefficients_LT)
        return {name: (value.double() + change[name]).to(value.dtype) for name, value in self.base.items()}


def answers(
    model: MultiTaskModel, backbone: Mapping[str, Tensor], images_I3HW: Tensor, tasks: Sequence[str]
) -> ModelOutput:
    """Every task of every picture at full width, with `backbone` in place of the model's own."""
    index_B = torch.arange(len(images_I3HW)).repeat_interleave(len(tasks))
    rows = [task for _ in images_I3HW for task in tasks]
    return functional_call(model, dict(backbone), (images_I3HW, rows), {"image_index_B": index_B})


def learn(
    coefficients_LT: Tensor,
    optimizer: torch.optim.Optimizer,
    losses: Iterable[Tensor],
    *,
    grad_clip: float | None = None,
    progress: Steps = lambda done, loss: None,
) -> list[float]:
    """One update per loss.

    Args:
        losses: makes the loss of the present coefficients, a scalar, whenever it is asked for the next one.
        grad_clip: longest gradient.

    Raises:
        MergeError: a loss or a gradient is not finite.
    """
    history: list[float] = []
    for step, loss in enumerate(losses):
        optimizer.zero_grad()
        loss.backward()
        assert coefficients_LT.grad is not None
        if not bool(torch.isfinite(loss) & torch.isfinite(coefficients_LT.grad).all()):
            raise MergeError(
                f"step {step}: expected a finite loss, got {float(loss.detach()):g}",
                hint="take a smaller --lr, or a smaller --scale to start from",
            )
        if grad_clip is not None:
            torch.nn.utils.clip_grad_norm_([coefficients_LT], grad_clip)
        optimizer.step()
        history.append(float(loss.detach()))
        progress(step + 1, history[-1])
    return history
