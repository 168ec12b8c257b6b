"""TIES: trim each task vector, elect a sign for every number, take the mean of those that agree with it.

Source: Yadav et al. 2023, "TIES-Merging: Resolving Interference When Merging Models", section 3 and algorithm 1;
details where the paper leaves them open after prateeky2806/ties-merging, src/utils/merge_utils.py (`topk_values_mask`,
`resolve_sign` by mass, `disjoint_merge` by mean).
Axes: T tasks, P numbers of the whole backbone: all three steps look at it as one vector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .vectors import Tensors, flat, unflat

__all__ = ["agreeing", "disjoint_mean", "elect", "ties", "ties_split", "trim"]


def trim(numbers_TP: Tensor, keep: float) -> Tensor:
    """Each row with all but its largest `keep` (a share, by magnitude) set to 0.

    As published: what is at least as large as the (P - int(keep P))-th smallest stays, one number more than the share.
    """
    count = numbers_TP.shape[1]
    dropped = count - int(keep * count)
    if dropped < 1:
        return numbers_TP
    limit_T1 = numbers_TP.abs().kthvalue(dropped, dim=1, keepdim=True).values
    return torch.where(numbers_TP.abs() >= limit_T1, numbers_TP, 0.0)


def elect(numbers_TP: Tensor) -> Tensor:
    """The sign with the larger total magnitude over the tasks, [P], in {-1, 0, 1}; where both are equal, the sign that
    most of the others have."""
    sign_P = numbers_TP.sum(dim=0).sign()
    return torch.where(sign_P == 0, sign_P.sum().sign(), sign_P)


def agreeing(numbers_TP: Tensor, sign_P: Tensor) -> Tensor:
    """The numbers that have the elected sign; 0 elsewhere."""
    return torch.where(torch.where(sign_P > 0, numbers_TP > 0, numbers_TP < 0), numbers_TP, 0.0)


def disjoint_mean(agreeing_TP: Tensor) -> Tensor:
    """Mean over the tasks that are left at each number, [P]; 0 where none is."""
    return agreeing_TP.sum(dim=0) / (agreeing_TP != 0).sum(dim=0).clamp(min=1)


def ties(vectors: Sequence[Mapping[str, Tensor]], keep: float, scale: float) -> Tensors:
    """What is added to the base: the merged vector, times `scale`."""
    return unflat(scale * disjoint_mean(_split(vectors, keep)), vectors[0])


def ties_split(vectors: Sequence[Mapping[str, Tensor]], keep: float) -> list[Tensors]:
    """Each task vector after trimming and election, without the mean: what AdaMerging++ starts from."""
    return [unflat(row_P, vectors[0]) for row_P in _split(vectors, keep)]


def _split(vectors: Sequence[Mapping[str, Tensor]], keep: float) -> Tensor:
    trimmed_TP = trim(torch.stack([flat(vector) for vector in vectors]), keep)
    return agreeing(trimmed_TP, elect(trimmed_TP))
