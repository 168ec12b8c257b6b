"""Norms and products of rows that differ from their image by a low-rank product, without ever making those rows.

A task's branch adds products of rank R to what all tasks share. Layer norm and a matrix behind it read such rows only
through numbers of size R, which are worked out here: per row of a batch nothing as wide as D is written, and the big
product behind the norm runs once per image. Exact but for rounding, as the mean is linear and the variance quadratic:

    x = base + thin @ wide,  c = base - mean(base),  u = wide - mean(wide)
    x - mean(x) = c + thin @ u
    var(x) = (|c|^2 + 2 (c @ u^T) . thin + thin @ (u @ u^T) . thin) / D
    norm(x) @ M = ((c * gain) @ M + thin @ ((u * gain) @ M)) / sqrt(var + eps) + shift @ M

Axes: I images, B rows (an image with one task), N tokens, D channels, R rank, Q columns of a row's own matrix.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@torch.library.custom_op("slimpath::one_or_all", mutates_args=())
def one_or_all(index_B: Tensor, image_I: Tensor) -> Tensor:
    """The index by which rows take what belongs to their image.

    In a graph for CPUs it has one entry if there is one image: what is taken by it then has a first axis of 1 and is
    not repeated for every row. So only what broadcasts may read that: sums, products by element, batches of matrix
    products.
    """
    return index_B.clone()


@one_or_all.register_fake
def _(index_B: Tensor, image_I: Tensor) -> Tensor:
    return torch.empty_like(index_B)


def rows_of(tensor_I: Tensor, index_B: Tensor) -> Tensor:
    """Each row's entry of a tensor that has one per image; see `one_or_all`."""
    return tensor_I.index_select(0, index_B)


def rows_times(tensor_IND: Tensor, index_B: Tensor, matrix_BDQ: Tensor) -> Tensor:
    """Each row's image times the row's own matrix, [B, N, Q]."""
    return torch.matmul(rows_of(tensor_IND, index_B), matrix_BDQ)


class ThinRows(NamedTuple):
    """Rows that are their image's tokens, base [I, N, D], plus thin [B, N, R] @ wide [B, R, D]."""

    base_IND: Tensor
    thin_BNR: Tensor
    wide_BRD: Tensor
    index_B: Tensor

    def whole(self) -> Tensor:
        """The rows themselves, [B, N, D]."""
        return rows_of(self.base_IND, self.index_B) + torch.matmul(self.thin_BNR, self.wide_BRD)


class ThinNorm:
    """The layer norm of such rows, ready to be multiplied: `own`, by a matrix of each row, or `shared`."""

    def __init__(self, rows: ThinRows, norm: nn.LayerNorm) -> None:
        self._rows, self._norm, self._channels = rows, norm, rows.base_IND.shape[-1]
        self._centred_IND = rows.base_IND - rows.base_IND.mean(dim=-1, keepdim=True)
        self._square_IN1 = self._centred_IND.square().mean(dim=-1, keepdim=True)
        self._wide_BRD = rows.wide_BRD - rows.wide_BRD.mean(dim=-1, keepdim=True)

    def own(self, matrix_BDQ: Tensor) -> Tensor:
        """norm(rows) @ matrix, [B, N, Q], for Q as small as the rank."""
        # Columns first: the norm's vectors then broadcast as they are, and stay references to the weights in a graph.
        matrix_BQD, wide_BRD = matrix_BDQ.transpose(1, 2), self._wide_BRD
        gained_BQD = matrix_BQD * self._norm.weight
        both_BSD = torch.cat([wide_BRD, gained_BQD], dim=1)
        products = rows_times(self._centred_IND, self._rows.index_B, both_BSD.transpose(1, 2))
        crossed, product = products.split([wide_BRD.shape[1], matrix_BQD.shape[1]], dim=2)
        inner_BRQ = torch.matmul(wide_BRD, gained_BQD.transpose(1, 2))
        product = product + torch.matmul(self._rows.thin_BNR, inner_BRQ)
        shift_B1Q = (matrix_BQD * self._norm.bias).sum(dim=-1).unsqueeze(1)
        return product * self._inverse_deviation(crossed) + shift_B1Q

    def shared(self, weight_OD: Tensor) -> Tensor:
        """norm(rows) @ weight^T, [B, N, O]; the product as large as the base runs once per image."""
        rows, gain = self._rows, self._norm.weight
        crossed = rows_times(self._centred_IND, rows.index_B, self._wide_BRD.transpose(1, 2))
        inverse = self._inverse_deviation(crossed)
        base = F.linear((self._centred_IND * gain).flatten(0, 1), weight_OD).unflatten(0, rows.base_IND.shape[:2])
        shift_B1D = self._norm.bias.expand(len(rows.wide_BRD), 1, -1)
        small_BSD = torch.cat([self._wide_BRD * gain, shift_B1D], dim=1)
        small_BSO = F.linear(small_BSD.flatten(0, 1), weight_OD).unflatten(0, small_BSD.shape[:2])
        thin_BNS = torch.cat([rows.thin_BNR * inverse, torch.ones_like(inverse)], dim=2)
        return rows_of(base, rows.index_B) * inverse + torch.matmul(thin_BNS, small_BSO)

    def _inverse_deviation(self, crossed_BNR: Tensor) -> Tensor:
        """1 / sqrt(var + eps), [B, N, 1]; `crossed` is c @ u^T."""
        thin_BNR, wide_BRD = self._rows.thin_BNR, self._wide_BRD
        squares_BRR = torch.matmul(wide_BRD, wide_BRD.transpose(1, 2))
        mixed = (2 * crossed_BNR + torch.matmul(thin_BNR, squares_BRR)) * thin_BNR
        change_BN1 = mixed.sum(dim=-1, keepdim=True) / self._channels
        variance = rows_of(self._square_IN1, self._rows.index_B) + change_BN1
        return torch.rsqrt(F.relu(variance) + self._norm.eps)


def merged_neighbours(rows: ThinRows, grid_hw: tuple[int, int]) -> ThinRows:
    """The rows with four neighbouring tokens side by side, as patch merging has them: [.., N / 4, 4 * D]."""
    thin, wide = regroup(rows.thin_BNR, grid_hw), rows.wide_BRD
    own_place = torch.eye(4, dtype=wide.dtype, device=wide.device)[None, :, None, :, None]
    spread = (own_place * wide[:, None, :, None, :]).flatten(3, 4).flatten(1, 2)
    return ThinRows(regroup(rows.base_IND, grid_hw), thin, spread, rows.index_B)


def regroup(tokens_BND: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """Four neighbouring tokens side by side: (row, column) (even, even), (odd, even), (even, odd), (odd, odd)."""
    (height, width), dim = grid_hw, tokens_BND.shape[-1]
    cut = tokens_BND.reshape(-1, height // 2, 2, width // 2, 2, dim)
    return cut.permute(0, 1, 3, 4, 2, 5).reshape(-1, height * width // 4, 4 * dim)
