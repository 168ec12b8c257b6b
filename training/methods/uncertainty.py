"""Task weights learnt from the data: homoscedastic uncertainty.

Source: Kendall, Gal, Cipolla 2018, "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and
Semantics", equations 7 and 10, with s_t = log sigma_t^2 as in its section 3.2:

    L = sum_t  c_t * exp(-s_t) * L_t + s_t / 2,    c_t = 1/2 for regression (depth, normals), 1 for classification

The weights of `loss_weights` are part of L_t, so they say where it starts from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..tasks import TASK_KINDS

__all__ = ["UncertaintyWeights"]


class UncertaintyWeights(nn.Module):
    """One learnt number s_t for each task, 0 at the start, with the optimizer (Adam) that learns them."""

    def __init__(self, tasks: Sequence[str], device: str = "cpu") -> None:
        super().__init__()
        self.log_variance = nn.ParameterDict({task: nn.Parameter(torch.zeros((), device=device)) for task in tasks})
        self._optimizer = torch.optim.Adam(self.parameters())

    def forward(self, task: str, loss: Tensor) -> Tensor:
        """A task's part of the sum."""
        s = self.log_variance[task]
        share = 0.5 if TASK_KINDS[task] in ("depth", "normals") else 1.0
        return share * torch.exp(-s) * loss + s / 2

    def step(self, lr: float) -> None:
        """Learn from the gradients, and forget them."""
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Any]:
        """All that exact resuming needs."""
        return {"values": self.state_dict(), "optimizer": self._optimizer.state_dict()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` gave."""
        self.load_state_dict(state["values"])
        self._optimizer.load_state_dict(state["optimizer"])
