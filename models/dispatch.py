"""Which tokens visit which experts: one function, three implementations, equal by test.

Axes: T tokens of all rows, K ranks (top-k), D embedding, U hidden units kept, E experts, P = T*K (token, rank) pairs.

A pair whose rank lies at or beyond its row's top_k carries the expert id E ("nobody") and weight 0: no expert sees it.

* `dispatch_reference`: every expert on every token, then a weighted sum. Plain, dear, obviously right.
* `dispatch_sorted`: pairs ordered by expert, one feed-forward per expert on exactly its tokens. For CPUs; exported
  through the custom operator `slimpath::expert_ffn`.
* `dispatch_blocked`: static shapes: every expert's tokens are padded to blocks, one batched matmul over blocks.
  For CUDA graphs and TensorRT, where shapes that depend on the data would need the host.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = Sequence[Tensor]  # one tensor per expert


def expert_ffn(tokens_TD: Tensor, up_UD: Tensor, up_bias_U: Tensor, down_UD: Tensor, down_bias_D: Tensor) -> Tensor:
    """One expert: D -> U, GELU (exact), U -> D."""
    hidden_TU = F.gelu(F.linear(tokens_TD, up_UD, up_bias_U))
    return torch.addmm(down_bias_D, hidden_TU, down_UD)


def dispatch_reference(
    tokens_TD: Tensor,
    expert_TK: Tensor,
    weight_TK: Tensor,
    up: Weights,
    up_bias: Weights,
    down: Weights,
    down_bias: Weights,
) -> Tensor:
    """Sum over ranks of weight * expert(token), every expert computed for every token."""
    out_TD = torch.zeros_like(tokens_TD)
    for expert, parameters in enumerate(zip(up, up_bias, down, down_bias, strict=True)):
        share_T = (weight_TK * (expert_TK == expert)).sum(dim=1)
        out_TD = out_TD + share_T[:, None] * expert_ffn(tokens_TD, *parameters)
    return out_TD


def dispatch_sorted(
    tokens_TD: Tensor,
    expert_TK: Tensor,
    weight_TK: Tensor,
    up: Weights,
    up_bias: Weights,
    down: Weights,
    down_bias: Weights,
) -> Tensor:
    """The same sum, each expert computed only for the tokens that chose it. Differentiable."""
    ranks = expert_TK.shape[1]
    order_P = torch.argsort(expert_TK.reshape(-1), stable=True)
    counts = torch.bincount(expert_TK.reshape(-1), minlength=len(up) + 1).tolist()
    parts = torch.split(tokens_TD[order_P // ranks], counts)
    # The pairs of nobody come last and are answered by zeros, so that neither value nor gradient comes from them.
    answers = [
        expert_ffn(part, *parameters)
        for part, *parameters in zip(parts[:-1], up, up_bias, down, down_bias, strict=True)
    ]
    answers_PD = torch.cat([*answers, torch.zeros_like(parts[-1])])
    place_P = torch.empty_like(order_P)
    place_P[order_P] = torch.arange(len(order_P), device=order_P.device)
    answers_TKD = answers_PD[place_P].reshape(*expert_TK.shape, -1)
    return torch.einsum("tk,tkd->td", weight_TK.to(answers_TKD.dtype), answers_TKD)


def dispatch_blocked(
    tokens_TD: Tensor,
    expert_TK: Tensor,
    weight_TK: Tensor,
    up_EUD: Tensor,
    up_bias_EU: Tensor,
    down_EUD: Tensor,
    down_bias_ED: Tensor,
    *,
    block: int = 32,
) -> Tensor:
    """The same sum with shapes that depend on T, K, E and `block` only; experts are stacked on the first axis.

    Each expert's pairs are padded up to whole blocks. At most ceil(P / block) + E blocks exist whatever the routing is,
    so that many are computed; a block looks up the weights of its expert and is one slice of a batched matmul.
    """
    pairs, experts = expert_TK.numel(), up_EUD.shape[0]
    flat_P = expert_TK.reshape(-1)
    chosen_EP = (torch.arange(experts, device=flat_P.device)[:, None] == flat_P[None]).to(torch.int32)
    rank_P = (torch.cumsum(chosen_EP, dim=1, dtype=torch.int32) * chosen_EP).sum(dim=0) - 1  # place inside its expert
    blocks_E = (chosen_EP.sum(dim=1) + block - 1) // block
    last_E = torch.cumsum(blocks_E, dim=0)
    count = -(-pairs // block) + experts
    # One slot past the end takes the pairs of nobody.
    slot_P = torch.where(
        flat_P < experts, (last_E - blocks_E)[flat_P.clamp(max=experts - 1)] * block + rank_P, count * block
    ).long()
    owner_S = torch.zeros(count * block + 1, dtype=torch.long, device=flat_P.device)
    owner_S = owner_S.scatter(0, slot_P, torch.arange(pairs, device=flat_P.device) // expert_TK.shape[1])
    expert_of_block = (
        (torch.arange(count, device=flat_P.device)[:, None] >= last_E[None]).sum(dim=1).clamp(max=experts - 1)
    )
    tokens_GSD = tokens_TD[owner_S[: count * block]].reshape(count, block, -1)
    hidden = F.gelu(
        torch.baddbmm(up_bias_EU[expert_of_block][:, None], tokens_GSD, up_EUD[expert_of_block].transpose(1, 2))
    )
    answers = torch.baddbmm(down_bias_ED[expert_of_block][:, None], hidden, down_EUD[expert_of_block])
    answers_SD = torch.cat([answers.reshape(count * block, -1), torch.zeros_like(tokens_TD[:1])])
    answers_TKD = answers_SD[slot_P].reshape(*expert_TK.shape, -1)
    return torch.einsum("tk,tkd->td", weight_TK.to(answers_TKD.dtype), answers_TKD)


@torch.library.custom_op("slimpath::expert_ffn", mutates_args=())
def expert_ffn_op(
    tokens_TD: Tensor,
    expert_TK: Tensor,
    weight_TK: Tensor,
    up: list[Tensor],
    up_bias: list[Tensor],
    down: list[Tensor],
    down_bias: list[Tensor],
) -> Tensor:
    """`dispatch_sorted` as one operator, so that `export/` can give it an ONNX lowering of its own."""
    return dispatch_sorted(tokens_TD, expert_TK, weight_TK, up, up_bias, down, down_bias)


@expert_ffn_op.register_fake
def _(
    tokens_TD: Tensor, expert_TK: Tensor, weight_TK: Tensor, up: list, up_bias: list, down: list, down_bias: list
) -> Tensor:
    return torch.empty_like(tokens_TD)
