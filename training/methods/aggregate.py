"""Several tasks' gradients of the shared weights become one.

"sum" is plain descent on the sum of the losses. The others resolve conflicts between tasks and come from TorchJD
(torchjd.org), which keeps them beside their papers: "pcgrad" (Yu et al. 2020), "upgrad" (Quinton and Rey 2024) and
"mgda" (Désidéri 2012). Their results differ in length (a sum, or a mean); AdamW and the clipping of the gradient make
up for that. UPGrad needs a solver that is under the GPL (quadprog) and therefore not among slimpath's dependencies:
pip install "torchjd[quadprog-projector]".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..errors import ConfigError

__all__ = ["Aggregate", "aggregator"]

Aggregate = Callable[[Sequence[Sequence[Tensor]]], list[Tensor]]
"""Gradients by task, each a list over the same weights, to one such list."""


def aggregator(name: str, seed: int) -> Aggregate:
    """The aggregator of that name.

    Args:
        name: one of `settings.AGGREGATORS`.
        seed: for those that take the tasks in random order, so that every process takes the same.

    Raises:
        ConfigError: TorchJD, or a solver that it needs for this aggregator, is not installed.
    """
    if name == "sum":
        return lambda gradients: [torch.stack(parts).sum(dim=0) for parts in zip(*gradients)]
    combine = _from_torchjd(name)

    def aggregate(gradients: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        matrix_TP = torch.stack([torch.cat([part.float().flatten() for part in parts]) for parts in gradients])
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed GPUs, too, for good
            flat_P = combine(matrix_TP)
        pieces = flat_P.split([part.numel() for part in gradients[0]])
        return [piece.view_as(part).to(part.dtype) for piece, part in zip(pieces, gradients[0])]

    return aggregate


def _from_torchjd(name: str) -> Callable[[Tensor], Tensor]:
    try:
        from torchjd import aggregation
    except ImportError as error:
        raise ConfigError(
            f'methods.aggregate={name} needs TorchJD; pip install "slimpath[train]", or take "sum"'
        ) from error
    try:
        return {"pcgrad": aggregation.PCGrad, "upgrad": aggregation.UPGrad, "mgda": aggregation.MGDA}[name]()
    except ImportError as error:
        raise ConfigError(
            f"methods.aggregate={name} needs a solver under the GPL that slimpath does not depend on; "
            'pip install "torchjd[quadprog-projector]", or take "pcgrad"'
        ) from error
