"""Native task heads: a fixed channel stream of inverted bottlenecks for maps, a pooled MLP for image labels.

Axes: R rows of one task, N tokens (class token first), D embedding, C stream channels, K output channels,
h and w token grid, H and W image sides (16 h, 16 w).
"""

from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import HeadConfig, HeadKind, ModelConfig
from .decoders import HrnetHead, LinearHead, PyramidHead, SetrPupHead
from .errors import ConfigError
from .families import AnyConfig
from .layers import NORM_EPS, InvertedBottleneck, MapDecoder, doubled, linear_init, narrow_parameters_, prefix
from .swin_config import SwinConfig
from .taskexpert import DecoderExperts, TaskExpertHead
from .widths import kept

#: exp() of these is 7 mm and 1.1 km: no camera sees more, and no overflow reaches the answer.
LOG_DEPTH_RANGE = (-5.0, 7.0)


class DenseHead(MapDecoder):
    """Tokens to a map at image size.

    Stream at 1/16 (two blocks, twice the hidden channels), 1/8 (one), 1/4 (two, the encoder's detail added), then
    1x1 to four sub-pixels a channel, and bilinear to full size.
    """

    def __init__(self, config: ModelConfig, head: HeadConfig) -> None:
        super().__init__()
        channels, hidden = config.decoder_channels, config.decoder_hidden
        self.grid_hw = config.grid_hw
        self.norm = nn.LayerNorm(config.dim, eps=NORM_EPS)
        self.stream = nn.Linear(config.dim, channels)
        self.coarse = nn.ModuleList([InvertedBottleneck(channels, 2 * hidden) for _ in range(2)])
        self.middle = InvertedBottleneck(channels, hidden)
        self.end_with(channels, hidden, config.detail_channels, head.channels)

    def forward(
        self,
        tokens_RND: Tensor,
        detail_RCHW: Tensor | None = None,
        width: float = 1.0,
        levels: tuple[Tensor, ...] = (),
    ) -> Tensor:
        """Raw values [R, K, H, W]; `answer` turns them into the task's unit."""
        patches_RND = self.norm(tokens_RND[:, 1:])
        # The product runs on flattened tokens: on 3-D ones the exporter would store a transposed copy of the weight.
        stream = self.stream(patches_RND.flatten(0, 1)).unflatten(0, patches_RND.shape[:2])
        stream = stream.transpose(1, 2).unflatten(2, self.grid_hw)
        for block in self.coarse:
            stream = block(stream, width)
        return self.finish(self.middle(doubled(stream), width), detail_RCHW, width)


class PooledHead(nn.Module):
    """Class token (the mean, if there is none) and mean token to one vector an image."""

    def __init__(self, config: AnyConfig, head: HeadConfig) -> None:
        super().__init__()
        self.has_class_token, dim = config.has_class_token, config.feature_dim
        inputs = 2 * dim if self.has_class_token else dim
        self.hidden = 2 * config.decoder_hidden
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.up = linear_init(self.hidden, inputs)
        self.up_bias = nn.Parameter(torch.zeros(self.hidden))
        self.down = linear_init(self.hidden, head.channels)
        self.down_bias = nn.Parameter(torch.zeros(head.channels))

    def forward(
        self,
        tokens_RND: Tensor,
        detail_RCHW: Tensor | None = None,
        width: float = 1.0,
        levels: tuple[Tensor, ...] = (),
    ) -> Tensor:
        """Raw logits [R, K]."""
        tokens = self.norm(tokens_RND)
        if self.has_class_token:
            pooled = torch.cat([tokens[:, 0], tokens[:, 1:].mean(dim=1)], dim=1)
        else:
            pooled = tokens.mean(dim=1)
        units = kept(self.hidden, width)
        # Leaky: an image gives one label, and under that few a saturating unit dies before it has learned anything.
        hidden = F.leaky_relu(F.linear(pooled, prefix(self.up, units), prefix(self.up_bias, units)), 0.1)
        return torch.addmm(self.down_bias, hidden, prefix(self.down, units))

    def narrow_(self, width: float) -> None:
        """Keep the prefix of `width` for good (export)."""
        self.hidden = kept(self.hidden, width)
        narrow_parameters_(self, self.hidden, "up", "up_bias", "down")


def activate(kind: str, raw: Tensor) -> Tensor:
    """Raw values to the task's unit: log-metres to metres, vectors to unit length, logits to probabilities.

    The logits of dense `classes` stay logits: only their argmax is needed, and a softmax over a map is dear.

    Raises:
        ConfigError: no task is of that kind.
    """
    if kind == "classes":
        return raw
    if kind == "depth":
        return torch.exp(raw.clamp(*LOG_DEPTH_RANGE))
    if kind == "normals":
        return raw / torch.sqrt((raw * raw).sum(dim=1, keepdim=True) + 1e-12)
    if kind == "probability":
        return torch.sigmoid(raw)
    if kind == "image_classes":
        return torch.softmax(raw, dim=-1)
    raise ConfigError(f"kind must be one of {get_args(HeadKind)}, got '{kind}'")


def answer(head: HeadConfig, raw: Tensor) -> Tensor:
    """A head's raw values in its task's unit; published decoders predict metres as they are."""
    return raw if head.kind == "depth" and not head.log_depth else activate(head.kind, raw)


def build_head(config: AnyConfig, head: HeadConfig) -> nn.Module:
    """The decoder that a task's configuration asks for.

    Raises:
        ConfigError: it does not fit the backbone.
    """
    if head.decoder == "linear":
        return LinearHead(config, head)
    if head.decoder == "taskexpert":
        return TaskExpertHead(config, head)
    if isinstance(config, SwinConfig) and head.decoder in ("native", "hrnet"):
        if head.decoder == "hrnet":
            return HrnetHead(config, head)
        return PooledHead(config, head) if head.pooled else PyramidHead(config, head)
    if isinstance(config, ModelConfig) and head.decoder in ("native", "setr_pup"):
        if head.decoder == "setr_pup":
            return SetrPupHead(config, head)
        return PooledHead(config, head) if head.pooled else DenseHead(config, head)
    raise ConfigError(f"task '{head.name}': a {head.decoder} decoder does not read the features of a {config.family}")


def run_head(
    head: nn.Module,
    experts: nn.Module | None,
    tokens_RND: Tensor,
    detail_RCHW: Tensor | None,
    width: float,
    levels: tuple[Tensor, ...],
) -> Tensor:
    """Raw values of some rows' task by its decoder, and by the experts that decoders share if it is of that kind."""
    if isinstance(head, TaskExpertHead):
        assert isinstance(experts, DecoderExperts)
        return head(tokens_RND, detail_RCHW, width, levels, experts)
    return head(tokens_RND, detail_RCHW, width, levels)
