"""Layers with low-rank adapters that all tasks share (the task-agnostic modules of MTLoRA, Agiza et al. 2024).

Each adapter adds scale * x @ down @ up^T to a product. Rank 0 means none. Folding merges them into the weights, which
is exact, and commutes with taking a prefix, so every width stays a view; what deploys has no product more than before.

Axes: T tokens, D embedding, U kept units of a layer, E experts, R rank.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .adapters import LowRank
from .layers import SlimAttention, SlimMlp, prefix
from .moe import SlimExperts
from .widths import kept

#: What a product gives: with the frozen weight alone, and what the shared adapter adds (none, or folded: nothing).
Parts = tuple[Tensor, Tensor | None]


def joined(parts: Parts) -> Tensor:
    """The whole product: frozen part plus what the shared adapter adds."""
    return parts[0] if parts[1] is None else parts[0] + parts[1]


def low_rank(inputs: int, outputs: int, rank: int) -> LowRank | None:
    """An adapter, or none of rank 0."""
    return LowRank(inputs, outputs, rank) if rank else None


def narrow_adapters_(up: LowRank | None, outputs: int, down: LowRank | None, inputs: int) -> None:
    """Cut what a product to the kept units gives, and what the product back from them takes."""
    if up is not None:
        up.narrow_outputs_(outputs)
    if down is not None:
        down.narrow_inputs_(inputs)


class SharedAttention(SlimAttention):
    """`SlimAttention` with shared adapters on its first and its last product.

    Args:
        ranks: Of the adapters on qkv and proj.
    """

    def __init__(self, dim: int, heads: int, ranks: tuple[int, int], scale: float) -> None:
        super().__init__(dim, heads)
        self.scale = scale
        units = self.heads * self.head_dim
        self.qkv_shared, self.proj_shared = low_rank(dim, 3 * units, ranks[0]), low_rank(units, dim, ranks[1])

    def lift(self, tokens_TD: Tensor, width: float) -> Tensor:
        base_TQ = super().lift(tokens_TD, width)
        shared = self.qkv_shared
        return base_TQ if shared is None else base_TQ + shared(tokens_TD, self.scale, outputs=base_TQ.shape[1])

    def project(self, mixed_TU: Tensor) -> Tensor:
        base_TD = super().project(mixed_TU)
        shared = self.proj_shared
        return base_TD if shared is None else base_TD + shared(mixed_TU, self.scale, inputs=mixed_TU.shape[1])

    @torch.no_grad()
    def fold_(self) -> None:
        """Merge the adapters into the weights."""
        if self.qkv_shared is not None:
            self.qkv.copy_(self.qkv.double() + self.qkv_shared.product(self.scale))
        if self.proj_shared is not None:
            self.proj.copy_(self.proj.double() + self.proj_shared.product(self.scale).T)
        self.qkv_shared = self.proj_shared = None

    def narrow_(self, width: float) -> None:
        super().narrow_(width)
        units = self.heads * self.head_dim
        narrow_adapters_(self.qkv_shared, 3 * units, self.proj_shared, units)


class SharedMlp(SlimMlp):
    """`SlimMlp` with shared adapters on both products.

    Args:
        ranks: Of the adapters on the first and the second product.
        split: The products are needed without the shared adapter, too, so that folding leaves the adapters alone.
        drop_down: Nothing reads the adapter of the second product, so that folding drops it.
    """

    def __init__(
        self,
        dim: int,
        hidden: int,
        ranks: tuple[int, int],
        scale: float,
        *,
        split: bool = False,
        drop_down: bool = False,
    ) -> None:
        super().__init__(dim, hidden)
        self.scale, self.split, self.drop_down = scale, split, drop_down
        self.up_shared, self.down_shared = low_rank(dim, hidden, ranks[0]), low_rank(hidden, dim, ranks[1])

    def lift(self, tokens_TD: Tensor, width: float) -> Parts:
        """To the hidden units, [T, U], before the GELU."""
        units = kept(self.hidden, width)
        base_TU = F.linear(tokens_TD, prefix(self.up, units), prefix(self.up_bias, units))
        shared = self.up_shared
        return base_TU, None if shared is None else shared(tokens_TD, self.scale, outputs=units)

    def lower(self, hidden_TU: Tensor) -> Parts:
        """Back to the residual stream, [T, D]."""
        units = hidden_TU.shape[1]
        base_TD = torch.addmm(self.down_bias, hidden_TU, prefix(self.down, units))
        shared = self.down_shared
        return base_TD, None if shared is None else shared(hidden_TU, self.scale, inputs=units)

    def forward(self, tokens_TD: Tensor, width: float = 1.0) -> Tensor:
        return joined(self.lower(F.gelu(joined(self.lift(tokens_TD, width)))))

    @torch.no_grad()
    def fold_(self) -> None:
        """Merge the adapters into the weights where that is exact; drop one that nothing reads."""
        if self.up_shared is not None and not self.split:
            self.up.copy_(self.up.double() + self.up_shared.product(self.scale))
            self.up_shared = None
        if self.down_shared is not None and not self.split:
            self.down.copy_(self.down.double() + self.down_shared.product(self.scale).T)
            self.down_shared = None
        if self.drop_down:
            self.down_shared = None

    def narrow_(self, width: float) -> None:
        super().narrow_(width)
        narrow_adapters_(self.up_shared, self.hidden, self.down_shared, self.hidden)


class SharedExperts(SlimExperts):
    """Experts that a fine-tuning moves together: one low-rank change of their first products and one of their second.

    One for all E of them, not one each: an expert sees a fraction of the tokens, E adapters hold E times the numbers,
    and which expert a task uses how much is its router's to learn. The change is added to the weights, not to the
    tokens' products, since each of the E products would need it apart; folded, it costs nothing.
    Tasks have no adapters of their own inside experts: the tokens of an expert come from rows of all tasks, and its
    one product would become a product a task. Theirs stands beside the whole layer (`Block`, site `feed`).

    Args:
        ranks: Of the change of the first and of the second products.
    """

    def __init__(self, dim: int, hidden: int, experts: int, ranks: tuple[int, int], scale: float) -> None:
        super().__init__(dim, hidden, experts)
        self.scale = scale
        self.up_shared, self.down_shared = low_rank(dim, hidden, ranks[0]), low_rank(hidden, dim, ranks[1])

    def changes(self, units: int) -> tuple[Tensor | None, Tensor | None]:
        up, down = self.up_shared, self.down_shared
        change_up = None if up is None else self.scale * (prefix(up.up, units) @ up.down.T)
        return change_up, None if down is None else self.scale * (prefix(down.down, units) @ down.up.T)

    @torch.no_grad()
    def fold_(self) -> None:
        """Merge the changes into every expert."""
        if self.up_shared is not None:
            for up in self.up:
                up.copy_(up.double() + self.up_shared.product(self.scale))
        if self.down_shared is not None:
            for down in self.down:
                down.copy_(down.double() + self.down_shared.product(self.scale).T)
        self.up_shared = self.down_shared = None

    def narrow_(self, width: float) -> None:
        super().narrow_(width)
        narrow_adapters_(self.up_shared, self.hidden, self.down_shared, self.hidden)
