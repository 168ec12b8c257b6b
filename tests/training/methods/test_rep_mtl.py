"""Rep-MTL against equations 3 to 9 of Wang, Li and Xu 2025 (arXiv 2507.21049), written out in plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpath.training.methods.rep_mtl import alignment_loss, by_image, entropy_loss, saliencies

SHAPES = st.tuples(st.integers(2, 4), st.integers(2, 3), st.integers(1, 5), st.integers(1, 4))  # I, T, P, C


def literal_entropy(saliency: np.ndarray) -> float:
    """Equations 4 to 6."""
    images, tasks, places, channels = saliency.shape
    total = 0.0
    for b, p in np.ndindex(images, places):
        strength = [abs(sum(saliency[b, t, p, c] for c in range(channels)) / channels) for t in range(tasks)]
        shares = [value / sum(strength) for value in strength]
        total += -sum(share * math.log(share) for share in shares if share > 0)
    return total / (images * places)


def cosine(first: np.ndarray, second: np.ndarray) -> float:
    return float((first * second).sum() / (np.linalg.norm(first) * np.linalg.norm(second)))


def literal_alignment(saliency: np.ndarray, temperature: float) -> float:
    """Equations 7 to 9; the positive pairs of a sample are averaged."""
    images, tasks, places, _ = saliency.shape
    anchors = []
    for b in range(images):
        # S_{hw,b} averaged over places, for every task: A_b in [C, T].
        mean = np.stack([sum(saliency[b, t, p] for p in range(places)) / places for t in range(tasks)], axis=1)
        anchors.append(mean @ mean.T)
    total = 0.0
    for b in range(images):
        negatives = sum(math.exp(cosine(anchors[b], anchors[k]) / temperature) for k in range(images) if k != b)
        for t in range(tasks):
            affinity = np.sum(
                [np.outer(saliency[b, t, p], saliency[b, t, p]) for p in range(places)], axis=0
            )  # S_t S_t^T
            positive = math.exp(cosine(anchors[b], affinity) / temperature)
            total += -math.log(positive / negatives) / tasks
    return total / images


@given(seed=st.integers(0, 10_000), shape=SHAPES, scale=st.sampled_from([1.0, 1e-6]))
@settings(max_examples=40, deadline=None)
def test_entropy_equals_equations_4_to_6(seed: int, shape: tuple[int, ...], scale: float):
    saliency = scale * np.random.default_rng(seed).normal(size=shape)
    assert float(entropy_loss(torch.from_numpy(saliency))) == pytest.approx(
        literal_entropy(saliency), rel=1e-4, abs=1e-7
    )


@given(
    seed=st.integers(0, 10_000),
    shape=SHAPES,
    scale=st.sampled_from([1.0, 1e-9]),  # a mean loss over many pixels has saliencies that small
    temperature=st.floats(0.1, 2.0),
)
@settings(max_examples=40, deadline=None)
def test_alignment_equals_equations_7_to_9(seed: int, shape: tuple[int, ...], scale: float, temperature: float):
    saliency = scale * np.random.default_rng(seed).normal(size=shape)
    found = float(alignment_loss(torch.from_numpy(saliency).float(), temperature))
    assert found == pytest.approx(literal_alignment(saliency, temperature), rel=1e-3, abs=1e-4)


def test_entropy_is_highest_where_tasks_matter_alike_and_0_where_one_matters():
    alike = torch.ones(2, 3, 4, 5)
    alone = alike.clone()
    alone[:, 1:] = 0
    assert float(entropy_loss(alike)) == pytest.approx(math.log(3))
    assert float(entropy_loss(alone)) == pytest.approx(0, abs=1e-6)


def test_single_image_has_no_negatives_and_costs_nothing():
    assert float(alignment_loss(torch.randn(1, 2, 4, 3), 0.5)) == 0


def test_saliency_is_the_gradient_of_the_rows_own_loss_by_its_patch_tokens():
    """Equation 3, for losses whose gradient is known: L_t = w_t / 2 * mean of squares over the rows of t."""
    tokens = torch.randn(4, 3, 2, dtype=torch.float64, requires_grad=True)
    rows = {"depth": torch.tensor([0, 3]), "edge": torch.tensor([1, 2])}
    losses = {task: weight / 2 * tokens[rows[task]].square().mean() for task, weight in (("depth", 1.0), ("edge", 5.0))}
    every = {**losses, "scene": tokens.sum()}  # labels of images, read from all rows: none is its own
    found = saliencies(every, tokens, rows)
    for task, weight in (("depth", 1.0), ("edge", 5.0)):
        for row in rows[task].tolist():
            expected = weight * tokens.detach()[row, 1:] / (2 * 3 * 2)  # rows x tokens x channels of the mean
            assert found[row].detach().numpy() == pytest.approx(expected.numpy(), rel=1e-6)


@pytest.mark.parametrize("which", ["entropy", "alignment"])
def test_both_losses_have_the_gradient_that_finite_differences_have(which: str):
    """They are functions of a gradient: their own gradient needs the second derivative of the tasks' losses."""
    torch.manual_seed(1)
    weight = torch.randn(2, 3, dtype=torch.float64)
    index = torch.tensor([0, 0, 1, 1])
    rows = {"depth": torch.tensor([0, 2]), "edge": torch.tensor([1, 3])}

    def value(tokens: torch.Tensor) -> torch.Tensor:
        losses = {task: torch.tanh(tokens[r] * weight[n]).pow(2).sum() for n, (task, r) in enumerate(rows.items())}
        saliency = by_image(saliencies(losses, tokens, rows).double(), index)
        assert saliency is not None
        return entropy_loss(saliency) if which == "entropy" else alignment_loss(saliency, 0.5)

    start = torch.randn(4, 3, 3, dtype=torch.float64)
    tokens = start.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(tokens), tokens)
    for place in [(0, 1, 0), (1, 2, 2), (3, 1, 1)]:
        values = []
        for sign in (1, -1):
            shifted = start.clone()
            shifted[place] += sign * 1e-4
            values.append(float(value(shifted.requires_grad_()).detach()))
        # Saliencies are rounded to fp32 on the way.
        assert float(gradient[place]) == pytest.approx((values[0] - values[1]) / 2e-4, rel=2e-2, abs=5e-3)


@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e-25])
def test_places_tasks_and_pictures_that_matter_to_nobody_leave_gradients_finite(scale: float):
    """Padding has no loss; a task may have no valid pixel in a picture."""
    torch.manual_seed(2)
    saliency = scale * torch.randn(4, 2, 3, 5)
    saliency[0, 0] = 0  # a task of a picture
    saliency[1, :, 2] = 0  # a place
    saliency[2] = 0  # a picture
    saliency[3, 1] *= 1e-9
    for loss in (entropy_loss, lambda values: alignment_loss(values, 0.5)):
        tokens = saliency.clone().requires_grad_()
        value = loss(tokens)
        (gradient,) = torch.autograd.grad(value, tokens)
        assert bool(torch.isfinite(value)) and bool(torch.isfinite(gradient).all())
        assert float(gradient.abs().max()) > 0


def test_rows_are_sorted_to_their_images_and_uneven_ones_are_left_alone():
    saliency = torch.arange(4.0)[:, None, None]
    sorted_rows = by_image(saliency, torch.tensor([1, 0, 1, 0]))
    assert sorted_rows is not None and sorted_rows.flatten().tolist() == [1, 3, 0, 2]
    assert by_image(saliency, torch.tensor([0, 0, 0, 1])) is None
    assert by_image(saliency, torch.tensor([0, 1, 2, 3])) is None
