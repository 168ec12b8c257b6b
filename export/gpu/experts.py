"""Experts of GPU graphs: stacked in one tensor, unit by unit, and routed with a top-k that the graph fixes.

Stacked tensors have rows (unit, expert), the expert going round fastest: row u * E + e is unit u of expert e. A narrow
encoder keeps the first units of every expert, so its stack is a prefix of the wide one's bytes, as everywhere.

Two operators stand for what the ONNX graph computes in a form of its own (`lowering.py`); run by torch they call the
functions that the network itself uses, so a traced network still computes what it did.

Axes: B rows, N tokens, T = B*N, K ranks, D embedding, E experts, U hidden units kept.
"""

import types

import torch
from torch import Tensor, nn

from ...models.dispatch import dispatch_reference
from ...models.encoder import Encoder
from ...models.moe import Routing, SlimExperts, by_token, route
from ...models.widths import kept

_STACKED = ("up", "up_bias", "down")  # what widths slim


@torch.library.custom_op("slimpath::gpu_route", mutates_args=())
def gpu_route(
    tokens_BND: Tensor, router_BDE: Tensor, bias_BE: Tensor, top_k: int, renormalised: bool, floor: float
) -> tuple[Tensor, Tensor]:
    """Experts int32 [B, N, K] and their weights float32 [B, N, K] where every row has the same top-k."""
    top_k_B = torch.full((len(tokens_BND),), top_k, device=tokens_BND.device)
    mode = "renormalised" if renormalised else "raw"
    routing = route(tokens_BND, router_BDE, bias_BE, top_k_B, top_k, mode, 0.0, floor)  # type: ignore[arg-type]
    return routing.expert_BNK.to(torch.int32), routing.weight_BNK.contiguous()


@gpu_route.register_fake
def _(tokens_BND: Tensor, router_BDE: Tensor, bias_BE: Tensor, top_k: int, renormalised: bool, floor: float):
    shape = (*tokens_BND.shape[:2], top_k)
    return tokens_BND.new_empty(shape, dtype=torch.int32), tokens_BND.new_empty(shape, dtype=torch.float32)


@torch.library.custom_op("slimpath::gpu_experts", mutates_args=())
def gpu_experts(
    tokens_TD: Tensor,
    expert_TK: Tensor,
    weight_TK: Tensor,
    up: Tensor,
    up_bias: Tensor,
    down: Tensor,
    down_bias_ED: Tensor,
) -> Tensor:
    """Sum over ranks of weight * expert(token), [T, D]; `up` and `down` [U * E, D], `up_bias` [U * E]."""
    experts = len(down_bias_ED)
    stacks = [stack.unflatten(0, (-1, experts)).unbind(1) for stack in (up, up_bias, down)]
    return dispatch_reference(
        tokens_TD, expert_TK.long(), weight_TK, stacks[0], stacks[1], stacks[2], list(down_bias_ED)
    )


@gpu_experts.register_fake
def _(
    tokens_TD: Tensor,
    expert_TK: Tensor,
    weight_TK: Tensor,
    up: Tensor,
    up_bias: Tensor,
    down: Tensor,
    down_bias_ED: Tensor,
):
    return torch.empty_like(tokens_TD)


class UnitMajorExperts(nn.Module):
    """`SlimExperts` with the experts of a tensor stacked unit by unit."""

    up: Tensor
    up_bias: Tensor
    down: Tensor

    def __init__(self, experts: SlimExperts) -> None:
        super().__init__()
        self.hidden, self.experts = experts.hidden, experts.experts
        for name in _STACKED:
            stack = torch.stack([parameter.detach() for parameter in getattr(experts, name)], dim=1)
            self.register_parameter(name, nn.Parameter(stack.flatten(0, 1).contiguous(), requires_grad=False))
        down_bias = torch.stack([parameter.detach() for parameter in experts.down_bias])
        self.down_bias = nn.Parameter(down_bias, requires_grad=False)

    def narrow_(self, width: float) -> None:
        """Keep the first hidden units of every expert: a prefix of the rows."""
        self.hidden = kept(self.hidden, width)
        for name in _STACKED:
            rows = getattr(self, name).detach()[: self.hidden * self.experts]
            setattr(self, name, nn.Parameter(rows, requires_grad=False))

    def forward(self, tokens_BND: Tensor, routing: Routing, width: float = 1.0) -> Tensor:
        weights = self.up, self.up_bias, self.down, self.down_bias
        return gpu_experts(*by_token(tokens_BND, routing), *weights).reshape(tokens_BND.shape)


def prepare_for_gpu_(encoder: nn.Module, top_k: int) -> None:
    """Stack the experts of an encoder and fix its top-k, in place; an encoder without experts stays as it is."""
    for module in list(encoder.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, SlimExperts):
                setattr(module, name, UnitMajorExperts(child))
    if isinstance(encoder, Encoder) and encoder.config.moe_blocks:
        encoder._route = types.MethodType(_fixed_route(top_k), encoder)  # type: ignore[method-assign]


def _fixed_route(top_k: int):
    def routed(
        encoder: Encoder, tokens_BND: Tensor, router_BDE: Tensor, bias_BE: Tensor, top_k_B: Tensor, noise: float
    ) -> Routing:
        config = encoder.config
        renormalised = config.gate_mode == "renormalised"
        expert_BNK, weight_BNK = gpu_route(tokens_BND, router_BDE, bias_BE, top_k, renormalised, config.gate_floor)
        return Routing(expert_BNK, weight_BNK, weight_BNK, weight_BNK)  # the distribution behind it is not needed here

    return routed
