"""Routing and its balance against literal numpy, and the experts behind it."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from slimpath.models import MultiTaskModel
from slimpath.models import moe as moe_module
from slimpath.models.config import GateMode
from slimpath.models.moe import Routing, SlimExperts, balance_loss, route, squared_variation

B, N, D, E, K = 3, 6, 8, 5, 3
TOP_K = (1, 3, 2)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def routed(mode: GateMode = "softmax_topk", top_k: tuple[int, ...] = TOP_K) -> tuple[Routing, np.ndarray]:
    """A routing of random tokens, and its logits worked out in float64."""
    tokens, router, bias = draw(B, N, D), draw(B, D, E, seed=1), draw(B, E, seed=2)
    logits = np.stack([tokens[b].double().numpy() @ router[b].double().numpy() + bias[b].numpy() for b in range(B)])
    return route(tokens, router, bias, torch.tensor(top_k), K, mode), logits


def test_route_is_softmax_over_all_experts_then_top_k_not_renormalised() -> None:
    routing, logits = routed()
    for b in range(B):
        for n in range(N):
            powers = np.exp(logits[b, n] - logits[b, n].max())
            probability = powers / powers.sum()
            order = np.argsort(-probability)[: TOP_K[b]]
            visited = TOP_K[b]
            assert routing.expert_BNK[b, n, :visited].tolist() == order.tolist()
            np.testing.assert_allclose(routing.weight_BNK[b, n, :visited].numpy(), probability[order], rtol=1e-5)
            np.testing.assert_allclose(routing.probability_BNE[b, n].numpy(), probability, rtol=1e-5)
    assert (routing.weight_BNK.sum(-1) < 1.0).all()


def test_renormalised_weights_are_the_softmax_of_the_chosen_logits() -> None:
    routing, logits = routed("renormalised")
    for b in range(B):
        for n in range(N):
            chosen = np.sort(logits[b, n])[::-1][: TOP_K[b]]
            expected = np.exp(chosen - chosen[0]) / np.exp(chosen - chosen[0]).sum()
            np.testing.assert_allclose(routing.weight_BNK[b, n, : TOP_K[b]].numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("mode", ["softmax_topk", "renormalised"])
def test_ranks_beyond_a_rows_top_k_visit_nobody_with_weight_0(mode: GateMode) -> None:
    routing, _ = routed(mode)
    for b in range(B):
        assert (routing.expert_BNK[b, :, TOP_K[b] :] == E).all()
        assert (routing.weight_BNK[b, :, TOP_K[b] :] == 0).all()
        assert (routing.expert_BNK[b, :, : TOP_K[b]] < E).all()
        assert (routing.weight_BNK[b, :, : TOP_K[b]] > 0).all()


def test_lower_top_k_visits_the_first_of_the_same_experts() -> None:
    wide, narrow = routed(top_k=(3, 3, 3))[0], routed(top_k=(2, 2, 2))[0]
    assert torch.equal(wide.expert_BNK[..., :2], narrow.expert_BNK[..., :2])
    assert torch.equal(wide.weight_BNK[..., :2], narrow.weight_BNK[..., :2])


def test_routing_of_a_row_does_not_depend_on_the_rest_of_the_batch() -> None:
    tokens, router, bias = draw(B, N, D), draw(B, D, E, seed=1), draw(B, E, seed=2)
    together = route(tokens, router, bias, torch.tensor(TOP_K), K, "softmax_topk")
    for b in range(B):
        at = slice(b, b + 1)
        alone = route(tokens[at], router[at], bias[at], torch.tensor(TOP_K[at]), K, "softmax_topk")
        assert torch.equal(alone.expert_BNK, together.expert_BNK[at])
        torch.testing.assert_close(alone.weight_BNK, together.weight_BNK[at], rtol=1e-6, atol=1e-6)


def test_router_stays_in_fp32_under_autocast_and_for_low_precision_tokens() -> None:
    tokens, router, bias = draw(B, N, D), draw(B, D, E, seed=1), draw(B, E, seed=2)
    plain = route(tokens, router, bias, torch.tensor(TOP_K), K, "softmax_topk")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = route(tokens, router, bias, torch.tensor(TOP_K), K, "softmax_topk")
    assert torch.equal(cast.logits_BNE, plain.logits_BNE)
    low = route(tokens.bfloat16(), router, bias, torch.tensor(TOP_K), K, "softmax_topk")
    assert low.logits_BNE.dtype == low.weight_BNK.dtype == torch.float32


def test_noise_has_the_asked_for_standard_deviation_and_changes_the_choice() -> None:
    torch.manual_seed(0)
    still = torch.zeros(1, 4000, D)
    routing = route(still, draw(1, D, E), torch.zeros(1, E), torch.tensor([1]), 1, "softmax_topk", noise_std=0.25)
    assert routing.logits_BNE.std().item() == pytest.approx(0.25, rel=0.03)  # 20,000 draws: 0.5 % expected
    assert routing.expert_BNK.unique().tolist() == list(range(E))


# Experts


def favour(expert: int) -> Routing:
    """Every token visits one expert: its bias is far above the others."""
    bias = torch.zeros(1, E)
    bias[0, expert] = 50.0
    return route(draw(1, N, D), torch.zeros(1, D, E), bias, torch.tensor([1]), K, "softmax_topk")


@pytest.mark.parametrize("expert", range(E))
def test_every_expert_is_reachable_and_answers_with_its_own_weights(expert: int) -> None:
    experts = SlimExperts(D, 6, E)
    for seed, parameter in enumerate(experts.parameters()):
        parameter.data = draw(*parameter.shape, seed=seed)
    tokens = draw(1, N, D, seed=9)
    hidden = torch.nn.functional.gelu(tokens @ experts.up[expert].T + experts.up_bias[expert])
    expected = hidden @ experts.down[expert] + experts.down_bias[expert]
    out = experts(tokens, favour(expert))
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    out.sum().backward()
    touched = [index for index, weight in enumerate(experts.up) if weight.grad is not None and weight.grad.any()]
    assert touched == [expert]


@pytest.mark.parametrize("width", [0.25, 0.5, 0.75])
def test_narrow_experts_never_read_beyond_their_prefix(width: float) -> None:
    experts, tokens = SlimExperts(D, 8, E), draw(B, N, D)
    routing, _ = routed()
    expected = experts(tokens, routing, width)
    for group in (experts.up, experts.up_bias, experts.down):
        for parameter in group:
            parameter.data[int(8 * width) :] = float("nan")
    assert torch.equal(experts(tokens, routing, width), expected)
    experts.narrow_(width)
    torch.testing.assert_close(experts(tokens, routing), expected, rtol=0, atol=1e-6)


def test_experts_compute_in_bf16_under_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.dtype] = []
    sorted_lowering = moe_module.dispatch_sorted

    def spy(tokens: Tensor, ids: Tensor, weights: Tensor, *groups: list[Tensor]) -> Tensor:
        seen.extend([tokens.dtype, *(tensor.dtype for group in groups for tensor in group)])
        return sorted_lowering(tokens, ids, weights, *groups)

    monkeypatch.setattr(moe_module, "dispatch_sorted", spy)
    experts, (routing, _) = SlimExperts(D, 8, E), routed()
    exact = experts(draw(B, N, D), routing)
    assert set(seen) == {torch.float32}
    seen.clear()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = experts(draw(B, N, D), routing)
    assert set(seen) == {torch.bfloat16}
    # bf16 keeps 8 bits: 0.4 % a product, and the sums are short.
    torch.testing.assert_close(rounded.float(), exact, rtol=0.05, atol=0.02 * exact.abs().max().item())


# Balance


def numpy_balance(routing: Routing, groups: list[int]) -> float:
    """CV^2 of importance (Shazeer et al. 2017, equations 6 and 7; M3ViT's, with eps 1e-10 and unbiased variance), and
    E * sum f_e P_e - 1 (Fedus et al. 2021, Switch Transformers, equations 4 to 6), by loops."""
    ids, weights = routing.expert_BNK.numpy(), routing.weight_BNK.double().numpy()
    probability = routing.probability_BNE.double().numpy()
    experts, losses = probability.shape[-1], []
    for group in sorted(set(groups)):
        importance, visits, mass, tokens = np.zeros(experts), np.zeros(experts), np.zeros(experts), 0
        for b in range(len(groups)):
            if groups[b] != group:
                continue
            for n in range(ids.shape[1]):
                tokens += 1
                mass += probability[b, n]
                for k in range(ids.shape[2]):
                    if ids[b, n, k] < experts:
                        importance[ids[b, n, k]] += weights[b, n, k]
                        visits[ids[b, n, k]] += 1
        variation = importance.var(ddof=1) / (importance.mean() ** 2 + 1e-10)
        losses.append(variation + experts * np.sum(visits / visits.sum() * mass / tokens) - 1.0)
    return float(np.mean(losses))


@pytest.mark.parametrize("groups", [[0, 0, 0], [0, 1, 2], [4, 0, 4]])
def test_balance_loss_equals_literal_numpy(groups: list[int]) -> None:
    routing, _ = routed()
    loss = balance_loss(routing, torch.tensor(groups))
    assert loss.item() == pytest.approx(numpy_balance(routing, groups), rel=1e-4)


def handmade(expert_BNK: list[list[list[int]]], probability_BNE: Tensor) -> Routing:
    ids = torch.tensor(expert_BNK)
    return Routing(ids, probability_BNE.gather(-1, ids), probability_BNE, probability_BNE.log())


UNIFORM = [[0, 1], [2, 3], [1, 2], [3, 0]]


def test_balance_loss_is_0_for_uniform_routing() -> None:
    routing = handmade([UNIFORM], torch.full((1, 4, 4), 0.25))
    assert balance_loss(routing, torch.tensor([0])).item() == pytest.approx(0.0, abs=1e-6)


def test_balance_loss_of_collapsed_routing_is_positive_and_pushes_the_favourite_down() -> None:
    bias = torch.tensor([[3.0, 2.0, 0.0, 0.0]], requires_grad=True)
    routing = route(draw(1, 4, D) * 0.1, draw(1, D, 4), bias, torch.tensor([2]), 2, "softmax_topk")
    loss = balance_loss(routing, torch.tensor([0]))
    assert loss.item() > 1.0
    loss.backward()
    assert bias.grad is not None
    assert bias.grad[0, 0] > 0 and (bias.grad[0, 2:] < 0).all()


def test_tasks_on_different_experts_are_balanced_jointly_but_not_per_task() -> None:
    probability = torch.tensor([[[0.5, 0.5, 0, 0]] * 2, [[0, 0, 0.5, 0.5]] * 2])
    routing = handmade([[[0, 1]] * 2, [[2, 3]] * 2], probability)
    assert balance_loss(routing, torch.tensor([0, 0])).item() == pytest.approx(0.0, abs=1e-6)
    assert balance_loss(routing, torch.tensor([0, 1])).item() > 1.0


def test_squared_variation_is_m3vits_and_0_for_a_single_value() -> None:
    values = draw(7).abs()
    numbers = values.double().numpy()
    assert squared_variation(values).item() == pytest.approx(numbers.var(ddof=1) / numbers.mean() ** 2, rel=1e-5)
    assert squared_variation(torch.tensor([3.0])).item() == 0.0


def test_model_balances_by_task_or_jointly_as_configured(
    make_model: Callable[..., MultiTaskModel], make_images: Callable[..., Tensor]
) -> None:
    for balance, groups in (("joint", [0, 0, 0]), ("per_task", [0, 1, 0])):
        trained = make_model(balance=balance, router_noise=0.0).train()
        out = trained(make_images(3), ["depth", "edge", "depth"])
        expected = np.mean([numpy_balance(detached(routing), groups) for routing in out.features.routings])
        assert out.balance_loss.item() == pytest.approx(expected, rel=1e-4)


def detached(routing: Routing) -> Routing:
    return Routing(*(getattr(routing, name).detach() for name in Routing.__dataclass_fields__))


def test_single_expert_trains_without_nan(
    make_model: Callable[..., MultiTaskModel], make_images: Callable[..., Tensor]
) -> None:
    out = make_model(experts=1, top_k=1).train()(make_images(1), ["depth"])
    assert out.balance_loss.item() == pytest.approx(0.0, abs=1e-6)
