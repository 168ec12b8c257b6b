"""Published decoders, for converted weights, at full width; and the native decoder for features of several resolutions.

Sources: Zheng et al. 2021 (SETR-PUP, as M3ViT has it); Wang et al. 2019 (HRNet, as MTLoRA has it).
Axes: R rows of one task, N tokens, D embedding, C stream channels, K output channels, H and W image sides.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import ModelConfig
from .config_base import HeadConfig
from .layers import InvertedBottleneck, MapDecoder, doubled
from .swin_config import STAGES, SwinConfig

BATCH_NORM_EPS = 1e-5
VIT_NORM_EPS, SWIN_NORM_EPS = 1e-6, 1e-5


class SetrPupHead(nn.Module):
    """Four times: 3x3 convolution, batch norm, ReLU, twice the size; the last 1x1 comes before the last doubling."""

    def __init__(self, config: ModelConfig, head: HeadConfig) -> None:
        super().__init__()
        (channels,), self.grid_hw = head.stream, config.grid_hw
        self.norm = nn.LayerNorm(config.dim, eps=VIT_NORM_EPS)
        sources = (config.dim, channels, channels, channels)
        self.convs = nn.ModuleList([nn.Conv2d(source, channels, 3, padding=1) for source in sources])
        self.norms = _batch_norms(0 if config.folded else len(sources), channels)
        self.out = nn.Conv2d(channels, head.channels, 1)

    def forward(
        self, tokens_RND: Tensor, detail: Tensor | None = None, width: float = 1.0, levels: tuple[Tensor, ...] = ()
    ) -> Tensor:
        """Raw values [R, K, H, W]; there is one width."""
        stream = self.norm(tokens_RND[:, 1:]).transpose(1, 2).unflatten(2, self.grid_hw)
        for index, conv in enumerate(self.convs):
            stream = conv(stream)
            stream = F.relu(self.norms[index](stream) if len(self.norms) else stream)
            stream = doubled(self.out(stream) if index == len(self.convs) - 1 else stream)
        return stream

    def fold_(self) -> None:
        """Merge the batch norms, with the statistics they have, into the convolutions before them."""
        for conv, norm in zip(self.convs, self.norms):
            _fold_norm_(conv, norm)
        self.norms = nn.ModuleList()


class HrnetHead(nn.Module):
    """Every level through a 1x1 of its own, enlarged to the shallowest one, joined; two 1x1 with batch norm between."""

    def __init__(self, config: SwinConfig, head: HeadConfig) -> None:
        super().__init__()
        self.grids, self.image_hw = [config.level_grid(level) for level in range(STAGES)], config.image_hw
        joined = sum(head.stream)
        pairs = [(config.level_dim(level), channels) for level, channels in enumerate(head.stream)]
        self.levels = nn.ModuleList([nn.Conv2d(dim, channels, 1, bias=False) for dim, channels in pairs])
        self.up = nn.Conv2d(joined, 4 * joined, 1)
        self.norms = _batch_norms(0 if config.folded else 1, 4 * joined)
        self.out = nn.Conv2d(4 * joined, head.channels, 1)

    def forward(
        self, tokens_RND: Tensor, detail: Tensor | None = None, width: float = 1.0, levels: tuple[Tensor, ...] = ()
    ) -> Tensor:
        """Raw values [R, K, H, W]; there is one width."""
        return _resize(self.logits((*levels, tokens_RND)), self.image_hw)

    def logits(self, levels: tuple[Tensor, ...]) -> Tensor:
        """Raw values at the resolution of the shallowest level."""
        maps = [
            conv(tokens.transpose(1, 2).unflatten(2, grid))
            for conv, tokens, grid in zip(self.levels, levels, self.grids, strict=True)
        ]
        stream = self.up(torch.cat([maps[0], *(_resize(part, self.grids[0]) for part in maps[1:])], dim=1))
        return self.out(F.relu(self.norms[0](stream) if len(self.norms) else stream))

    def fold_(self) -> None:
        """Merge the batch norm, with the statistics it has, into the convolution before it."""
        for norm in self.norms:
            _fold_norm_(self.up, norm)
        self.norms = nn.ModuleList()


class LinearHead(nn.Module):
    """One product on a pooled token: what image classifiers have."""

    def __init__(self, config: ModelConfig | SwinConfig, head: HeadConfig) -> None:
        super().__init__()
        self.pool, self.has_class_token, dim = head.pool, config.has_class_token, config.feature_dim
        self.norm = nn.LayerNorm(dim, eps=VIT_NORM_EPS if self.has_class_token else SWIN_NORM_EPS)
        self.out = nn.Linear(dim, head.channels)

    def forward(
        self, tokens_RND: Tensor, detail: Tensor | None = None, width: float = 1.0, levels: tuple[Tensor, ...] = ()
    ) -> Tensor:
        """Raw logits [R, K]; there is one width."""
        if self.pool == "token":
            return self.out(self.norm(tokens_RND[:, 0]))
        patches = tokens_RND[:, 1:] if self.has_class_token else tokens_RND
        pooled = self.norm(patches).mean(dim=1) if self.pool == "mean" else self.norm(patches.mean(dim=1))
        return self.out(pooled)


class PyramidHead(MapDecoder):
    """Native decoder for Swin: the stream of `heads.DenseHead`, fed at 1/32, 1/16, 1/8 and 1/4 of the image size.

    One block with twice the hidden channels each at 1/32 and 1/16, one at 1/8, two at 1/4 after the encoder's detail is
    added, then 1x1 to four sub-pixels a channel, and bilinear to full size.
    """

    def __init__(self, config: SwinConfig, head: HeadConfig) -> None:
        super().__init__()
        channels, hidden = config.decoder_channels, config.decoder_hidden
        self.grids = [config.level_grid(level) for level in range(STAGES)]
        dims = [config.level_dim(level) for level in range(STAGES)]
        self.norms = nn.ModuleList([nn.LayerNorm(dim, eps=SWIN_NORM_EPS) for dim in dims])
        self.levels = nn.ModuleList([nn.Linear(dim, channels) for dim in dims])
        self.coarse = nn.ModuleList([InvertedBottleneck(channels, 2 * hidden) for _ in range(2)])
        self.middle = InvertedBottleneck(channels, hidden)
        self.end_with(channels, hidden, config.detail_channels, head.channels)

    def forward(
        self, tokens_RND: Tensor, detail: Tensor | None = None, width: float = 1.0, levels: tuple[Tensor, ...] = ()
    ) -> Tensor:
        """Raw values [R, K, H, W]."""
        maps = [self._lateral(level, tokens) for level, tokens in enumerate((*levels, tokens_RND))]
        stream = self.coarse[0](maps[3] + maps[2], width)
        stream = self.coarse[1](doubled(stream) + maps[1], width)
        return self.finish(self.middle(doubled(stream) + maps[0], width), detail, width)

    def _lateral(self, level: int, tokens_RND: Tensor) -> Tensor:
        normed = self.norms[level](tokens_RND)
        # The product runs on flattened tokens: on 3-D ones the exporter would store a transposed copy of the weight.
        stream = self.levels[level](normed.flatten(0, 1)).unflatten(0, normed.shape[:2])
        return stream.transpose(1, 2).unflatten(2, self.grids[level])


def _batch_norms(count: int, channels: int) -> nn.ModuleList:
    return nn.ModuleList([nn.BatchNorm2d(channels, eps=BATCH_NORM_EPS) for _ in range(count)])


@torch.no_grad()
def _fold_norm_(conv: nn.Module, norm: nn.Module) -> None:
    assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and conv.bias is not None
    assert norm.running_mean is not None and norm.running_var is not None
    factor = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    conv.weight.copy_(conv.weight.double() * factor[:, None, None, None])
    conv.bias.copy_((conv.bias.double() - norm.running_mean.double()) * factor + norm.bias.double())


def _resize(maps: Tensor, size_hw: tuple[int, int]) -> Tensor:
    if tuple(maps.shape[2:]) == tuple(size_hw):
        return maps
    return F.interpolate(maps, size=size_hw, mode="bilinear", align_corners=False)
