"""The quick kernels are the model's own functions, values and gradients, and the passes cover the sandwich."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from slimpath.models import HeadConfig, MultiTaskModel, build_preset, layers
from slimpath.models.dispatch import dispatch_reference
from slimpath.models.moe import SlimExperts
from slimpath.training.config import TrainConfig
from slimpath.training.expert_function import BLOCK, expert_function, plan_slots
from slimpath.training.kernels import fast_cpu_kernels
from slimpath.training.sandwich import Pass, draw_passes

TOLERANCE = 2e-5  # float32, another order of the same sums


@given(tokens=st.integers(0, 90), ranks=st.integers(1, 3), experts=st.integers(1, 5), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_slots_hold_every_pair_once_and_each_expert_whole_blocks(tokens: int, ranks: int, experts: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    expert_TK = torch.randint(0, experts + 1, (tokens, ranks), generator=generator)
    slot_TK, pair_S, starts = plan_slots(expert_TK, experts)
    assert all((b - a) % BLOCK == 0 for a, b in pairwise(starts)) and starts[-1] == len(pair_S)
    for pair, expert in enumerate(expert_TK.reshape(-1).tolist()):
        if expert < experts:
            slot = int(slot_TK.reshape(-1)[pair])
            assert int(pair_S[slot]) == pair and starts[expert] <= slot < starts[expert + 1]
    assert int((pair_S >= 0).sum()) == int((expert_TK < experts).sum())


def expert_case(nobody: bool) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()

    expert_TK = torch.randint(0, 4, (37, 2), generator=generator)
    expert_TK[expert_TK == 2] = 1  # an expert that nobody visits
    if nobody:
        expert_TK[:20, 1] = 4
    weight_TK = torch.rand(37, 2, generator=generator, dtype=torch.float64) * (expert_TK < 4)
    return draw(37, 6), expert_TK, weight_TK.requires_grad_(), [draw(4, 5, 6), draw(4, 5), draw(4, 5, 6), draw(4, 6)]


@pytest.mark.parametrize("nobody", [False, True])
def test_expert_function_equals_the_reference_with_all_gradients(nobody: bool):
    tokens_TD, expert_TK, weight_TK, weights = expert_case(nobody)
    answer = expert_function(tokens_TD, expert_TK, weight_TK, *weights)
    reference = dispatch_reference(tokens_TD, expert_TK, weight_TK, *(list(weight) for weight in weights))
    assert torch.allclose(answer, reference, atol=1e-10)
    towards = torch.randn(answer.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    inputs = [tokens_TD, weight_TK, *weights]
    got = torch.autograd.grad((answer * towards).sum(), inputs)
    wanted = torch.autograd.grad((reference * towards).sum(), inputs)
    # A weight of nobody's pair is 0 by construction, and no gradient may reach it through this function.
    mask = (expert_TK < 4).to(torch.float64)
    for number, (mine, theirs) in enumerate(zip(got, wanted, strict=True)):
        theirs = theirs * mask if number == 1 else theirs
        assert torch.allclose(mine, theirs, atol=1e-10), number


def test_batch_that_no_expert_sees_gives_zeros():
    tokens_TD, expert_TK, weight_TK, weights = expert_case(False)
    answer = expert_function(tokens_TD, torch.full_like(expert_TK, 4), weight_TK, *weights)
    assert not answer.any()
    answer.sum().backward()
    assert tokens_TD.grad is not None and not tokens_TD.grad.any()


@pytest.fixture(scope="module")
def model() -> MultiTaskModel:
    torch.manual_seed(0)
    model = build_preset("m3vit_micro", (HeadConfig("depth", "depth", 1), HeadConfig("scene", "image_classes", 3)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if any(part in name for part in (".experts.", "routers.", "qkv", "proj")):
                parameter.normal_(std=0.3)  # so that every part matters
    return model.eval()


def passed(model: MultiTaskModel, width: float, top_k: int, fast: bool) -> tuple[dict[str, Tensor], list[Tensor]]:
    image = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    model.zero_grad(set_to_none=True)
    with fast_cpu_kernels(fast):
        raw = model(image, ["depth", "scene", "depth"], width=width, top_k=top_k).raw
    torch.cat([value.square().mean().reshape(1) for value in raw.values()]).sum().backward()
    grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in model.parameters()]
    return {task: value.detach() for task, value in raw.items()}, [grad.clone() for grad in grads]


@pytest.mark.parametrize(("width", "top_k"), [(1.0, 2), (0.5, 1), (0.25, 2)])
def test_quick_kernels_equal_the_models_own(model: MultiTaskModel, width: float, top_k: int):
    own, own_grads = passed(model, width, top_k, fast=False)
    quick, quick_grads = passed(model, width, top_k, fast=True)
    for task in own:
        assert torch.allclose(quick[task], own[task], atol=TOLERANCE), task
    for mine, theirs in zip(quick_grads, own_grads, strict=True):
        assert torch.allclose(mine, theirs, atol=TOLERANCE)


def test_quick_kernels_are_taken_out_again_even_after_an_error():
    before = SlimExperts.forward, layers._attend
    with pytest.raises(ZeroDivisionError), fast_cpu_kernels():
        assert SlimExperts.forward is not before[0] and layers._attend is not before[1]
        raise ZeroDivisionError
    assert (SlimExperts.forward, layers._attend) == before


WIDTHS = (0.25, 0.5, 0.75, 1.0)


@given(seed=st.integers(0, 10_000), random_widths=st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_every_step_trains_widest_and_narrowest(seed: int, random_widths: int):
    config = TrainConfig(random_widths=random_widths)
    passes = draw_passes(np.random.default_rng(seed), WIDTHS, 4, config)
    assert passes[0] == Pass(1.0, None, 1.0)
    assert passes[1].width == 0.25
    assert len(passes) == 2 + random_widths
    assert all(p.width in WIDTHS and p.decoder_width in WIDTHS for p in passes)
    assert all(p.top_k is None or 1 <= p.top_k <= 4 for p in passes)


def test_drawn_passes_reach_every_combination():
    rng = np.random.default_rng(0)
    drawn = [p for _ in range(800) for p in draw_passes(rng, WIDTHS, 3, TrainConfig())[1:]]
    assert {(p.width, p.decoder_width) for p in drawn} == {(a, b) for a in WIDTHS for b in WIDTHS}
    assert {p.top_k for p in drawn} == {None, 1, 2, 3}


def test_one_width_or_no_sandwich_leaves_what_there_is():
    rng = np.random.default_rng(0)
    assert draw_passes(rng, WIDTHS, 4, TrainConfig(sandwich=False)) == [Pass(1.0, None, 1.0)]
    assert draw_passes(rng, (1.0,), 0, TrainConfig(random_widths=0)) == [Pass(1.0, None, 1.0)]
