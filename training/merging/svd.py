"""Low rank by singular values (Eckart and Young 1936): nothing of that rank is nearer in the sum of squares.

Axes: R rank.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["low_rank", "truncated"]


def low_rank(matrix_OI: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Factors [O, R] and [R, I] whose product is the nearest of rank `rank`; the first holds the singular values."""
    left, values, right = torch.linalg.svd(matrix_OI, full_matrices=False)
    return left[:, :rank] * values[:rank], right[:rank]


def truncated(value: Tensor, rank: int) -> Tensor:
    """SVD_r of a tensor as the matrix [first axis, the others]; a vector is left whole."""
    if value.ndim < 2:
        return value
    left, right = low_rank(value.reshape(value.shape[0], -1), rank)
    return (left @ right).reshape(value.shape)
