"""The peers' side: the same encoders as a plain, non-slimmable torch module, as anybody would write them for one task.

Weights are copied from a slimpath encoder cut to one width, so that answers can be compared. Nothing of slimpath's
models runs here: `nn.Linear`, `nn.LayerNorm`, `scaled_dot_product_attention`, and a mixture of experts in two common
ways: a loop over experts that picks its tokens and adds them back, or every expert on every token.

Axes: I images, N tokens (class token first), D embedding, T = I*N, E experts, K ranks, h heads, d head size.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slimpath.models import MultiTaskModel
from slimpath.models.config import ModelConfig
from slimpath.models.encoder import Block, Encoder, narrowed
from slimpath.models.layers import InvertedBottleneck, SlimAttention, SlimMlp
from slimpath.models.moe import SlimExperts

Experts = Literal["loop", "all"]


class PlainAttention(nn.Module):
    def __init__(self, attention: SlimAttention) -> None:
        super().__init__()
        self.heads, self.head_dim = attention.heads, attention.head_dim
        units, dim = self.heads * self.head_dim, attention.qkv.shape[1]
        self.qkv, self.proj = nn.Linear(dim, 3 * units), nn.Linear(units, dim)
        # Stored head by head there; here all queries, then all keys, then all values, as in timm.
        weight = attention.qkv.reshape(self.heads, 3, self.head_dim, dim).transpose(0, 1)
        bias = attention.qkv_bias.reshape(self.heads, 3, self.head_dim).transpose(0, 1)
        _fill(self.qkv, weight.reshape(3 * units, dim), bias.reshape(-1))
        _fill(self.proj, attention.proj.T, attention.proj_bias)

    def forward(self, tokens_IND: Tensor) -> Tensor:
        images, count, _ = tokens_IND.shape
        qkv = self.qkv(tokens_IND).reshape(images, count, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
        return self.proj(mixed.transpose(1, 2).reshape(images, count, -1))


class PlainMlp(nn.Module):
    def __init__(self, up_UD: Tensor, up_bias_U: Tensor, down_UD: Tensor, down_bias_D: Tensor) -> None:
        super().__init__()
        units, dim = up_UD.shape
        self.up, self.down = nn.Linear(dim, units), nn.Linear(units, dim)
        _fill(self.up, up_UD, up_bias_U)
        _fill(self.down, down_UD.T, down_bias_D)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(tokens)))


class PlainExperts(nn.Module):
    """Softmax over all experts, the top k of it, not renormalised; the router of one task lies inside."""

    def __init__(
        self, experts: SlimExperts, router_DE: Tensor, bias_E: Tensor, top_k: int, ways: Experts, floor: float
    ) -> None:
        super().__init__()
        self.top_k, self.ways, self.floor = top_k, ways, floor
        self.router = nn.Linear(router_DE.shape[0], router_DE.shape[1])
        _fill(self.router, router_DE.T, bias_E)
        parameters = zip(experts.up, experts.up_bias, experts.down, experts.down_bias, strict=True)
        self.experts = nn.ModuleList([PlainMlp(*parts) for parts in parameters])

    def forward(self, tokens_IND: Tensor) -> Tensor:
        tokens_TD = tokens_IND.reshape(-1, tokens_IND.shape[-1])
        weight_TK, expert_TK = torch.softmax(self.router(tokens_TD), dim=-1).topk(self.top_k, dim=-1)
        weight_TK = torch.where(weight_TK > self.floor, weight_TK, 0.0) if self.floor else weight_TK
        out_TD = torch.zeros_like(tokens_TD)
        if self.ways == "all":
            share_TE = torch.zeros(tokens_TD.shape[0], len(self.experts)).scatter(1, expert_TK, weight_TK)
            for number, expert in enumerate(self.experts):
                out_TD = out_TD + share_TE[:, number, None] * expert(tokens_TD)
            return out_TD.reshape(tokens_IND.shape)
        for number, expert in enumerate(self.experts):
            token, rank = torch.where(expert_TK == number)
            out_TD = out_TD.index_add(0, token, expert(tokens_TD[token]) * weight_TK[token, rank, None])
        return out_TD.reshape(tokens_IND.shape)


class PlainEncoder(nn.Module):
    """Image float32 [I, 3, H, W] -> tokens [I, N, D] and detail [I, C, H/4, W/4], of one task at one width."""

    def __init__(self, model: MultiTaskModel, width: float, task: str, ways: Experts = "loop") -> None:
        super().__init__()
        encoder, config = narrowed(model.encoder, width), model.config
        assert isinstance(encoder, Encoder) and isinstance(config, ModelConfig) and encoder.detail is not None
        rows = model.row_inputs([task], width)
        self.patch_embed, self.detail_tokens = encoder.patch_embed, encoder.detail_tokens
        self.embed_norm, self.class_token, self.position = encoder.embed_norm, encoder.class_token, encoder.position
        blocks = [block for block in encoder.detail.blocks if isinstance(block, InvertedBottleneck)]
        stem: list[nn.Module] = [encoder.detail.embed, *map(_Bottleneck, blocks)]
        self.detail = nn.ModuleList(stem)
        self.attentions, self.feeds, self.norms = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for block in encoder.blocks:
            assert isinstance(block, Block)
            self.norms.append(nn.ModuleList([block.norm1, block.norm2]))
            self.attentions.append(PlainAttention(block.attn))
            if isinstance(block.mlp, SlimMlp):
                mlp = block.mlp
                self.feeds.append(PlainMlp(mlp.up, mlp.up_bias, mlp.down, mlp.down_bias))
                continue
            level = sum(isinstance(feed, PlainExperts) for feed in self.feeds)
            router, bias = rows["router"][0, level], rows["router_bias"][0, level]
            assert isinstance(block.experts, SlimExperts)
            self.feeds.append(PlainExperts(block.experts, router, bias, config.top_k, ways, config.gate_floor))
        self.requires_grad_(False).eval()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        detail = image
        for stage in self.detail:
            detail = stage(detail)
        patches = self.patch_embed(image)
        if self.detail_tokens is not None:
            patches = patches + self.detail_tokens(detail)
        tokens = patches.flatten(2).transpose(1, 2)
        if self.embed_norm is not None:
            tokens = self.embed_norm(tokens)
        tokens = torch.cat([self.class_token.expand(len(image), -1, -1), tokens], dim=1) + self.position
        for norms, attention, feed in zip(self.norms, self.attentions, self.feeds):
            assert isinstance(norms, nn.ModuleList)
            tokens = tokens + attention(norms[0](tokens))
            tokens = tokens + feed(norms[1](tokens))
        return tokens, detail


class _Bottleneck(nn.Module):
    """1x1 up, depthwise 3x3, 1x1 down, as plain convolutions."""

    def __init__(self, block: InvertedBottleneck) -> None:
        super().__init__()
        hidden, channels = block.up.shape[:2]
        self.up, self.down = nn.Conv2d(channels, hidden, 1), nn.Conv2d(hidden, channels, 1)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        _fill(self.up, block.up, block.up_bias)
        _fill(self.depthwise, block.depthwise, block.depthwise_bias)
        _fill(self.down, block.down.transpose(0, 1), block.down_bias)

    def forward(self, stream: Tensor) -> Tensor:
        return stream + self.down(F.relu(self.depthwise(F.relu(self.up(stream)))))


def _fill(layer: nn.Linear | nn.Conv2d, weight: Tensor, bias: Tensor) -> None:
    with torch.no_grad():
        layer.weight.copy_(weight)
        assert layer.bias is not None
        layer.bias.copy_(bias)
