"""What is kept is exactly what nothing beats, whichever way it was found."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpath.runtime.planning import pareto as module
from slimpath.runtime.planning.pareto import choose, pareto, prune, start


def beats(a: tuple, b: tuple) -> bool:
    """Costs no more anywhere, is worth no less, and is not the same."""
    return all(x <= y for x, y in zip(a[:-1], b[:-1])) and a[-1] >= b[-1]


@st.composite
def clouds(draw) -> tuple[np.ndarray, np.ndarray]:
    columns, count, top = draw(st.integers(1, 4)), draw(st.integers(0, 120)), draw(st.sampled_from([3, 30, 10**12]))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    return rng.integers(0, top, (count, columns)), rng.integers(0, draw(st.sampled_from([2, 50])), count) / 7


@settings(max_examples=300, deadline=None)
@given(clouds(), st.sampled_from([1, 512]), st.sampled_from([2, 256]))
def test_pareto_keeps_what_nothing_beats_once_each(cloud, few, block):
    costs, worths = cloud
    with mock.patch.multiple(module, FEW=few, _BLOCK=block):
        kept = [(*costs[i].tolist(), worths[i]) for i in pareto(costs, worths)]
    points = {(*c.tolist(), w) for c, w in zip(costs, worths)}
    expected = {p for p in points if not any(beats(q, p) for q in points if q != p)}
    assert set(kept) == expected and len(kept) == len(expected)
    assert [p[0] for p in kept] == sorted(p[0] for p in kept)


@settings(max_examples=60, deadline=None)
@given(clouds())
def test_gains_within_the_tie_are_no_gains(cloud):
    costs, worths = cloud
    kept = pareto(costs, worths, tie=0.2)
    for i in kept.tolist():
        cheaper = [k for k in kept.tolist() if k != i and (costs[k] <= costs[i]).all()]
        assert all(worths[i] > worths[k] + 0.2 for k in cheaper)
    if len(worths):
        assert worths[kept].max() >= worths.max() - 0.2


def test_choosing_adds_costs_shares_peaks_and_remembers_what_was_chosen():
    points = start(np.array([[10, 5], [20, 1]]), np.array([0.0, 1.0]))
    points = choose(points, np.array([[1, 3], [2, 7]]), np.array([[0.5, 0.6], [-np.inf, 0.1]]), peaks=[1])
    points = choose(points, np.array([[100, 0]]), np.zeros((2, 1)), peaks=[1])
    assert points.costs_NC.tolist() == [[111, 5], [112, 7], [122, 7]]
    assert points.worths_N.tolist() == pytest.approx([0.5, 0.6, 1.1])
    assert (points.group_N.tolist(), points.code_N.tolist()) == ([0, 0, 1], [0, 1, 1])


def test_pruning_keeps_groups_apart():
    points = start(np.array([[1], [2]]), np.array([5.0, 1.0]))  # the second is beaten, but by another group
    assert len(prune(points)) == 2
    both = choose(points, np.array([[0], [1]]), np.zeros((2, 2)))
    assert prune(both).group_N.tolist() == [0, 1]


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_thinned_list_keeps_the_cheapest_and_something_near_everything(monkeypatch, columns):
    monkeypatch.setattr(module, "MAX_POINTS", 64)
    rng = np.random.default_rng(0)
    costs = rng.integers(0, 1000, (5000, columns))
    worths = costs.sum(1).astype(float)
    kept = module._thin(costs, worths)
    assert len(kept) <= 2 * (64 ** (1 / columns) + 1) ** columns and (np.diff(kept) > 0).all()
    assert (costs[kept].min(0) == costs.min(0)).all()
    cell = 1000 / int(64 ** (1 / columns))
    for cost in costs[::100]:  # within a cell of every point there is one that is worth no less
        near = (np.abs(costs[kept] - cost) <= cell + 1).all(1)
        assert near.any() and worths[kept][near].max() >= cost.sum() - 1e-9
