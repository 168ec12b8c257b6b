"""Rows that are not made: their norms and products are those of the rows, and so is everything behind them."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from slimpath.models import MultiTaskModel, folded
from slimpath.models.thin import ThinNorm, ThinRows, merged_neighbours, regroup

from .test_swin import KINDS, MIXED, make_swin  # noqa: F401  a fixture

BRANCHED = [kind for kind in KINDS if kind not in ("shared only", "plain")]


@pytest.fixture
def rows() -> ThinRows:
    """Five rows of two images, 8 x 4 tokens of 12 channels, rank 3; the base is far from centred."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    return ThinRows(draw(2, 32, 12) + 3, draw(5, 32, 3), draw(5, 3, 12), torch.tensor([0, 1, 1, 0, 1]))


def norm_of(channels: int) -> nn.LayerNorm:
    norm = nn.LayerNorm(channels, eps=1e-5)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 1.5, channels))
        norm.bias.copy_(torch.linspace(-1, 1, channels))
    return norm


def test_norm_and_products_are_those_of_the_rows(rows: ThinRows) -> None:
    norm = norm_of(12)
    own, shared = torch.randn(5, 12, 4), torch.randn(7, 12)
    with torch.no_grad():
        normed = norm(rows.whole())
        torch.testing.assert_close(ThinNorm(rows, norm).own(own), normed @ own, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ThinNorm(rows, norm).shared(shared), normed @ shared.T, atol=1e-5, rtol=1e-5)


def test_neighbours_side_by_side_are_those_of_the_rows(rows: ThinRows) -> None:
    found = merged_neighbours(rows, (8, 4)).whole()
    torch.testing.assert_close(found, regroup(rows.whole(), (8, 4)), atol=1e-5, rtol=1e-5)


def test_tokens_that_are_all_alike_keep_a_finite_norm() -> None:
    """The variance is a sum of parts that may cancel."""
    base, thin, wide = torch.ones(1, 4, 8), torch.ones(1, 4, 1), torch.zeros(1, 1, 8)
    found = ThinNorm(ThinRows(base, thin, wide, torch.tensor([0])), norm_of(8)).shared(torch.eye(8))
    assert found.isfinite().all()
    spread = torch.linspace(-1, 1, 8)
    rows = ThinRows(1 + spread.expand(1, 4, 8), -thin, spread[None, None], torch.tensor([0]))  # cancels the base
    assert ThinNorm(rows, norm_of(8)).shared(torch.eye(8)).isfinite().all()


@pytest.mark.parametrize("kind", BRANCHED)
@pytest.mark.parametrize("width", [0.25, 1.0])
def test_branches_of_a_swin_are_the_same_without_their_rows(
    kind: str,
    width: float,
    make_swin: Any,  # noqa: F811
    make_images: Any,
) -> None:
    model: MultiTaskModel = folded(make_swin(**KINDS[kind]))
    images, names = make_images(2, (64, 64)), [task.name for task in MIXED] + ["depth", "semseg"]
    index = torch.tensor([0, 0, 1, 1, 0])
    with torch.no_grad():
        plain = model.encode(images, index, names, width=width)
        model.encoder.thin = True
        found = model.encode(images, index, names, width=width)
    for one, other in zip((plain.tokens_BND, *plain.levels), (found.tokens_BND, *found.levels), strict=True):
        torch.testing.assert_close(other, one, atol=5e-5, rtol=1e-4)
