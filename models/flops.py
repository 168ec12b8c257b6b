"""Exact cost of every configuration.

FLOPs = 2 * multiply-adds of matrix products and convolutions, of the units really kept.

Axes and letters: N tokens, D embedding, U kept units, E experts, C channels, K output channels, h and w token grid.
"""

from dataclasses import dataclass

import torch

from .config import HeadConfig, ModelConfig
from .encoder import DETAIL_STRIDE
from .families import AnyConfig
from .heads import build_head
from .swin_config import SwinConfig
from .swin_flops import count_parameters, decoder_flops, swin_encoder_flops, swin_parameters
from .taskexpert import DecoderExperts
from .vit_flops import vit_blocks_flops, vit_blocks_parameters
from .widths import kept


@dataclass(frozen=True)
class Cost:
    """FLOPs = I * flops_image + B * flops_row + sum over rows of top_k * flops_row_per_expert; parameters kept."""

    flops_image: int
    flops_row: int
    flops_row_per_expert: int
    parameters: int

    def flops(self, images: int, rows: int, top_k: int) -> int:
        """FLOPs of a call where every row has the same top_k."""
        return images * self.flops_image + rows * (self.flops_row + top_k * self.flops_row_per_expert)


def encoder_cost(config: AnyConfig, width: float = 1.0) -> Cost:
    """Cost of the encoder at the configuration's image size.

    Routers are inputs: their products count, their weights do not. The weighted sum over the ranks (0.1 % of an
    expert's products) and everything that is no product are left out; so is the change that experts share, which is
    made once a call from weights alone, and folded in what deploys.
    """
    if isinstance(config, SwinConfig):
        return Cost(*swin_encoder_flops(config, width), 0, swin_parameters(config, width))
    tokens = 1 + config.grid_hw[0] * config.grid_hw[1]
    embedding = 2 * (tokens - 1) * config.dim * 3 * config.patch**2 + _detail_flops(config, width)
    image, row = vit_blocks_flops(config, width)
    expert_units = kept(config.expert_hidden, width)
    per_expert = len(config.moe_blocks) * 2 * 2 * tokens * config.dim * expert_units
    return Cost(embedding + image, row, per_expert, _encoder_parameters(config, width))


def head_cost(config: AnyConfig, head: HeadConfig, width: float = 1.0) -> Cost:
    """Cost of one row of a task's head at the configuration's image size, experts that heads share included."""
    if isinstance(config, SwinConfig) or head.decoder != "native":
        with torch.device("meta"):  # shapes without memory
            parameters = count_parameters(build_head(config, head), width)
            if head.decoder == "taskexpert":
                parameters += count_parameters(DecoderExperts(config), width)
        return Cost(0, decoder_flops(config, head, width), 0, parameters)
    dim, channels = config.dim, config.decoder_channels
    if head.pooled:
        units = kept(2 * config.decoder_hidden, width)
        parameters = 2 * dim + units * (2 * dim + 1 + head.channels) + head.channels
        return Cost(0, 2 * units * (2 * dim + head.channels), 0, parameters)
    cells = config.grid_hw[0] * config.grid_hw[1]
    wide, narrow = kept(2 * config.decoder_hidden, width), kept(config.decoder_hidden, width)
    flops = 2 * cells * dim * channels + 2 * _bottleneck_flops(cells, channels, wide)
    flops += _bottleneck_flops(4 * cells, channels, narrow) + 2 * _bottleneck_flops(16 * cells, channels, narrow)
    flops += 2 * 16 * cells * channels * (config.detail_channels + 4 * head.channels)
    parameters = 2 * dim + (dim + 1) * channels + 2 * _bottleneck_parameters(channels, wide)
    parameters += 3 * _bottleneck_parameters(channels, narrow) + (channels + 1) * 4 * head.channels
    parameters += (config.detail_channels + 1) * channels if config.detail_channels else 0
    return Cost(0, flops, 0, parameters)


def router_parameters(config: AnyConfig) -> int:
    """Parameters of one task's routers."""
    return 0 if isinstance(config, SwinConfig) else len(config.moe_blocks) * (config.dim + 1) * config.experts


def _bottleneck_flops(cells: int, channels: int, units: int) -> int:
    return 2 * cells * units * (2 * channels + 9)


def _bottleneck_parameters(channels: int, units: int) -> int:
    return units * (2 * channels + 9 + 2) + channels


def _detail_cells(config: ModelConfig) -> int:
    return (config.image_hw[0] // DETAIL_STRIDE) * (config.image_hw[1] // DETAIL_STRIDE)


def _detail_flops(config: ModelConfig, width: float) -> int:
    if not config.detail_channels:
        return 0
    cells, channels = _detail_cells(config), config.detail_channels
    embed = 2 * cells * channels * 3 * DETAIL_STRIDE**2
    into_tokens = 2 * cells * channels * config.dim
    return embed + into_tokens + 2 * _bottleneck_flops(cells, channels, kept(config.detail_hidden, width))


def _encoder_parameters(config: ModelConfig, width: float) -> int:
    dim, tokens = config.dim, 1 + config.grid_hw[0] * config.grid_hw[1]
    total = dim * (3 * config.patch**2 + 1) + dim + tokens * dim
    total += 2 * dim if config.embed_norm else 0
    if config.detail_channels:
        channels, hidden = config.detail_channels, kept(config.detail_hidden, width)
        total += channels * (3 * DETAIL_STRIDE**2 + 1) + 2 * _bottleneck_parameters(channels, hidden)
        total += channels * (config.patch // DETAIL_STRIDE) ** 2 * dim
    return total + vit_blocks_parameters(config, width)
