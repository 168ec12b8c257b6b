"""Task-routed mixture of experts (M3ViT, Fan et al. 2022, section 3: multi-gate MoE).

Axes: B rows (one task each), N tokens, D embedding, E experts, K ranks, T = B*N.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .config import GateMode
from .dispatch import dispatch_sorted
from .layers import linear_init, narrow_parameters_, prefix
from .widths import kept


@dataclass(frozen=True)
class Routing:
    """Which experts every token visits, with which weight, and the full distribution behind it."""

    expert_BNK: Tensor
    weight_BNK: Tensor
    probability_BNE: Tensor
    logits_BNE: Tensor


def route(
    tokens_BND: Tensor,
    router_BDE: Tensor,
    bias_BE: Tensor,
    top_k_B: Tensor,
    max_k: int,
    mode: GateMode,
    noise_std: float = 0.0,
    floor: float = 0.0,
) -> Routing:
    """Choose experts: softmax over all of them, then the top k of it (M3ViT), always in fp32.

    A bias of -inf rules an expert out: it is never chosen while at least `max_k` others are left. Ranks at or beyond a
    row's own `top_k_B` get the expert id E ("nobody") and weight 0. Chosen probabilities not above `floor` count as 0.
    """
    experts = router_BDE.shape[-1]
    with torch.autocast(tokens_BND.device.type, enabled=False):
        logits_BNE = torch.bmm(tokens_BND.float(), router_BDE.float()) + bias_BE.float()[:, None]
        if noise_std:
            logits_BNE = logits_BNE + torch.randn_like(logits_BNE) * noise_std
        probability_BNE = torch.softmax(logits_BNE, dim=-1)
        # Ranked by logit: probabilities tie at 0 where they underflow, and an expert ruled out by a bias of -inf must
        # lose to any other. GatherElements beside TopK costs some microseconds.
        expert_BNK = torch.topk(logits_BNE, max_k, dim=-1).indices
        weight_BNK = probability_BNE.gather(-1, expert_BNK)
        visited_B1K = torch.arange(max_k, device=top_k_B.device)[None, None] < top_k_B[:, None, None]
        expert_BNK = torch.where(visited_B1K, expert_BNK, experts)
        weight_BNK = weight_BNK * visited_B1K
        if floor:
            weight_BNK = torch.where(weight_BNK > floor, weight_BNK, 0.0)
        if mode == "renormalised":
            weight_BNK = weight_BNK / weight_BNK.sum(dim=-1, keepdim=True)
    return Routing(expert_BNK, weight_BNK, probability_BNE, logits_BNE)


def squared_variation(values_E: Tensor) -> Tensor:
    """CV^2 = var / (mean^2 + 1e-10) with the unbiased variance, as in M3ViT's balance loss; 0 for a single value."""
    if values_E.numel() == 1:
        return values_E.new_zeros((), dtype=torch.float32)  # the unbiased variance of one value is NaN
    return values_E.float().var() / (values_E.float().mean() ** 2 + 1e-10)


def balance_loss(routing: Routing, group_B: Tensor) -> Tensor:
    """CV^2 of importance plus load imbalance over the experts, averaged over groups of rows.

    Importance is the probability mass that an expert received among the chosen (Shazeer et al. 2017, section 4; M3ViT).
    Visits have no gradient, so load is balanced through E * sum(share of visits * mean probability) - 1, which is 0
    when both are uniform (Fedus et al. 2021, Switch Transformers, section 2.2).

    Args:
        group_B: Group of every row, int64. One group for all rows balances the tasks jointly, one a task each alone.
    """
    experts = routing.probability_BNE.shape[-1]
    chosen = nn.functional.one_hot(routing.expert_BNK, experts + 1)[..., :experts].to(routing.weight_BNK.dtype)
    importance_BE = (chosen * routing.weight_BNK[..., None]).sum(dim=(1, 2))
    visits_BE = chosen.sum(dim=(1, 2))
    probability_BE = routing.probability_BNE.mean(dim=1)
    losses = []
    for group in torch.unique(group_B):
        rows = group_B == group
        visits_E = visits_BE[rows].sum(dim=0)
        load = experts * (visits_E / visits_E.sum() * probability_BE[rows].mean(dim=0)).sum() - 1.0
        losses.append(squared_variation(importance_BE[rows].sum(dim=0)) + load)
    return torch.stack(losses).mean()


class SlimExperts(nn.Module):
    """E feed-forward experts, one tensor each, whose hidden units are slimmed like those of `SlimMlp`."""

    def __init__(self, dim: int, hidden: int, experts: int) -> None:
        super().__init__()
        self.hidden, self.experts = hidden, experts
        self.up = nn.ParameterList([linear_init(hidden, dim) for _ in range(experts)])
        self.up_bias = nn.ParameterList([nn.Parameter(torch.zeros(hidden)) for _ in range(experts)])
        self.down = nn.ParameterList([linear_init(hidden, dim) for _ in range(experts)])
        self.down_bias = nn.ParameterList([nn.Parameter(torch.zeros(dim)) for _ in range(experts)])

    def narrow_(self, width: float) -> None:
        """Keep the prefix of `width` for good (export)."""
        self.hidden = kept(self.hidden, width)
        for group in (self.up, self.up_bias, self.down):
            narrow_parameters_(group, self.hidden, *(str(expert) for expert in range(self.experts)))

    def views(self, width: float) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
        """Prefix views of every expert: up [U, D], up_bias [U], down [U, D], down_bias [D]."""
        units = kept(self.hidden, width)
        up, up_bias, down = ([prefix(p, units) for p in group] for group in (self.up, self.up_bias, self.down))
        more_up, more_down = self.changes(units)
        up = up if more_up is None else [weight + more_up for weight in up]
        down = down if more_down is None else [weight + more_down for weight in down]
        return up, up_bias, down, list(self.down_bias)

    def changes(self, units: int) -> tuple[Tensor | None, Tensor | None]:
        """What is added to every expert's `up` and `down`, [units, D]: here nothing; see `shared.SharedExperts`."""
        return None, None

    def forward(self, tokens_BND: Tensor, routing: Routing, width: float = 1.0) -> Tensor:
        tokens_TD, expert_TK, weight_TK = by_token(tokens_BND, routing)
        if torch.compiler.is_exporting():
            out_TD = torch.ops.slimpath.expert_ffn(tokens_TD, expert_TK, weight_TK, *self.views(width))
        else:
            cast = _autocast_dtype(tokens_TD)  # asked outside: inside, autocast is off and this would say fp32
            with torch.autocast(tokens_TD.device.type, enabled=False):
                # Autocast would cast 64 small tensors one by one and keep them; here the same cost is explicit.
                views = [[view.to(cast) for view in group] for group in self.views(width)]
                out_TD = dispatch_sorted(tokens_TD.to(cast), expert_TK, weight_TK, *views)
        return out_TD.reshape(tokens_BND.shape)


def by_token(tokens_BND: Tensor, routing: Routing) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens [T, D], their experts [T, K] and weights [T, K], the rows one after another."""
    count = tokens_BND.shape[0] * tokens_BND.shape[1]
    experts, weights = routing.expert_BNK.reshape(count, -1), routing.weight_BNK.reshape(count, -1)
    return tokens_BND.reshape(count, tokens_BND.shape[2]), experts, weights


def _autocast_dtype(tensor: Tensor) -> torch.dtype:
    kind = tensor.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else tensor.dtype
