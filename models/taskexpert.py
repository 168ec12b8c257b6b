"""A decoder after TaskExpert: experts that all tasks share, and gates and a feature memory of each task's own.

Source: Ye and Xu 2023 (TaskExpert: Dynamically Assembling Multi-Task Representations with Memorial Mixture-of-Experts),
abstract and Figure 2; its code was never published. At each tapped layer l of the backbone, with x_l its normalised
tokens and M_0 a learned vector of the task, the same everywhere:

    f_l,e = W'_e GELU(W_e x_l + b_e) + b'_e                       experts: task-generic features
    r_l   = mean of M_(l-1) over the pixels of each token          the memory is read
    g_l   = softmax(A x_l + B mean(x_l) + V r_l + v)              gate: one score an expert, and one for the memory
    y_l   = sum over e of g_l,e f_l,e  +  g_l,E r_l
    M_l   = S(M_(l-1) + y_l)                                      the memory is written; S: an inverted bottleneck

with y_l enlarged to the grid of the memory where it is coarser. What the last layer leaves in the memory is decoded.
docs/decoders.md says where this departs from the paper.

Axes: R rows of one task, N tokens of a layer (no class token), T = R * N, D channels of the layer, E experts,
C channels of the memory, K output channels, h and w the memory's grid.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config_base import HeadConfig
from .families import AnyConfig
from .layers import NORM_EPS, InvertedBottleneck, MapDecoder, SlimMlp, doubled, linear_init
from .swin_config import STAGES, SwinConfig
from .widths import kept


def tapped(config: AnyConfig) -> list[tuple[int, tuple[int, int]]]:
    """Channels and token grid of every layer that is tapped, in the order of the backbone."""
    if isinstance(config, SwinConfig):
        return [(config.level_dim(level), config.level_grid(level)) for level in range(STAGES)]
    return [(config.dim, config.grid_hw)] * (len(config.taps) + 1)


def write_hidden(config: AnyConfig) -> int:
    """Hidden channels, at full width, of what writes the memory: doubled at 1/16 of the image size, where it is
    cheap (ViT), as in the native decoders."""
    return config.decoder_hidden if isinstance(config, SwinConfig) else 2 * config.decoder_hidden


class DecoderExperts(nn.Module):
    """The experts of every tapped layer: what makes task-generic features of tokens. All tasks share them.

    Only their hidden units are slimmed.
    """

    def __init__(self, config: AnyConfig) -> None:
        super().__init__()
        dims = [dim for dim, _ in tapped(config)]
        hidden, channels = config.decoder_expert_hidden, config.decoder_channels
        self.norms = nn.ModuleList([nn.LayerNorm(dim, eps=NORM_EPS) for dim in dims])
        self.layers = nn.ModuleList(
            [nn.ModuleList([SlimMlp(dim, hidden, channels) for _ in range(config.decoder_experts)]) for dim in dims]
        )
        for layer in self.layers:
            for expert in layer:  # type: ignore[attr-defined]
                # No residual stream carries a weak start: features begin with unit variance, or nearly.
                nn.init.normal_(expert.up, std=expert.up.shape[1] ** -0.5)
                nn.init.normal_(expert.down, std=expert.hidden**-0.5)

    def forward(self, layer: int, tokens_RND: Tensor, width: float = 1.0) -> tuple[Tensor, list[Tensor]]:
        """Normalised tokens [R, N, D], and the features [T, C] that each expert makes of them."""
        normed_RND = self.norms[layer](tokens_RND)
        flat_TD = normed_RND.flatten(0, 1)
        return normed_RND, [expert(flat_TD, width) for expert in self.layers[layer]]  # type: ignore[attr-defined]


class Gate(nn.Module):
    """Scores of one task at one layer: from the token, from the mean over all tokens of the image, and from the memory.

    Rows of the weights are scores: the experts first, the memory last.
    """

    def __init__(self, dim: int, channels: int, experts: int) -> None:
        super().__init__()
        self.token = linear_init(experts + 1, dim)
        self.image = linear_init(experts + 1, dim)
        self.memory = linear_init(experts + 1, channels)
        self.bias = nn.Parameter(torch.zeros(experts + 1))

    def forward(self, normed_RND: Tensor, read_TC: Tensor) -> Tensor:
        """Scores [T, E + 1] that add up to 1; the last is the memory's."""
        own_TE = F.linear(normed_RND.flatten(0, 1), self.token, self.bias) + F.linear(read_TC, self.memory)
        image_RE = F.linear(normed_RND.mean(dim=1), self.image)
        logits = own_TE.unflatten(0, normed_RND.shape[:2]) + image_RE.unsqueeze(1)
        return torch.softmax(logits.float(), dim=-1).flatten(0, 1)


class TaskExpertHead(MapDecoder):
    """One task's gates and memory over all tapped layers, then the ending of the native decoders.

    The memory has the grid of the shallowest tapped layer: 1/16 of the image size for a ViT, 1/8 for a Swin.
    """

    def __init__(self, config: AnyConfig, head: HeadConfig) -> None:
        super().__init__()
        layers, channels, hidden = tapped(config), config.decoder_channels, config.decoder_hidden
        self.grids, self.class_token = [grid for _, grid in layers], config.has_class_token
        self.start = linear_init(1, channels)
        self.gates = nn.ModuleList([Gate(dim, channels, config.decoder_experts) for dim, _ in layers])
        self.writes = nn.ModuleList([InvertedBottleneck(channels, write_hidden(config)) for _ in layers])
        self.middle = None if isinstance(config, SwinConfig) else InvertedBottleneck(channels, hidden)
        self.end_with(channels, hidden, config.detail_channels, head.channels)

    def forward(
        self,
        tokens_RND: Tensor,
        detail_RCHW: Tensor | None,
        width: float,
        levels: tuple[Tensor, ...],
        experts: DecoderExperts,
    ) -> Tensor:
        """Raw values [R, K, H, W]; `levels` are the tokens of the layers before the last."""
        memory = self.remember((*levels, tokens_RND), width, experts)
        if self.middle is not None:
            memory = self.middle(doubled(memory), width)
        return self.finish(memory, detail_RCHW, width)

    def remember(self, layers: tuple[Tensor, ...], width: float, experts: DecoderExperts) -> Tensor:
        """The memory [R, C, h, w] after the last of the layers, each given by its tokens."""
        memory: Tensor | None = None
        for layer, tokens in enumerate(layers):
            patches_RND = tokens[:, 1:] if self.class_token else tokens
            # The same everywhere at first: [1, C] does. Reshaped, exported graphs would hold a copy of it.
            read_TC = self.start if memory is None else self._read(layer, memory)
            normed_RND, features = experts(layer, patches_RND, width)
            score_TE = self.gates[layer](normed_RND, read_TC)
            mixed_TC = _weighted_sum(score_TE, [*features, read_TC])
            mixed_TC = mixed_TC if memory is not None else mixed_TC + self.start
            raised = self._on_memory(layer, mixed_TC.unflatten(0, normed_RND.shape[:2]))
            memory = self.writes[layer](raised if memory is None else memory + raised, width)
        assert memory is not None
        return memory

    def _read(self, layer: int, memory_RChw: Tensor) -> Tensor:
        """The memory at the tokens of a layer, [T, C]: its mean over the pixels of each."""
        factor = self.grids[0][0] // self.grids[layer][0]
        read = F.avg_pool2d(memory_RChw, factor) if factor > 1 else memory_RChw
        return read.flatten(2).transpose(1, 2).flatten(0, 1)

    def _on_memory(self, layer: int, mixed_RNC: Tensor) -> Tensor:
        """A layer's features on the memory's grid, [R, C, h, w]."""
        maps = mixed_RNC.transpose(1, 2).unflatten(2, self.grids[layer])
        if self.grids[layer] == self.grids[0]:
            return maps
        return F.interpolate(maps, size=self.grids[0], mode="bilinear", align_corners=False)


def _weighted_sum(score_TE: Tensor, parts: Sequence[Tensor]) -> Tensor:
    total = score_TE[:, :1] * parts[0]
    for number, part in enumerate(parts[1:], start=1):
        total = total + score_TE[:, number : number + 1] * part
    return total


def taskexpert_flops(config: AnyConfig, head: HeadConfig, width: float = 1.0) -> int:
    """FLOPs (2 * multiply-adds) of one row: of experts, gates, what writes the memory, and the ending.

    The weighted sum, which is no product of matrices, is left out (0.2 % of the experts), as in the encoder.
    """
    channels, experts, layers = config.decoder_channels, config.decoder_experts, tapped(config)
    narrow, written = kept(config.decoder_hidden, width), kept(write_hidden(config), width)
    expert_units, cells = kept(config.decoder_expert_hidden, width), math.prod(layers[0][1])
    total = 0
    for layer, (dim, (height, side)) in enumerate(layers):
        tokens = height * side
        total += tokens * (experts * expert_units * (dim + channels) + (experts + 1) * dim)
        total += (experts + 1) * (dim + channels * (tokens if layer else 1))  # at first the memory is one vector
        total += cells * written * (2 * channels + 9)
    eighth = cells if isinstance(config, SwinConfig) else 4 * cells
    blocks = 2 * 4 + (0 if isinstance(config, SwinConfig) else 1)  # in pixels at 1/8: two blocks at 1/4, one at 1/8
    total += eighth * blocks * narrow * (2 * channels + 9)
    total += 4 * eighth * channels * (config.detail_channels + 4 * head.channels)
    return 2 * total
