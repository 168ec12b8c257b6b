"""Exact cost of every configuration of a Swin, and of the decoders that `decoders.py` holds.

As in `flops.py`: FLOPs = 2 * multiply-adds of matrix products and convolutions, of the units really kept. What a folded
network no longer multiplies is not counted for it. Parameters are counted in a network laid out without memory.
"""

import torch
from torch import nn

from .config_base import HeadConfig
from .encoder import narrowed
from .families import AnyConfig
from .swin import SwinEncoder
from .swin_config import STAGES, SwinConfig
from .taskexpert import taskexpert_flops
from .widths import kept


def swin_encoder_flops(config: SwinConfig, width: float = 1.0) -> tuple[int, int]:
    """FLOPs of one image, and of one row."""
    tokens = config.grid_hw[0] * config.grid_hw[1]
    image, row = 2 * tokens * config.dim * 3 * config.patch**2, 0
    for stage in range(STAGES):
        dim = config.stage_dim(stage)
        for block in range(config.depths[stage]):
            last = block == config.depths[stage] - 1
            image += tokens * (_block_flops(config, stage, width) + _shared_flops(config, stage, last, width))
        row += tokens * _branch_flops(config, stage, width)
        tokens //= 4 if stage < STAGES - 1 else 1
        if stage < STAGES - 1:
            merge = 2 * tokens * 4 * dim * 2 * dim
            if config.merge_adapters and not config.folded:
                merge += 2 * tokens * config.shared_ranks[stage] * 6 * dim
            image += merge
            row += merge if config.per_task else 0
    return image, row


def decoder_flops(config: AnyConfig, head: HeadConfig, width: float = 1.0) -> int:
    """FLOPs of one row of a published decoder, of a `taskexpert` decoder, or of the native decoder of a Swin."""
    if head.decoder == "taskexpert":
        return taskexpert_flops(config, head, width)
    if head.decoder == "linear":
        return 2 * config.feature_dim * head.channels
    if head.decoder == "setr_pup":
        (channels,), cells = head.stream, config.grid_hw[0] * config.grid_hw[1]
        sources = (config.feature_dim, channels, channels, channels)
        convs = sum(4**step * 9 * source * channels for step, source in enumerate(sources))
        return 2 * cells * (convs + 4**3 * channels * head.channels)
    assert isinstance(config, SwinConfig)
    grids = [config.level_grid(level) for level in range(STAGES)]
    cells = [height * side for height, side in grids]
    if head.decoder == "hrnet":
        joined = sum(head.stream)
        levels = sum(cells[level] * config.level_dim(level) * head.stream[level] for level in range(STAGES))
        return 2 * (levels + cells[0] * 4 * joined * (joined + head.channels))
    if head.pooled:
        return 2 * kept(2 * config.decoder_hidden, width) * (config.feature_dim + head.channels)
    channels, narrow = config.decoder_channels, kept(config.decoder_hidden, width)
    wide = kept(2 * config.decoder_hidden, width)
    blocks = [(cells[3], wide), (cells[1], wide), (cells[0], narrow), (4 * cells[0], narrow), (4 * cells[0], narrow)]
    flops = sum(2 * count * units * (2 * channels + 9) for count, units in blocks)
    flops += sum(2 * cells[level] * config.level_dim(level) * channels for level in range(STAGES))
    return flops + 2 * 4 * cells[0] * channels * (config.detail_channels + 4 * head.channels)


def count_parameters(module: nn.Module, width: float = 1.0) -> int:
    """Numbers that a part of a network holds at a width."""
    return sum(parameter.numel() for parameter in narrowed(module, width).parameters())


def swin_parameters(config: SwinConfig, width: float = 1.0) -> int:
    """Numbers that the encoder holds at a width, task adapters left out: they are inputs."""
    with torch.device("meta"):
        return count_parameters(SwinEncoder(config), width)


def _units(config: SwinConfig, stage: int, width: float) -> tuple[int, int]:
    head_dim = config.stage_dim(stage) // config.heads[stage]
    return kept(config.heads[stage], width) * head_dim, kept(config.mlp_hidden(stage), width)


def _block_flops(config: SwinConfig, stage: int, width: float) -> int:
    """Of one token: qkv, scores and their sum, projection, feed-forward part."""
    dim, (units, hidden) = config.stage_dim(stage), _units(config, stage, width)
    return 2 * (dim * 3 * units + 2 * config.stage_window(stage) ** 2 * units + units * dim + 2 * dim * hidden)


def _shared_flops(config: SwinConfig, stage: int, last: bool, width: float) -> int:
    """Of one token: the shared adapters that are products of their own."""
    rank, dim, (units, hidden) = config.shared_ranks[stage], config.stage_dim(stage), _units(config, stage, width)
    apart = last and config.per_task and config.adapter_mode == "matrix"
    if config.folded and not apart:
        return 0
    sizes = 0 if config.folded else dim + 3 * units
    sizes += units + dim + dim + hidden
    sizes += 0 if config.folded and stage == STAGES - 1 else hidden + dim
    return 2 * rank * sizes


def _branch_flops(config: SwinConfig, stage: int, width: float) -> int:
    """Of one token of a row: what the task adds."""
    dim, (units, hidden) = config.stage_dim(stage), _units(config, stage, width)
    return 2 * config.task_ranks[stage] * (units + dim + 2 * (dim + hidden))
