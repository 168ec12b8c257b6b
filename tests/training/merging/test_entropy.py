"""Entropies against their definitions; what stands in for them where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpath.training.merging import MergeError
from slimpath.training.merging.entropy import binary_entropy, distance, softmax_entropy, uncertainty

logits = st.lists(st.floats(-8, 8), min_size=2, max_size=6)


@settings(deadline=None, max_examples=100)
@given(logits)
def test_softmax_entropy_is_minus_the_sum_of_p_log_p(row: list[float]):
    """EnnengYang/AdaMerging, src/main_layer_wise_adamerging.py: -(softmax * log_softmax).sum(1)."""
    powers = np.exp(np.array(row))
    shares = powers / powers.sum()
    expected = -sum(share * math.log(share) for share in shares)
    found = float(softmax_entropy(torch.tensor([row], dtype=torch.float64)))
    assert abs(found - expected) < 1e-9
    assert -1e-12 <= found <= math.log(len(row)) + 1e-9


@settings(deadline=None, max_examples=100)
@given(st.floats(-20, 20))
def test_binary_entropy_is_that_of_two_classes(logit: float):
    two = softmax_entropy(torch.tensor([[logit, 0.0]], dtype=torch.float64))
    torch.testing.assert_close(binary_entropy(torch.tensor([logit], dtype=torch.float64)), two, atol=1e-9, rtol=1e-6)


def test_pixels_and_pictures_are_averaged():
    raw = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    each = [softmax_entropy(raw[i : i + 1, :, y : y + 1, x]) for i in range(3) for y in range(5) for x in range(6)]
    torch.testing.assert_close(uncertainty("classes", raw), torch.cat(each).mean())


@pytest.mark.parametrize(("kind", "channels"), [("depth", 1), ("normals", 3)])
def test_answers_without_an_entropy_are_measured_by_their_fine_tune(kind: str, channels: int):
    generator = torch.Generator().manual_seed(1)
    raw, other = (torch.randn(2, channels, 4, 4, generator=generator) for _ in range(2))
    assert float(uncertainty(kind, raw, raw)) == pytest.approx(0, abs=1e-6)
    assert float(uncertainty(kind, raw, other)) > 0.1
    with pytest.raises(MergeError, match="no entropy"):
        uncertainty(kind, raw)


def test_distance_of_depth_is_absolute_and_of_normals_one_minus_cosine():
    raw, other = (
        torch.tensor([[3.0, 0.0, 4.0]]).reshape(1, 3, 1, 1),
        torch.tensor([[0.0, 2.0, 0.0]]).reshape(1, 3, 1, 1),
    )
    assert float(distance("normals", raw, other)) == pytest.approx(1)
    assert float(distance("normals", raw, 5 * raw)) == pytest.approx(0, abs=1e-6)
    assert float(distance("depth", raw[:, :1], other[:, :1])) == 3
    with pytest.raises(MergeError, match="have an entropy"):
        distance("classes", raw, other)
