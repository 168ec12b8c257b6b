"""The optimizer's view of the weights: which decay, their moving average, and the move to another resolution."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ..models import MultiTaskModel

__all__ = ["WeightAverage", "build_optimizer", "carry_over"]

_NEVER_DECAYED = ("position", "class_token")


def build_optimizer(model: nn.Module, lr: float, weight_decay: float, betas: tuple[float, float]) -> torch.optim.AdamW:
    """AdamW without decay on vectors (norms, biases), class token and position embedding."""
    decayed, plain = [], []
    for name, parameter in model.named_parameters():
        vector = parameter.ndim < 2 or name.rsplit(".", 1)[-1] in _NEVER_DECAYED
        (plain if vector else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    # fused: one pass over each tensor; with some 500 small tensors 4 times as quick as foreach on 2 cores.
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=1e-8, fused=True)


class WeightAverage:
    """Exponential moving average of the weights, which is what gets saved and exported.

    Early on it forgets faster, min(decay, (1 + n) / (10 + n)), so that it does not drag the random start along.
    """

    def __init__(self, model: nn.Module, decay: float, updates: int = 0) -> None:
        self.decay = decay
        self.updates = updates
        self.values = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the model's present weights."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        present = [parameter.detach() for parameter in model.parameters()]
        torch._foreach_lerp_(list(self.values.values()), present, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]

    def applied(self, model: MultiTaskModel) -> MultiTaskModel:
        """A copy of the model that holds the averaged weights, in evaluation mode."""
        clone = copy.deepcopy(model)  # not resized(): fresh weights would draw from the random state
        clone.load_state_dict({**model.state_dict(), **self.values})
        return clone.eval()


def carry_over(
    model: MultiTaskModel, average: WeightAverage, optimizer: torch.optim.AdamW, image_hw: tuple[int, int]
) -> tuple[MultiTaskModel, WeightAverage, torch.optim.AdamW]:
    """Model, average and optimizer for another resolution.

    Everything is carried over but the optimizer's moments of tensors that change their shape (the position
    embedding): those start anew.
    """
    resized = model.resized(image_hw).train(model.training)
    averaged = average.applied(model).resized(image_hw)
    new_average = WeightAverage(averaged, average.decay, average.updates)
    group = optimizer.param_groups[0]
    new_optimizer = build_optimizer(resized, group["lr"], group["weight_decay"], group["betas"])
    old_parameters = dict(model.named_parameters())
    for name, parameter in resized.named_parameters():
        state: dict[str, Tensor] = optimizer.state.get(old_parameters[name], {})
        if state and old_parameters[name].shape == parameter.shape:
            new_optimizer.state[parameter] = {key: value.clone() for key, value in state.items()}
    return resized, new_average, new_optimizer
