"""One image, and what is wanted of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .planning.budget import Budget, BudgetRequest
from .tasks import TaskRequest

if TYPE_CHECKING:
    from .imaging.images import ImageSource
    from .planning.planner import Plan, SizeRequest

OutputSize = Literal["network", "original"]


@dataclass(frozen=True)
class Request:
    """The arguments of one `engine(...)` call, for `engine.run_batch`.

    Args:
        tasks: None (all), "depth,edge", "depth=2,edge>=0.9", a list, or a dict of preferences.
        budget: None (full), "20ms", 0.5, "1.5GFLOPs", "300MB", "50mJ", "width=0.5", "top_k=2", combinations, "min", or
            a Plan.
        size: input size, one of the bundle's; None for the best that was measured, else its first.
        output_size: "network" (the network plane, padding included) or "original" (the picture's pixels).
        features: keep the encoder's tokens in the Result.
        probabilities: keep the softmax of dense class tasks in the Result.
        strict: raise InfeasibleBudgetError instead of answering with the smallest plan.
    """

    image: ImageSource
    tasks: TaskRequest = None
    budget: BudgetRequest | Budget | Plan = None
    size: SizeRequest = None
    output_size: OutputSize = "network"
    features: bool = False
    probabilities: bool = False
    strict: bool = False
