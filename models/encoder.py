"""The encoder: a pre-norm ViT whose heads and hidden units are slimmed, with task-routed experts in some blocks.

Sources: Dosovitskiy et al. 2020 (ViT); Fan et al. 2022 (M3ViT); nested widths as in docs/architecture.md.
Axes: I images, B rows (an image with one task), N tokens (class token first), D embedding, L MoE blocks, E experts,
C detail channels, H and W image sides.
"""

import copy
import math
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .adapters import RowAdapters, Site
from .block import Block, Rows
from .config import ModelConfig
from .layers import NORM_EPS, InvertedBottleneck, linear_init
from .moe import Routing, route
from .recompute import RunBlock, run_now

DETAIL_STRIDE = 4


class Features(NamedTuple):
    """What heads read: tokens of every row, shallow detail of every image, how the rows were routed, and each row's
    tokens of shallower layers: of every resolution that a Swin has, of the blocks that a ViT's decoders tap."""

    tokens_BND: Tensor
    detail_ICHW: Tensor | None
    routings: list[Routing]
    levels: tuple[Tensor, ...] = ()


class Gates(NamedTuple):
    """How rows choose experts: see `Encoder.forward`."""

    top_k_B: Tensor
    router_BLDE: Tensor
    bias_BLE: Tensor
    noise_std: float


class DetailStem(nn.Module):
    """Shallow features at a quarter of the resolution, once per image: what a patch of 16 pixels blurs away."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, channels, kernel_size=DETAIL_STRIDE, stride=DETAIL_STRIDE)
        self.blocks = nn.ModuleList([InvertedBottleneck(channels, hidden) for _ in range(2)])

    def forward(self, image_I3HW: Tensor, width: float) -> Tensor:
        stream = self.embed(image_I3HW)
        for block in self.blocks:
            stream = block(stream, width)
        return stream


class Encoder(nn.Module):
    """Images to tokens, one row per (image, task). Routers are inputs: the task is not part of the graph."""

    run_block: RunBlock = staticmethod(run_now)

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        height, width = config.grid_hw
        self.patch_embed = nn.Conv2d(3, config.dim, kernel_size=config.patch, stride=config.patch)
        self.class_token = linear_init(1, 1, config.dim)
        self.embed_norm = nn.LayerNorm(config.dim, eps=NORM_EPS) if config.embed_norm else None
        self.position = nn.Parameter(sine_positions(height, width, config.dim))
        self.blocks = nn.ModuleList([Block(config, index) for index in range(config.depth)])
        self.detail = DetailStem(config.detail_channels, config.detail_hidden) if config.detail_channels else None
        # The stem feeds the tokens, too: a ViT learns faster behind convolutions (Xiao et al. 2021).
        channels, stride = config.detail_channels, config.patch // DETAIL_STRIDE
        self.detail_tokens = nn.Conv2d(channels, config.dim, stride, stride=stride, bias=False) if channels else None

    def embed(self, image_I3HW: Tensor, detail_ICHW: Tensor | None = None) -> Tensor:
        """Patches, row by row, behind the class token, with their positions: [I, N, D]."""
        patches = self.patch_embed(image_I3HW)
        if self.detail_tokens is not None:
            patches = patches + self.detail_tokens(detail_ICHW)
        patches_IND = patches.flatten(2).transpose(1, 2)
        if self.embed_norm is not None:
            patches_IND = self.embed_norm(patches_IND)
        class_I1D = self.class_token.expand(image_I3HW.shape[0], -1, -1).to(patches_IND.dtype)
        return torch.cat([class_I1D, patches_IND], dim=1) + self.position

    def forward(
        self,
        image_I3HW: Tensor,
        image_index_B: Tensor,
        top_k_B: Tensor | None = None,
        router_BLDE: Tensor | None = None,
        router_bias_BLE: Tensor | None = None,
        adapter_BP: Tensor | None = None,
        *,
        width: float = 1.0,
        noise_std: float = 0.0,
    ) -> Features:
        """Run the blocks; everything before the first routing decision or adapter runs once per image, the rest once
        per row.

        Args:
            image_I3HW: Normalised images at the size of the configuration.
            image_index_B: Which image each row works on, int64.
            top_k_B: Experts that each token of a row visits, int64, 1 to the configuration's top_k.
            router_BLDE, router_bias_BLE: Routers of each row's task.
            adapter_BP: Adapters of each row's task, flat; see `MultiTaskModel.row_inputs`.
            width: Share of heads and hidden units that is kept.
            noise_std: Standard deviation of the noise on router logits (training).
        """
        detail = self.detail(image_I3HW, width) if self.detail is not None else None
        tokens, routings = self.embed(image_I3HW, detail), []
        rows = Rows(image_index_B, None if adapter_BP is None else RowAdapters(adapter_BP, self.sites(width)))
        gates = None
        if top_k_B is not None and router_BLDE is not None and router_bias_BLE is not None:
            gates = Gates(top_k_B, router_BLDE, router_bias_BLE, noise_std)
        branches: Tensor | None = None
        levels: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            if self.config.levels and index - 1 in self.config.taps:  # what the block before this one gave
                given = tokens if branches is None else branches
                levels.append(given if rows.apart or branches is not None else given.index_select(0, image_index_B))
            advance = partial(self._advance, block, rows, rows.apart, gates, len(routings), width)
            tokens, branches, routing = self.run_block(advance, tokens, branches)
            routings += [] if routing is None else [routing]
        (tokens,) = rows.part(tokens) if branches is None else (branches,)
        return Features(tokens, detail, routings, tuple(levels))

    def _advance(
        self,
        block: Block,
        rows: Rows,
        apart: bool,
        gates: Gates | None,
        number: int,
        width: float,
        tokens: Tensor,
        branches: Tensor | None,
    ) -> tuple[Tensor, Tensor | None, Routing | None]:
        """Tokens and branches behind a block, and how it routed; the same when it is called again (`recompute`).

        Args:
            apart: Whether rows had parted before the block.
            number: Of the block among those with experts.
        """
        rows.apart = apart
        if block.own and rows.adapters is not None and self.config.adapter_mode == "branch":
            return *block.branch(tokens, branches, width, rows), None
        entered = tokens
        tokens = block.attend(tokens, width, rows)
        if block.experts is None:
            return block.feed(tokens, width, rows), branches, None
        (tokens,) = rows.part(tokens)
        normed, gate_input = block.norm2(tokens), entered
        if self.config.gate_input == "normed":
            gate_input = normed
        elif not apart:
            gate_input = entered.index_select(0, rows.index_B)
        assert gates is not None
        router, bias = gates.router_BLDE[:, number], gates.bias_BLE[:, number]
        routing = self._route(gate_input, router, bias, gates.top_k_B, gates.noise_std)
        return block.beside(tokens + block.experts(normed, routing, width), normed, rows), branches, routing

    def _route(self, tokens_BND: Tensor, router_BDE: Tensor, bias_BE: Tensor, top_k_B: Tensor, noise: float) -> Routing:
        config = self.config
        return route(tokens_BND, router_BDE, bias_BE, top_k_B, config.top_k, config.gate_mode, noise, config.gate_floor)

    def sites(self, width: float = 1.0) -> list[Site]:
        """Where a task's adapters go at a width, in the order in which it brings them."""
        return [site for block in self.blocks if isinstance(block, Block) for site in block.sites(width)]


def sine_positions(height: int, width: int, dim: int) -> Tensor:
    """Where training of the position embedding starts, [1, 1 + h * w, D]: sines and cosines of row and column (MAE).

    Positions are in parts of the grid, so a resampled embedding means the same places. The class slot is zero.
    """
    waves = max(1, dim // 4)
    frequency_F = math.pi * 32.0 ** (torch.arange(waves) / waves)
    rows_H, columns_W = ((torch.arange(count) + 0.5) / count for count in (height, width))
    grid = torch.meshgrid(rows_H, columns_W, indexing="ij")
    angles = [place.reshape(-1, 1) * frequency_F for place in grid]
    waves_ND = torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)
    waves_ND = nn.functional.pad(waves_ND, (0, max(0, dim - waves_ND.shape[1])))[:, :dim]
    return torch.cat([torch.zeros(1, dim), waves_ND]).unsqueeze(0)


def resample_position(position_1ND: Tensor, old_hw: tuple[int, int], new_hw: tuple[int, int]) -> Tensor:
    """Position embedding for another grid: the class slot is kept, the rest resampled bilinearly (M3ViT)."""
    if old_hw == new_hw:
        return position_1ND.clone()
    class_slot, grid = position_1ND[:, :1], position_1ND[:, 1:]
    maps = grid.reshape(1, *old_hw, -1).permute(0, 3, 1, 2)
    maps = F.interpolate(maps, size=new_hw, mode="bilinear", align_corners=False, antialias=False)
    return torch.cat([class_slot, maps.flatten(2).transpose(1, 2)], dim=1)


def narrowed(module: nn.Module, width: float) -> nn.Module:
    """A copy whose slimmable layers hold the prefix of `width` only; run it at width 1. Names do not change."""
    clone = copy.deepcopy(module)
    for layer in clone.modules():
        if hasattr(layer, "narrow_"):
            layer.narrow_(width)  # type: ignore[operator]
    return clone
