"""Layers of a slimmable Swin (Liu et al. 2021) with shared low-rank adapters (Agiza et al. 2024, MTLoRA).

As in `layers.py`, every slimmed tensor keeps its units first: qkv [heads * 3 * head_dim, D], proj [heads * head_dim,
D], bias tables [heads, ...], the MLP's up and down [hidden, D].
Axes: I images, H and W token grid, N = H*W tokens, D channels, T = I*N, U kept units, M windows, S tokens a window.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .adapters import LowRank
from .layers import linear_init, narrow_parameters_, prefix
from .shared import Parts, narrow_adapters_
from .swin_config import SwinConfig
from .thin import ThinNorm, ThinRows, merged_neighbours, regroup
from .widths import kept

NORM_EPS = 1e-5  # Swin; ViTs have 1e-6
# What is added to the scores of tokens that are no neighbours. Swin adds -100, which leaves weights of 1e-44: the same
# result, but products with such denormal numbers take ten times as long (25 ms instead of 2 in one block of Swin-T).
MASKED = -10_000.0


def relative_index(window: int) -> Tensor:
    """Entry of the bias table for every (query, key) of a window, int64 [S, S]; not symmetric."""
    # The device is named: these are no weights, and have values even while a network is laid out on "meta".
    place = torch.arange(window, device="cpu")
    row_S, column_S = (grid.flatten() for grid in torch.meshgrid(place, place, indexing="ij"))
    rows = row_S[:, None] - row_S[None] + window - 1
    return rows * (2 * window - 1) + column_S[:, None] - column_S[None] + window - 1


def shift_mask(grid_hw: tuple[int, int], window: int, shift: int) -> Tensor:
    """What is added to the scores of shifted windows, float32 [M, 1, S, S]: tokens from opposite edges do not see each
    other. The axis of the heads is there already: added in a graph, it would make the exporter keep a copy."""
    band_HW = torch.zeros(grid_hw, dtype=torch.long, device="cpu")
    for axis, factor in ((0, 3), (1, 1)):
        side = torch.arange(grid_hw[axis], device="cpu")
        band = (side >= grid_hw[axis] - window).long() + (side >= grid_hw[axis] - shift).long()
        band_HW += factor * (band[:, None] if axis == 0 else band[None])
    band_MS = to_windows(band_HW[None, ..., None], window)[..., 0]
    return (band_MS[:, None, :, None] != band_MS[:, None, None]).float() * MASKED


def to_windows(maps_IHWD: Tensor, window: int) -> Tensor:
    """[I * M, S, D], windows row by row."""
    height, width, dim = maps_IHWD.shape[1:]
    cut = maps_IHWD.reshape(-1, height // window, window, width // window, window, dim)
    return cut.permute(0, 1, 3, 2, 4, 5).reshape(-1, window * window, dim)


def from_windows(windows_MSD: Tensor, window: int, grid_hw: tuple[int, int]) -> Tensor:
    """Inverse of `to_windows`, [I, H, W, D]."""
    height, width = grid_hw
    cut = windows_MSD.reshape(-1, height // window, width // window, window, window, windows_MSD.shape[-1])
    return cut.permute(0, 1, 3, 2, 4, 5).reshape(-1, height, width, windows_MSD.shape[-1])


class WindowAttention(nn.Module):
    """Self-attention inside windows, whose heads are slimmed. `split`: its last product is needed without the shared
    adapter, too, so that folding leaves that adapter alone."""

    index: Tensor

    def __init__(self, config: SwinConfig, stage: int, *, split: bool) -> None:
        super().__init__()
        dim, rank = config.stage_dim(stage), config.shared_ranks[stage]
        self.heads, self.head_dim = config.heads[stage], dim // config.heads[stage]
        self.window, self.scale, self.split = config.stage_window(stage), config.shared_scales[stage], split
        units, tokens = self.heads * self.head_dim, self.window**2
        self.qkv = linear_init(3 * units, dim)
        self.qkv_bias = nn.Parameter(torch.zeros(3 * units))
        self.proj = linear_init(units, dim)
        self.proj_bias = nn.Parameter(torch.zeros(dim))
        entries = (2 * self.window - 1) ** 2
        self.bias_table = None if config.folded else linear_init(self.heads, entries)
        self.bias = nn.Parameter(torch.zeros(self.heads, tokens, tokens)) if config.folded else None
        self.register_buffer("index", relative_index(self.window), persistent=False)
        self.qkv_shared = LowRank(dim, 3 * units, rank) if rank and not config.folded else None
        self.proj_shared = LowRank(units, dim, rank) if rank and (split or not config.folded) else None

    def mix(self, maps_IHWD: Tensor, shift: int, mask_M1SS: Tensor | None, width: float) -> Tensor:
        """What the heads gather, [T, U]; `project` is what remains to be done."""
        grid = (maps_IHWD.shape[1], maps_IHWD.shape[2])
        heads = kept(self.heads, width)
        units = heads * self.head_dim
        if shift:
            maps_IHWD = torch.roll(maps_IHWD, (-shift, -shift), (1, 2))
        windows_TD = to_windows(maps_IHWD, self.window).flatten(0, 1)
        qkv = F.linear(windows_TD, prefix(self.qkv, 3 * units), prefix(self.qkv_bias, 3 * units))
        if self.qkv_shared is not None:
            qkv = qkv + self.qkv_shared(windows_TD, self.scale, outputs=3 * units)
        qkv = qkv.reshape(-1, self.window**2, heads, 3, self.head_dim)
        query, key, value = qkv.permute(3, 0, 2, 1, 4).unbind(0)
        scores = torch.matmul(query * self.head_dim**-0.5, key.transpose(-2, -1)) + self._bias(heads)
        if mask_M1SS is not None:
            by_window = scores.reshape(-1, mask_M1SS.shape[0], *scores.shape[1:]) + mask_M1SS
            scores = by_window.reshape(-1, *scores.shape[1:])
        mixed = torch.matmul(torch.softmax(scores, dim=-1), value).transpose(1, 2).flatten(2)
        maps = from_windows(mixed, self.window, grid)
        if shift:
            maps = torch.roll(maps, (shift, shift), (1, 2))
        return maps.reshape(-1, units)

    def project(self, mixed_TU: Tensor) -> Parts:
        """Back to the residual stream, [T, D]."""
        units = mixed_TU.shape[1]
        base_TD = torch.addmm(self.proj_bias, mixed_TU, prefix(self.proj, units))
        shared = self.proj_shared
        return base_TD, None if shared is None else shared(mixed_TU, self.scale, inputs=units)

    def _bias(self, heads: int) -> Tensor:
        if self.bias is not None:
            return prefix(self.bias, heads)
        assert self.bias_table is not None
        return prefix(self.bias_table, heads)[:, self.index]

    @torch.no_grad()
    def fold_(self) -> None:
        """Merge the shared adapters into the weights where that is exact, and spell the bias table out."""
        if self.bias_table is not None:
            self.bias, self.bias_table = nn.Parameter(self.bias_table[:, self.index]), None
        if self.qkv_shared is not None:
            self.qkv.copy_(self.qkv.double() + self.qkv_shared.product(self.scale))
            self.qkv_shared = None
        if self.proj_shared is not None and not self.split:
            self.proj.copy_(self.proj.double() + self.proj_shared.product(self.scale).T)
            self.proj_shared = None

    def narrow_(self, width: float) -> None:
        """Keep the prefix of `width` for good (export)."""
        self.heads = kept(self.heads, width)
        units = self.heads * self.head_dim
        narrow_parameters_(self, 3 * units, "qkv", "qkv_bias")
        narrow_parameters_(self, units, "proj")
        narrow_parameters_(self, self.heads, "bias_table" if self.bias is None else "bias")
        narrow_adapters_(self.qkv_shared, 3 * units, self.proj_shared, units)


class PatchMerging(nn.Module):
    """Four neighbouring tokens to one of twice the channels; never slimmed."""

    def __init__(self, config: SwinConfig, stage: int) -> None:
        super().__init__()
        dim, rank = config.stage_dim(stage), config.shared_ranks[stage] if config.merge_adapters else 0
        self.scale = config.shared_scales[stage]
        self.norm = nn.LayerNorm(4 * dim, eps=NORM_EPS)
        self.reduction = linear_init(2 * dim, 4 * dim)
        self.shared = LowRank(4 * dim, 2 * dim, rank) if rank and not config.folded else None

    def forward(self, tokens_BND: Tensor, grid_hw: tuple[int, int]) -> Tensor:
        joined_BND = self.norm(regroup(tokens_BND, grid_hw))
        flat_TD = joined_BND.flatten(0, 1)
        out_TD = F.linear(flat_TD, self.reduction)
        if self.shared is not None:
            out_TD = out_TD + self.shared(flat_TD, self.scale)
        return out_TD.unflatten(0, joined_BND.shape[:2])

    def thin(self, rows: ThinRows, grid_hw: tuple[int, int]) -> Tensor:
        """The same of rows that are not made, once folded: [B, N / 4, 2 * D]."""
        return ThinNorm(merged_neighbours(rows, grid_hw), self.norm).shared(self.reduction)

    @torch.no_grad()
    def fold_(self) -> None:
        """Merge the shared adapter into the reduction."""
        if self.shared is not None:
            self.reduction.copy_(self.reduction.double() + self.shared.product(self.scale))
            self.shared = None
