"""Task arithmetic against its formula in NumPy; what it gives for one vector, and for none."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpath.training.merging import Family
from slimpath.training.merging.task_arithmetic import task_arithmetic
from slimpath.training.merging.vectors import added, backbone, cosines, flat, task_vector, unflat

numbers = st.floats(-3, 3, width=32)


def formula(base: np.ndarray, tuned: list[np.ndarray], scale: float) -> np.ndarray:
    """Ilharco et al. 2023, section 2: tau_t = theta_ft^t - theta_pre; theta_new = theta + lambda sum_t tau_t."""
    total = np.zeros_like(base)
    for model in tuned:
        total += model - base
    return base + scale * total


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(numbers, min_size=4, max_size=4), min_size=2, max_size=5), st.floats(-2, 2))
def test_sum_of_task_vectors_times_the_scale_is_added(rows: list[list[float]], scale: float):
    base, *tuned = (np.array(row) for row in rows)
    tensors = [{"a": torch.tensor(row[:3]).reshape(3, 1), "b": torch.tensor(row[3:])} for row in (base, *tuned)]
    vectors = [task_vector(tensors[0], model) for model in tensors[1:]]
    merged = added(tensors[0], task_arithmetic(vectors, scale))
    np.testing.assert_allclose(flat(merged).numpy(), formula(base, tuned, scale), atol=1e-12)


def test_one_vector_with_scale_one_is_the_fine_tune_to_the_bit(family: Family):
    base, tuned = family.base_tensors(), backbone(family.members[1].model)
    merged = added(base, task_arithmetic([task_vector(base, tuned)], 1.0))
    assert all(torch.equal(merged[name], tuned[name]) for name in base)


def test_zero_vectors_and_scale_zero_give_the_base(family: Family):
    base = family.base_tensors()
    for merged in (
        added(base, task_arithmetic([task_vector(base, base)] * 3, 0.7)),
        added(base, task_arithmetic(family.vectors(), 0.0)),
    ):
        assert all(torch.equal(merged[name], base[name]) for name in base)


def test_scale_one_over_the_number_of_tasks_is_the_average(family: Family):
    base = family.base_tensors()
    merged = added(base, task_arithmetic(family.vectors(), 1 / 3))
    tuned = [backbone(member.model) for member in family.members]
    for name, value in merged.items():
        torch.testing.assert_close(value, torch.stack([model[name] for model in tuned]).mean(0), atol=1e-6, rtol=1e-6)


def test_inputs_are_left_as_they_were(family: Family):
    vectors = family.vectors()
    before = [flat(vector).clone() for vector in vectors]
    task_arithmetic(vectors, 0.3)
    assert all(torch.equal(flat(vector), kept) for vector, kept in zip(vectors, before, strict=True))


def test_flattening_can_be_undone_and_cosines_are_those_of_the_whole(family: Family):
    vectors = family.vectors()
    again = unflat(flat(vectors[0]), vectors[0])
    assert all(torch.equal(again[name], vectors[0][name]) for name in again)
    first, second = (flat(vector).numpy() for vector in vectors[:2])
    expected = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
    assert abs(float(cosines(vectors)[0, 1]) - expected) < 1e-12
