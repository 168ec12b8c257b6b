"""Several tasks' gradients of the shared weights become one.

"sum" is plain descent on the sum of the losses. The others resolve conflicts between tasks and come from TorchJD
(torchjd.org), which keeps them beside their papers: "pcgrad" (Yu et al. 2020), "cagrad" (Liu et al. 2021), "upgrad"
(Quinton and Rey 2024) and "mgda" (Désidéri 2012). Their results differ in length (a sum, or a mean); AdamW and the
clipping of the gradient make up for that. Two need solvers that are not among slimpath's dependencies, UPGrad one
under the GPL (quadprog), CAGrad a whole modelling language (cvxpy): `_SOLVERS` has the commands that install them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..errors import ConfigError

__all__ = ["Aggregate", "aggregator"]

Aggregate = Callable[[Sequence[Sequence[Tensor]]], list[Tensor]]
"""Gradients by task, each a list over the same weights, to one such list."""


_SOLVERS = {
    "upgrad": ("a solver under the GPL that slimpath does not depend on", "torchjd[quadprog-projector]"),
    "cagrad": ("cvxpy, which slimpath does not depend on", "torchjd[cagrad]"),
}


def aggregator(name: str, seed: int, cagrad_c: float = 0.4) -> Aggregate:
    """The aggregator of that name.

    Args:
        name: one of `settings.AGGREGATORS`.
        seed: for those that take the tasks in random order, so that every process takes the same.
        cagrad_c: how far from the mean gradient CAGrad may go, in lengths of it.

    Raises:
        ConfigError: TorchJD, or a solver that it needs for this aggregator, is not installed.
    """
    if name == "sum":
        return lambda gradients: [torch.stack(parts).sum(dim=0) for parts in zip(*gradients)]
    combine = _from_torchjd(name, cagrad_c)

    def aggregate(gradients: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        matrix_TP = torch.stack([torch.cat([part.float().flatten() for part in parts]) for parts in gradients])
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed GPUs, too, for good
            flat_P = combine(matrix_TP)
        pieces = flat_P.split([part.numel() for part in gradients[0]])
        return [piece.view_as(part).to(part.dtype) for piece, part in zip(pieces, gradients[0])]

    return aggregate


def _from_torchjd(name: str, cagrad_c: float) -> Callable[[Tensor], Tensor]:
    try:
        from torchjd import aggregation
    except ImportError as error:
        raise ConfigError(
            f'methods.aggregate={name} needs TorchJD; pip install "slimpath[train]", or take "sum"'
        ) from error
    try:
        if name == "cagrad":
            return aggregation.CAGrad(c=cagrad_c)
        return {"pcgrad": aggregation.PCGrad, "upgrad": aggregation.UPGrad, "mgda": aggregation.MGDA}[name]()
    except ImportError as error:
        solver, extra = _SOLVERS[name]
        raise ConfigError(
            f'methods.aggregate={name} needs {solver}; pip install "{extra}", or take "pcgrad"'
        ) from error
