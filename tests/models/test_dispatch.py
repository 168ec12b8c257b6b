"""One function, three implementations: they agree, for every shape of routing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from slimpath.models.dispatch import dispatch_blocked, dispatch_reference, dispatch_sorted, expert_ffn_op

quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)

# Measured 2e-7 on values of order 1: same products, other order of sums.
TOLERANCE = 1e-5


@dataclass
class Case:
    tokens: Tensor
    experts: Tensor
    weights: Tensor
    parameters: list[list[Tensor]]  # up, up_bias, down, down_bias, one tensor per expert

    @property
    def stacked(self) -> list[Tensor]:
        return [torch.stack(group) for group in self.parameters]

    @property
    def leaves(self) -> list[Tensor]:
        return [self.tokens, self.weights, *(tensor for group in self.parameters for tensor in group)]


def draw_case(seed: int, tokens: int, ranks: int, experts: int, used: int, *, dim: int = 6, units: int = 5) -> Case:
    """Random routing over the first `used` experts; the rows' top_k are mixed, so some pairs visit nobody (id E)."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    chosen = torch.stack([torch.randperm(used, generator=generator)[:ranks] for _ in range(tokens)])
    top_k = torch.randint(1, ranks + 1, (tokens, 1), generator=generator)
    visited = torch.arange(ranks)[None] < top_k
    shapes = ((units, dim), (units,), (units, dim), (dim,))
    return Case(
        normal(tokens, dim),
        torch.where(visited, chosen, experts),
        torch.where(visited, torch.rand(tokens, ranks, generator=generator), 0.0),
        [[normal(*shape) for _ in range(experts)] for shape in shapes],
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    experts = draw(st.integers(1, 9))
    used = draw(st.integers(1, experts))  # fewer than `experts` leaves some empty
    ranks = draw(st.integers(1, used))
    return draw_case(draw(st.integers(0, 10_000)), draw(st.integers(1, 40)), ranks, experts, used)


@quick
@given(cases(), st.sampled_from([1, 2, 7, 32, 64]))
def test_sorted_and_blocked_agree_with_the_reference(case: Case, block: int) -> None:
    expected = dispatch_reference(case.tokens, case.experts, case.weights, *case.parameters)
    by_sorting = dispatch_sorted(case.tokens, case.experts, case.weights, *case.parameters)
    by_blocks = dispatch_blocked(case.tokens, case.experts, case.weights, *case.stacked, block=block)
    torch.testing.assert_close(by_sorting, expected, rtol=TOLERANCE, atol=TOLERANCE)
    torch.testing.assert_close(by_blocks, expected, rtol=TOLERANCE, atol=TOLERANCE)


@quick
@given(cases(), st.sampled_from([1, 7, 32]))
def test_gradients_of_sorted_and_blocked_equal_those_of_the_reference(case: Case, block: int) -> None:
    def gradients(function: Callable[..., Tensor], groups: Callable[[], Sequence[object]]) -> tuple[Tensor, ...]:
        leaves = [leaf.requires_grad_() for leaf in case.leaves]
        out = function(case.tokens, case.experts, case.weights, *groups())
        return torch.autograd.grad((out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum(), leaves)

    expected = gradients(dispatch_reference, lambda: case.parameters)
    by_sorting = gradients(dispatch_sorted, lambda: case.parameters)
    by_blocks = gradients(partial(dispatch_blocked, block=block), lambda: case.stacked)
    for found in (by_sorting, by_blocks):
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("block", [1, 8])
def test_pairs_of_nobody_add_nothing(block: int) -> None:
    case = draw_case(0, tokens=5, ranks=2, experts=3, used=3)
    nobody = torch.full_like(case.experts, 3)
    for out in (
        dispatch_reference(case.tokens, nobody, torch.ones(5, 2), *case.parameters),
        dispatch_sorted(case.tokens, nobody, torch.ones(5, 2), *case.parameters),
        dispatch_blocked(case.tokens, nobody, torch.ones(5, 2), *case.stacked, block=block),
    ):
        assert torch.equal(out, torch.zeros_like(case.tokens))


@pytest.mark.parametrize("expert", range(4))
def test_every_expert_is_reached_by_its_number(expert: int) -> None:
    case = draw_case(1, tokens=6, ranks=1, experts=4, used=4)
    up, up_bias, down, down_bias = (group[expert] for group in case.parameters)
    expected = torch.nn.functional.gelu(case.tokens @ up.T + up_bias) @ down + down_bias
    to_one, weight = torch.full((6, 1), expert), torch.ones(6, 1)
    for out in (
        dispatch_reference(case.tokens, to_one, weight, *case.parameters),
        dispatch_sorted(case.tokens, to_one, weight, *case.parameters),
        dispatch_blocked(case.tokens, to_one, weight, *case.stacked, block=4),
    ):
        torch.testing.assert_close(out, expected, rtol=TOLERANCE, atol=TOLERANCE)


def test_only_the_chosen_experts_weights_are_touched() -> None:
    case = draw_case(2, tokens=12, ranks=2, experts=6, used=3)
    for group in case.parameters:
        for idle in group[3:]:
            idle.fill_(float("nan"))
    assert dispatch_sorted(case.tokens, case.experts, case.weights, *case.parameters).isfinite().all()


def test_answer_for_a_token_does_not_depend_on_its_batch_mates() -> None:
    case = draw_case(3, tokens=20, ranks=2, experts=4, used=4)
    together = dispatch_sorted(case.tokens, case.experts, case.weights, *case.parameters)
    for token in range(20):
        at = slice(token, token + 1)
        alone = dispatch_sorted(case.tokens[at], case.experts[at], case.weights[at], *case.parameters)
        torch.testing.assert_close(alone, together[at], rtol=TOLERANCE, atol=TOLERANCE)


def test_blocked_has_shapes_that_do_not_depend_on_the_routing() -> None:
    case = draw_case(4, tokens=12, ranks=2, experts=8, used=8)
    tokens, experts, weights = (tensor.to("meta") for tensor in (case.tokens, case.experts, case.weights))
    groups = [[tensor.to("meta") for tensor in group] for group in case.parameters]  # shapes without any data
    out = dispatch_blocked(tokens, experts, weights, *(torch.stack(group) for group in groups))
    assert out.shape == (12, 6)
    with pytest.raises((NotImplementedError, RuntimeError)):  # sorted reads the counts: this is what the test would see
        dispatch_sorted(tokens, experts, weights, *groups)


def test_operator_for_export_is_the_sorted_lowering_with_a_true_schema() -> None:
    case = draw_case(6, tokens=9, ranks=2, experts=3, used=3)
    arguments = (case.tokens, case.experts, case.weights, *case.parameters)
    assert torch.equal(torch.ops.slimpath.expert_ffn(*arguments), dispatch_sorted(*arguments))
    torch.library.opcheck(expert_ffn_op, arguments, test_utils=("test_schema", "test_faketensor"))
