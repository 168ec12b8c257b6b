"""Slimmable layers. Every slimmed tensor keeps its units on its first axis, so a narrow view is a prefix of its bytes.

Axes: B rows, N tokens, D embedding, T = B*N tokens of all rows, U kept units of a layer.
Up-projections are stored [units, in], down-projections [units, out] (that is [in, out]), qkv
[heads * 3 * head_dim, in]: each head's query, key and value in a row.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .widths import kept

NORM_EPS = 1e-6  # M3ViT and timm ViTs


def prefix(parameter: Tensor, units: int) -> Tensor:
    """First `units` rows; the tensor itself if that is all of it, so that exported graphs hold no Slice."""
    return parameter if units == parameter.shape[0] else parameter[:units]


def narrow_parameters_(module: nn.Module, units: int, *names: str) -> None:
    """Replace parameters by views of their first `units` rows; the bytes stay where they are."""
    for name in names:
        setattr(module, name, nn.Parameter(getattr(module, name).detach()[:units], requires_grad=False))


def linear_init(*shape: int) -> nn.Parameter:
    """A fresh weight: normal with standard deviation 0.02, cut off at two of them (timm ViTs)."""
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(*shape), std=0.02, a=-0.04, b=0.04))


class SlimMlp(nn.Module):
    """Feed-forward block whose hidden units are slimmed: up [hidden, D], GELU, down [hidden, O]; O is D by default."""

    def __init__(self, dim: int, hidden: int, outputs: int | None = None) -> None:
        super().__init__()
        self.hidden, outputs = hidden, outputs or dim
        self.up = linear_init(hidden, dim)
        self.up_bias = nn.Parameter(torch.zeros(hidden))
        self.down = linear_init(hidden, outputs)
        self.down_bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, tokens_TD: Tensor, width: float = 1.0) -> Tensor:
        units = kept(self.hidden, width)
        hidden_TU = F.gelu(F.linear(tokens_TD, prefix(self.up, units), prefix(self.up_bias, units)))
        return torch.addmm(self.down_bias, hidden_TU, prefix(self.down, units))

    def narrow_(self, width: float) -> None:
        """Keep the prefix of `width` for good (export)."""
        self.hidden = kept(self.hidden, width)
        narrow_parameters_(self, self.hidden, "up", "up_bias", "down")


class SlimAttention(nn.Module):
    """Multi-head self-attention whose heads are slimmed; the head size never changes."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, dim // heads
        self.qkv = linear_init(heads * 3 * self.head_dim, dim)
        self.qkv_bias = nn.Parameter(torch.zeros(heads * 3 * self.head_dim))
        self.proj = linear_init(heads * self.head_dim, dim)
        self.proj_bias = nn.Parameter(torch.zeros(dim))

    def forward(self, tokens_BND: Tensor, width: float = 1.0) -> Tensor:
        rows, count, dim = tokens_BND.shape
        mixed_TU = self.mix(self.lift(tokens_BND.reshape(-1, dim), width), count)
        return self.project(mixed_TU).reshape(rows, count, dim)

    def lift(self, tokens_TD: Tensor, width: float) -> Tensor:
        """Queries, keys and values of the kept heads, [T, 3 * U]."""
        units = 3 * kept(self.heads, width) * self.head_dim
        return F.linear(tokens_TD, prefix(self.qkv, units), prefix(self.qkv_bias, units))

    def mix(self, qkv_TQ: Tensor, tokens: int) -> Tensor:
        """What the heads gather from rows of so many tokens, [T, U]; `project` is what remains to be done."""
        heads = qkv_TQ.shape[1] // (3 * self.head_dim)
        qkv = qkv_TQ.reshape(-1, tokens, heads, 3, self.head_dim)
        query, key, value = qkv.permute(3, 0, 2, 1, 4).unbind(0)
        mixed = _attend(query, key, value, self.head_dim**-0.5)
        return mixed.transpose(1, 2).reshape(-1, heads * self.head_dim)

    def project(self, mixed_TU: Tensor) -> Tensor:
        """Back to the residual stream, [T, D]."""
        return torch.addmm(self.proj_bias, mixed_TU, prefix(self.proj, mixed_TU.shape[1]))

    def narrow_(self, width: float) -> None:
        """Keep the prefix of `width` for good (export)."""
        self.heads = kept(self.heads, width)
        narrow_parameters_(self, 3 * self.heads * self.head_dim, "qkv", "qkv_bias")
        narrow_parameters_(self, self.heads * self.head_dim, "proj")


def _attend(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    if torch.compiler.is_exporting():
        # Written out: the exporter's own decomposition scales query and key apart (two products instead of one).
        return torch.matmul(torch.softmax(torch.matmul(query * scale, key.transpose(-2, -1)), dim=-1), value)
    return F.scaled_dot_product_attention(query, key, value, scale=scale)


class InvertedBottleneck(nn.Module):
    """Residual block on a fixed channel stream: 1x1 up, depthwise 3x3, 1x1 down; only the hidden channels are slimmed.

    There is no batch norm: its statistics would depend on the encoder's width. The last product starts at zero, which
    trains without any norm (Zhang et al., Fixup). The down-projection is a transposed 1x1 convolution because
    its weight [hidden, channels, 1, 1] has the slimmed axis first.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.up = nn.Parameter(nn.init.kaiming_normal_(torch.empty(hidden, channels, 1, 1), nonlinearity="relu"))
        self.up_bias = nn.Parameter(torch.zeros(hidden))
        self.depthwise = nn.Parameter(nn.init.kaiming_normal_(torch.empty(hidden, 1, 3, 3), nonlinearity="relu"))
        self.depthwise_bias = nn.Parameter(torch.zeros(hidden))
        self.down = nn.Parameter(torch.zeros(hidden, channels, 1, 1))
        self.down_bias = nn.Parameter(torch.zeros(channels))

    def forward(self, stream_BCHW: Tensor, width: float = 1.0) -> Tensor:
        units = kept(self.hidden, width)
        hidden = F.relu(F.conv2d(stream_BCHW, prefix(self.up, units), prefix(self.up_bias, units)))
        depthwise, bias = prefix(self.depthwise, units), prefix(self.depthwise_bias, units)
        hidden = F.relu(F.conv2d(hidden, depthwise, bias, padding=1, groups=units))
        return stream_BCHW + F.conv_transpose2d(hidden, prefix(self.down, units), self.down_bias)

    def narrow_(self, width: float) -> None:
        """Keep the prefix of `width` for good (export)."""
        self.hidden = kept(self.hidden, width)
        narrow_parameters_(self, self.hidden, "up", "up_bias", "depthwise", "depthwise_bias", "down")


class MapDecoder(nn.Module):
    """How decoders of maps end: at 1/4 of the image size the encoder's detail is added, two blocks follow, then 1x1 to
    four sub-pixels a channel, and bilinear to full size.

    K output channels, C channels of the stream, H and W image sides.
    """

    detail: nn.Conv2d | None
    fine: nn.ModuleList
    out: nn.Conv2d

    def end_with(self, channels: int, hidden: int, detail_channels: int, outputs: int) -> None:
        """Make the parts of the ending; called last by a decoder's `__init__`, so that they come last."""
        self.detail = nn.Conv2d(detail_channels, channels, 1) if detail_channels else None
        self.fine = nn.ModuleList([InvertedBottleneck(channels, hidden) for _ in range(2)])
        self.out = nn.Conv2d(channels, 4 * outputs, 1)

    def finish(self, stream_RCHW: Tensor, detail_RCHW: Tensor | None, width: float) -> Tensor:
        """From the stream at 1/8 of the image size to raw values [R, K, H, W]."""
        stream = doubled(stream_RCHW)
        if self.detail is not None:
            stream = stream + self.detail(detail_RCHW)
        for block in self.fine:
            stream = block(stream, width)
        return doubled(F.pixel_shuffle(self.out(F.relu(stream)), 2))


def doubled(maps: Tensor) -> Tensor:
    """Twice the height and width, bilinear."""
    return F.interpolate(maps, scale_factor=2.0, mode="bilinear", align_corners=False)
