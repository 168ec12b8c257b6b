"""The experts' feed-forward for training on CPUs: the same function as `models.dispatch`, with a hand-written gradient.

Why: in bf16 the library compiles a kernel for every new matrix shape (2 ms), and the number of tokens of an expert is
new every time; autograd keeps some 60 small nodes per layer. Here every expert's tokens are padded to whole blocks
of 64 (few shapes, each compiled once), and a layer is one node.

Axes: T tokens of all rows, K ranks (top-k), D embedding, U hidden units kept, E experts, S slots (tokens of all
experts, padded).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["expert_function", "plan_slots"]

BLOCK = 64


def plan_slots(expert_TK: Tensor, experts: int) -> tuple[Tensor, Tensor, list[int]]:
    """Give every (token, rank) pair a slot: pairs of one expert side by side, each expert padded to whole blocks.

    Returns:
        Slot of every pair [T, K] (0 for pairs of nobody, expert id E); the pair in each slot [S], -1 for padding;
        and the first slot of every expert, E + 1 numbers.
    """
    flat_P = expert_TK.reshape(-1)
    order_P = torch.argsort(flat_P, stable=True)
    counts = torch.bincount(flat_P, minlength=experts + 1)
    padded = (counts[:experts] + BLOCK - 1) // BLOCK * BLOCK
    starts = [0, *torch.cumsum(padded, 0).tolist()]
    real = int(counts[:experts].sum())
    first_E = torch.cumsum(counts, 0) - counts
    shift_E = torch.tensor(starts[:-1], device=flat_P.device) - first_E[:experts]
    pair_P = order_P[:real]
    place_P = torch.arange(real, device=flat_P.device) + shift_E[flat_P[pair_P]]
    slot_P = torch.zeros_like(flat_P)
    slot_P[pair_P] = place_P
    pair_S = torch.full((starts[-1],), -1, dtype=flat_P.dtype, device=flat_P.device)
    pair_S[place_P] = pair_P
    return slot_P.reshape(expert_TK.shape), pair_S, starts


class _ExpertFunction(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        tokens_TD: Tensor,
        weight_TK: Tensor,
        expert_TK: Tensor,
        up_EUD: Tensor,
        up_bias_EU: Tensor,
        down_EUD: Tensor,
        down_bias_ED: Tensor,
    ) -> Tensor:
        slot_TK, pair_S, starts = plan_slots(expert_TK, up_EUD.shape[0])
        token_S = (pair_S // expert_TK.shape[1]).clamp(min=0)
        tokens_SD = tokens_TD[token_S]
        hidden_SU = tokens_SD.new_empty(len(token_S), up_EUD.shape[1])
        for e, rows in _segments(starts):
            torch.addmm(up_bias_EU[e], tokens_SD[rows], up_EUD[e].t(), out=hidden_SU[rows])
        active_SU = F.gelu(hidden_SU)
        answer_SD = torch.empty_like(tokens_SD)
        for e, rows in _segments(starts):
            torch.addmm(down_bias_ED[e], active_SU[rows], down_EUD[e], out=answer_SD[rows])
        answer_TKD = _of_pairs(answer_SD, slot_TK)
        weight = weight_TK.to(answer_TKD.dtype)
        ctx.starts = starts
        ctx.save_for_backward(
            weight_TK, expert_TK, slot_TK, pair_S, token_S, tokens_SD, hidden_SU, active_SU, answer_SD, up_EUD, down_EUD
        )
        return torch.bmm(weight[:, None], answer_TKD)[:, 0]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad_TD,) = grads
        saved = ctx.saved_tensors
        weight_TK, expert_TK, slot_TK, pair_S, token_S, tokens_SD, hidden_SU, active_SU, answer_SD, up_EUD, down_EUD = (
            saved
        )
        visited_TK = expert_TK < up_EUD.shape[0]
        weight_S = torch.where(pair_S >= 0, weight_TK.reshape(-1)[pair_S.clamp(min=0)], 0.0).to(grad_TD.dtype)
        grad_SD = grad_TD[token_S] * weight_S[:, None]
        grad_weight_TK = (
            torch.bmm(_of_pairs(answer_SD, slot_TK), grad_TD[:, :, None])[:, :, 0].to(weight_TK.dtype) * visited_TK
        )
        grad_SU = torch.empty_like(hidden_SU)
        learns = any(ctx.needs_input_grad[3:])  # not where the experts are frozen
        grad_up, grad_down = torch.zeros_like(up_EUD), torch.zeros_like(down_EUD)
        grad_up_bias = up_EUD.new_zeros(up_EUD.shape[:2])
        grad_down_bias = down_EUD.new_zeros(down_EUD.shape[0], down_EUD.shape[2])
        for e, rows in _segments(ctx.starts):
            torch.mm(grad_SD[rows], down_EUD[e].t(), out=grad_SU[rows])
            if learns:
                torch.mm(active_SU[rows].t(), grad_SD[rows], out=grad_down[e])
                torch.sum(grad_SD[rows], 0, out=grad_down_bias[e])
        grad_SU = torch.ops.aten.gelu_backward(grad_SU, hidden_SU)
        grad_tokens_SD = torch.empty_like(tokens_SD)
        for e, rows in _segments(ctx.starts):
            torch.mm(grad_SU[rows], up_EUD[e], out=grad_tokens_SD[rows])
            if learns:
                torch.mm(grad_SU[rows].t(), tokens_SD[rows], out=grad_up[e])
                torch.sum(grad_SU[rows], 0, out=grad_up_bias[e])
        visited = visited_TK.to(grad_TD.dtype)
        grad_tokens_TD = torch.bmm(visited[:, None], _of_pairs(grad_tokens_SD, slot_TK))[:, 0]
        return grad_tokens_TD, grad_weight_TK, None, grad_up, grad_up_bias, grad_down, grad_down_bias


def _of_pairs(values_SD: Tensor, slot_TK: Tensor) -> Tensor:
    """The value in each pair's slot [T, K, D]; zeros if nobody visits any expert, and so there is no slot."""
    return values_SD[slot_TK] if len(values_SD) else values_SD.new_zeros(*slot_TK.shape, values_SD.shape[1])


def _segments(starts: list[int]) -> list[tuple[int, slice]]:
    return [(e, slice(a, b)) for e, (a, b) in enumerate(pairwise(starts)) if b > a]


def expert_function(
    tokens_TD: Tensor,
    expert_TK: Tensor,
    weight_TK: Tensor,
    up_EUD: Tensor,
    up_bias_EU: Tensor,
    down_EUD: Tensor,
    down_bias_ED: Tensor,
) -> Tensor:
    """Sum over ranks of weight * expert(token), differentiable in all but the choice; expert id E is nobody."""
    return _ExpertFunction.apply(tokens_TD, weight_TK, expert_TK, up_EUD, up_bias_EU, down_EUD, down_bias_ED)
