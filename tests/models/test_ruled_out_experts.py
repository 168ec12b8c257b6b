"""A router bias of -inf rules an expert out, exactly: no token, no gradient, no difference to the others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from slimpath.models.config import GateMode
from slimpath.models.dispatch import dispatch_blocked, dispatch_reference, dispatch_sorted
from slimpath.models.moe import Routing, SlimExperts, balance_loss, route

B, N, D, E, K = 2, 9, 8, 6, 3


def routed(kept: list[int], scale: float = 1.0, mode: GateMode = "softmax_topk", noise: float = 0.0) -> Routing:
    generator = torch.Generator().manual_seed(0)
    tokens, router = (torch.randn(shape, generator=generator) for shape in ((B, N, D), (B, D, E)))
    bias = torch.full((B, E), -torch.inf)
    bias[:, kept] = torch.randn(B, len(kept), generator=generator)
    return route(tokens * scale, router, bias, torch.tensor([K, 1]), K, mode, noise)


@settings(deadline=None, max_examples=60)
@given(
    kept=st.sets(st.integers(0, E - 1), min_size=K),
    # At 100 and more the probabilities of kept experts underflow to 0, which is what ruled-out ones have, too.
    scale=st.sampled_from([1e-3, 1.0, 20.0, 100.0, 1e4]),
    mode=st.sampled_from(["softmax_topk", "renormalised"]),
    noise=st.sampled_from([0.0, 1.0]),
)
def test_no_token_visits_an_expert_that_is_ruled_out(kept: set[int], scale: float, mode: GateMode, noise: float):
    routing = routed(sorted(kept), scale, mode, noise)
    assert set(routing.expert_BNK.unique().tolist()) <= kept | {E}
    out = [expert for expert in range(E) if expert not in kept]
    assert (routing.probability_BNE[..., out] == 0).all()
    assert torch.isfinite(routing.weight_BNK).all()


def test_router_over_the_others_alone_chooses_the_same() -> None:
    """Ruling out is not an approximation: it is the router of a smaller model."""
    kept = [0, 2, 3, 5]
    confined = routed(kept)
    generator = torch.Generator().manual_seed(0)
    tokens, router = (torch.randn(shape, generator=generator) for shape in ((B, N, D), (B, D, E)))
    bias = torch.randn(B, len(kept), generator=generator)
    small = route(tokens, router[..., kept], bias, torch.tensor([K, 1]), K, "softmax_topk")
    names = torch.tensor([*kept, E])
    assert torch.equal(confined.expert_BNK, names[small.expert_BNK])
    torch.testing.assert_close(confined.weight_BNK, small.weight_BNK, rtol=1e-6, atol=1e-7)


def experts() -> tuple[SlimExperts, tuple[list[Tensor], ...]]:
    torch.manual_seed(1)
    layer = SlimExperts(D, 12, E)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(std=0.3)
    return layer, layer.views(1.0)


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_every_dispatch_agrees_and_reads_no_expert_that_is_ruled_out(scale: float):
    kept = [1, 2, 4]
    routing = routed(kept, scale)
    _, views = experts()
    tokens_TD = torch.randn(B * N, D, generator=torch.Generator().manual_seed(2))
    chosen = routing.expert_BNK.reshape(-1, K), routing.weight_BNK.reshape(-1, K)
    reference = dispatch_reference(tokens_TD, *chosen, *views)
    with torch.no_grad():
        for group in views:  # whatever lies there, nobody reads it
            for expert in (0, 3, 5):
                group[expert] = torch.full_like(group[expert], torch.nan)
    stacked = [torch.stack(group) for group in views]
    for answer in (
        dispatch_sorted(tokens_TD, *chosen, *views),
        dispatch_blocked(tokens_TD, *chosen, *stacked, block=4),
    ):
        torch.testing.assert_close(answer, reference, rtol=1e-5, atol=1e-5)


def test_ruled_out_experts_get_no_gradient_and_stay_ruled_out_in_training() -> None:
    layer, _ = experts()
    router = torch.randn(1, D, E, generator=torch.Generator().manual_seed(3)).requires_grad_()
    bias = torch.tensor([[0.1, -torch.inf, 0.2, 0.0, -torch.inf, 0.3]]).requires_grad_()
    tokens = torch.randn(1, N, D, generator=torch.Generator().manual_seed(4))
    optimizer = torch.optim.AdamW([router, bias, *layer.parameters()], lr=0.1)
    loss = torch.tensor(0.0)
    for _ in range(3):
        optimizer.zero_grad()
        routing = route(tokens, router, bias, torch.tensor([K]), K, "softmax_topk", noise_std=0.1)
        loss = layer(tokens, routing).square().mean() + balance_loss(routing, torch.zeros(1, dtype=torch.long))
        loss.backward()
        assert all(layer.up[expert].grad is None or not layer.up[expert].grad.any() for expert in (1, 4))
        optimizer.step()
    assert torch.isfinite(loss) and np.isneginf(bias.detach().numpy()[0, [1, 4]]).all()
    assert torch.isfinite(bias.detach()[0, [0, 2, 3, 5]]).all() and torch.isfinite(router).all()
