"""Configuration-Invariant Knowledge Distillation against its formula (training/methods/ci_kd.py) in plain loops.

The idea is that of Aich et al. 2023 (arXiv 2308.11744); the exact distance is slimpath's own, as that module says.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpath.models.encoder import Features
from slimpath.training.methods.ci_kd import invariance_loss, representation


def standardised(vector: np.ndarray) -> list[float]:
    mean = sum(vector) / len(vector)
    variance = sum((value - mean) ** 2 for value in vector) / len(vector)
    return [(value - mean) / math.sqrt(variance + 1e-6) for value in vector]


def literal(student: list[np.ndarray], teacher: list[np.ndarray]) -> float:
    parts = []
    for mine, theirs in zip(student, teacher, strict=True):
        squares = []
        for place in np.ndindex(mine.shape[:-1]):
            pair = zip(standardised(mine[place]), standardised(theirs[place]), strict=True)
            squares += [(a - b) ** 2 for a, b in pair]
        parts.append(sum(squares) / len(squares))
    return sum(parts) / len(parts)


@given(seed=st.integers(0, 10_000), scale=st.floats(0.1, 30), channels=st.integers(2, 9))
@settings(max_examples=25, deadline=None)
def test_loss_is_the_mean_square_between_standardised_features(seed: int, scale: float, channels: int):
    rng = np.random.default_rng(seed)
    shapes = [(3, 4, channels), (2, 2, 3, channels)]
    student, teacher = ([scale * rng.normal(size=shape) + 1 for shape in shapes] for _ in range(2))
    found = invariance_loss(*([torch.from_numpy(part) for part in side] for side in (student, teacher)))
    assert float(found) == pytest.approx(literal(student, teacher), rel=1e-4)


def test_tokens_detail_and_levels_are_compared_channels_last():
    tokens, detail, level = torch.rand(2, 5, 4), torch.rand(1, 3, 6, 7), torch.rand(2, 9, 2)
    parts = representation(Features(tokens, detail, [], (level,)))
    assert [tuple(part.shape) for part in parts] == [(2, 5, 4), (1, 6, 7, 3), (2, 9, 2)]
    assert len(representation(Features(tokens, None, []))) == 1


def test_teacher_learns_nothing_and_the_student_is_drawn_to_it():
    torch.manual_seed(0)
    teacher = torch.randn(2, 3, 8, requires_grad=True)
    student = torch.randn(2, 3, 8, requires_grad=True)
    loss = invariance_loss([student], [teacher])
    loss.backward()
    assert teacher.grad is None and student.grad is not None
    closer = student.detach() - 0.5 * student.grad / student.grad.norm()
    assert float(invariance_loss([closer], [teacher.detach()])) < float(loss.detach())


def test_scale_and_offset_that_heads_normalise_away_cost_nothing():
    tokens = torch.randn(2, 3, 16)
    assert float(invariance_loss([3 * tokens + 2], [tokens])) == pytest.approx(0, abs=1e-5)
