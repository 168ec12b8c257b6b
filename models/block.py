"""A pre-norm transformer block with low-rank adapters: some that all tasks share, some that each task has for itself.

Where a task has its own, its rows part from those of other tasks as late as they can: products before that place run
once per image, the big ones as well as the attention. In mode `branch` (after MTLoRA) they never meet again, but the
big products still run once per image, since a branch takes them as the shared path has them.

Axes: I images, B rows (an image with one task), N tokens, D embedding, T tokens of all rows, U kept units.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from .adapters import RowAdapters, Site
from .branch import branch
from .config import PRODUCTS, ModelConfig
from .layers import NORM_EPS
from .shared import Parts, SharedAttention, SharedExperts, SharedMlp, joined
from .widths import kept


class Rows:
    """The rows of a batch: which image each works on, what its task brings, and whether rows have parted yet."""

    def __init__(self, index_B: Tensor, adapters: RowAdapters | None) -> None:
        self.index_B, self.adapters, self.apart = index_B, adapters, False

    def part(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Each with an entry per row instead of one per image; as they are if rows have parted before."""
        if self.apart:
            return tensors
        self.apart = True
        return tuple(tensor.index_select(0, self.index_B) for tensor in tensors)


class Block(nn.Module):
    """Pre-norm transformer block; the feed-forward part is dense or a mixture of experts.

    A task's own adapters stand beside the products that `ModelConfig.adapter_on` names; `feed` beside the whole
    feed-forward part, for mixtures of experts, whose inner products mix the rows of all tasks.
    """

    def __init__(self, config: ModelConfig, index: int) -> None:
        super().__init__()
        self.is_moe = index in config.moe_blocks
        self.site, self.own = f"block{index}", config.task_products(index)
        self.rank, self.task_scale = config.adapter_rank, config.adapter_scale
        shared = index in config.shared_blocks and not config.folded
        qkv, proj, fc1, fc2 = (config.shared_rank if shared and name in config.shared_on else 0 for name in PRODUCTS)
        dim, scale = config.dim, config.shared_scale
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = SharedAttention(dim, config.heads, (qkv, proj), scale)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = None if self.is_moe else SharedMlp(dim, config.mlp_hidden, (fc1, fc2), scale)
        self.experts = None
        if self.is_moe:
            self.experts = SharedExperts(dim, config.expert_hidden, config.experts, (fc1, fc2), scale)

    def attend(self, tokens_BND: Tensor, width: float, rows: Rows | None = None) -> Tensor:
        """Tokens plus their attention; they are those of the rows from the first adapter of a task on."""
        normed, count = self.norm1(tokens_BND), tokens_BND.shape[1]
        qkv_TQ = self.attn.lift(normed.flatten(0, 1), width)
        if rows is not None and self._has("qkv", rows):
            tokens_BND, normed, qkv = rows.part(tokens_BND, normed, qkv_TQ.unflatten(0, (-1, count)))
            qkv_TQ = (qkv + self._add("qkv", normed, rows)).flatten(0, 1)
        mixed_TU = self.attn.mix(qkv_TQ, count)
        tokens_BND = tokens_BND + self.attn.project(mixed_TU).reshape(tokens_BND.shape)
        if rows is not None and self._has("proj", rows):
            tokens_BND, mixed = rows.part(tokens_BND, mixed_TU.unflatten(0, (-1, count)))
            tokens_BND = tokens_BND + self._add("proj", mixed, rows)
        return tokens_BND

    def feed(self, tokens_BND: Tensor, width: float, rows: Rows | None = None) -> Tensor:
        """Tokens plus the dense feed-forward part; that of MoE blocks is routed by `Encoder.forward`."""
        assert self.mlp is not None
        normed, count = self.norm2(tokens_BND), tokens_BND.shape[1]
        hidden_TU = joined(self.mlp.lift(normed.flatten(0, 1), width))
        if rows is not None and self._has("fc1", rows):
            tokens_BND, normed, hidden = rows.part(tokens_BND, normed, hidden_TU.unflatten(0, (-1, count)))
            hidden_TU = (hidden + self._add("fc1", normed, rows)).flatten(0, 1)
        hidden_TU = F.gelu(hidden_TU)
        fed = tokens_BND + joined(self.mlp.lower(hidden_TU)).reshape(tokens_BND.shape)
        if rows is not None and self._has("fc2", rows):
            fed, hidden = rows.part(fed, hidden_TU.unflatten(0, (-1, count)))
            fed = fed + self._add("fc2", hidden, rows)
        if rows is not None and self._has("feed", rows):
            fed, normed = rows.part(fed, normed)
        return self.beside(fed, normed, rows)

    def beside(self, fed_BND: Tensor, normed_BND: Tensor, rows: Rows | None) -> Tensor:
        """What the feed-forward part gave, plus what the rows' tasks add beside it; rows have parted."""
        return fed_BND if rows is None or not self._has("feed", rows) else fed_BND + self._add("feed", normed_BND, rows)

    def branch(self, shared_IND: Tensor, own_BND: Tensor | None, width: float, rows: Rows) -> tuple[Tensor, Tensor]:
        """The shared path, and the rows' branches, which begin here if there are none yet.

        A branch adds to the products of the shared path what its task's adapters make of it (MTLoRA's `matrixv2`).
        """
        mixed_TU = self.attn.mix(self.attn.lift(self.norm1(shared_IND).flatten(0, 1), width), shared_IND.shape[1])
        rows.apart = True

        def own(name: str, inputs_BND: Tensor) -> Tensor:
            return self._add(name, inputs_BND, rows)

        return branch(self, shared_IND, own_BND, mixed_TU, rows.index_B, own, width)

    def project(self, mixed_TU: Tensor) -> Parts:
        """Back to the residual stream, [T, D], shared adapters included."""
        return self.attn.project(mixed_TU), None

    def seen(self, parts: Parts) -> Tensor:
        """What branches see of a product: all of it."""
        return joined(parts)

    def sites(self, width: float) -> list[Site]:
        """Where a task's adapters go, in the order in which it brings them."""
        dim, units = self.norm1.normalized_shape[0], kept(self.attn.heads, width) * self.attn.head_dim
        hidden = 0 if self.mlp is None else kept(self.mlp.hidden, width)
        shapes = {"qkv": (dim, 3 * units), "proj": (units, dim), "fc1": (dim, hidden), "fc2": (hidden, dim)}
        shapes["feed"] = dim, dim
        return [Site(f"{self.site}_{name}", *shapes[name], self.rank) for name in self.own]

    def _has(self, name: str, rows: Rows) -> bool:
        return name in self.own and rows.adapters is not None

    def _add(self, name: str, inputs_BND: Tensor, rows: Rows) -> Tensor:
        assert rows.adapters is not None
        return rows.adapters(f"{self.site}_{name}", inputs_BND, self.task_scale)
