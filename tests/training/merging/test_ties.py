"""TIES against a transcription of its published code in NumPy, and what its steps promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpath.training.merging import Family
from slimpath.training.merging.ties import agreeing, disjoint_mean, elect, ties, ties_split, trim
from slimpath.training.merging.vectors import added, backbone, flat, task_vector

# Quarters: sums are exact, and equal magnitudes and opposite numbers come up often.
quarters = st.integers(-8, 8).map(lambda number: number / 4)
tables = st.integers(1, 4).flatmap(
    lambda tasks: st.integers(1, 12).flatmap(
        lambda count: st.lists(st.lists(quarters, min_size=count, max_size=count), min_size=tasks, max_size=tasks).map(
            lambda rows: np.array(rows, np.float64)
        )
    )
)
shares = st.sampled_from([0.1, 0.2, 0.25, 0.5, 0.75, 0.9])


def published(tasks: np.ndarray, keep: float, scale: float) -> np.ndarray:
    """prateeky2806/ties-merging, src/utils/merge_utils.py: topk_values_mask, resolve_sign("mass"), resolve_zero_signs
    ("majority"), disjoint_merge("mean"); then lambda as in src/ties_merging.py. Yadav et al. 2023, algorithm 1."""
    count = tasks.shape[1]
    kth = count - int(count * keep)
    trimmed = np.zeros_like(tasks)
    for t in range(len(tasks)):
        limit = np.sort(np.abs(tasks[t]))[kth - 1]
        for p in range(count):
            trimmed[t, p] = tasks[t, p] if abs(tasks[t, p]) >= limit else 0.0
    signs = np.sign(trimmed.sum(axis=0))
    signs[signs == 0] = np.sign(signs.sum())
    merged = np.zeros(count)
    for p in range(count):
        chosen = [value for value in trimmed[:, p] if (value > 0 if signs[p] > 0 else value < 0)]
        merged[p] = sum(chosen) / max(len(chosen), 1)
    return scale * merged


@settings(deadline=None, max_examples=200)
@given(tables, shares, st.sampled_from([0.3, 1.0]))
def test_merged_vector_is_that_of_the_published_code(tasks: np.ndarray, keep: float, scale: float):
    vectors = [{"a": torch.tensor(row)} for row in tasks]
    np.testing.assert_allclose(ties(vectors, keep, scale)["a"].numpy(), published(tasks, keep, scale), atol=1e-12)


@settings(deadline=None, max_examples=100)
@given(tables, shares)
def test_trimming_keeps_the_largest_and_changes_none_of_them(tasks: np.ndarray, keep: float):
    trimmed = trim(torch.tensor(tasks), keep).numpy()
    for before, after in zip(tasks, trimmed, strict=True):
        kept = after != 0
        assert (after[kept] == before[kept]).all()
        assert kept.sum() >= min(int(keep * len(before)), (before != 0).sum())
        if kept.any() and (~kept).any():
            assert np.abs(before[~kept]).max() <= np.abs(after[kept]).min()


@settings(deadline=None, max_examples=100)
@given(tables, shares)
def test_merged_numbers_have_the_elected_sign_and_lie_among_the_tasks(tasks: np.ndarray, keep: float):
    trimmed = trim(torch.tensor(tasks), keep)
    sign, merged = elect(trimmed), disjoint_mean(agreeing(trimmed, elect(trimmed)))
    assert bool((merged * sign >= 0)[sign != 0].all())
    assert bool((merged <= trimmed.amax(0).clamp(min=0)).all() and (merged >= trimmed.amin(0).clamp(max=0)).all())


@settings(deadline=None, max_examples=50)
@given(tables, shares)
def test_order_of_the_tasks_does_not_matter_and_signs_can_be_turned(tasks: np.ndarray, keep: float):
    vectors = [{"a": torch.tensor(row)} for row in tasks]
    merged = ties(vectors, keep, 1.0)["a"]
    torch.testing.assert_close(ties(vectors[::-1], keep, 1.0)["a"], merged)
    summed = trim(torch.tensor(tasks), keep).sum(0)
    if bool((summed != 0).all()):  # else the side is drawn by a majority that may be none
        turned = ties([{"a": -vector["a"]} for vector in vectors], keep, 1.0)["a"]
        torch.testing.assert_close(turned, -merged)


def test_trimming_looks_at_the_whole_vector_and_not_at_each_tensor():
    vector = {"small": torch.full((4,), 0.01, dtype=torch.float64), "large": torch.arange(1.0, 5).double()}
    merged = ties([vector], 0.5, 1.0)
    assert not merged["small"].any() or merged["large"].all()
    assert merged["large"].tolist() == [1, 2, 3, 4]


def test_one_vector_kept_whole_is_the_fine_tune(family: Family):
    base, tuned = family.base_tensors(), backbone(family.members[0].model)
    merged = added(base, ties([task_vector(base, tuned)], 1.0, 1.0))
    assert all(torch.equal(merged[name], tuned[name]) for name in base)


def test_zero_vectors_give_the_base(family: Family):
    base = family.base_tensors()
    merged = added(base, ties([task_vector(base, base)] * 2, 0.2, 1.0))
    assert all(torch.equal(merged[name], base[name]) for name in base)


@pytest.mark.parametrize("keep", [0.2, 1.0])
def test_split_vectors_are_what_the_mean_is_taken_of(family: Family, keep: float):
    vectors = family.vectors()
    rows = torch.stack([flat(vector) for vector in ties_split(vectors, keep)])
    torch.testing.assert_close(flat(ties(vectors, keep, 1.0)), disjoint_mean(rows), atol=0, rtol=0)
    assert bool((rows.amin(0) * rows.amax(0) >= 0).all())  # no two of them pull in different directions
