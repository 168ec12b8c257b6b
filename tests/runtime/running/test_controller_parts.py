"""The controller's two memories: the spread of the answers, and what is peculiar to each plan."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimpath.runtime.running.controller_parts import (
    BIAS_MEMORY_S,
    FRESH,
    LARGEST_BIAS,
    MAX_BIASES,
    PRIOR_COUNT,
    SPREAD_COUNT,
    PlanBiases,
    Spread,
)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=600), st.floats(0, 0.3))
def test_margin_is_the_95th_percentile_of_the_last_answers_and_the_prior(residuals: list[float], prior: float) -> None:
    spread = Spread(prior)
    assert spread.margin == prior
    for residual in residuals:
        spread.add(residual)
    empty = Spread(prior)
    standing_in = np.array(empty._ordered)
    assert len(standing_in) == PRIOR_COUNT and np.median(standing_in) == pytest.approx(0, abs=1e-12)
    expected = np.quantile([*standing_in, *residuals[-SPREAD_COUNT:]], 0.95)
    assert spread.margin == pytest.approx(max(float(expected), 0), abs=1e-12)


def test_spread_starts_anew_from_the_prior() -> None:
    spread = Spread(0.1)
    for _ in range(300):
        spread.add(1.0)
    assert spread.margin == pytest.approx(1.0)
    spread.clear()
    spread.add(0.0)
    assert spread.margin < 0.15


def test_bias_is_learnt_from_the_first_answers_after_a_change_only() -> None:
    biases = PlanBiases()
    for _ in range(FRESH):
        biases.learn("a", 0.2, 0.0, late=False)
    learnt = biases.get("a", 0.0)
    assert learnt > 0.1
    for _ in range(50):
        biases.learn("a", 0.2, 0.0, late=False)  # it has run for long: that is the device
    assert biases.get("a", 0.0) == learnt
    assert biases.get("b", 0.0) == 0.0


def test_bias_is_forgotten_in_minutes() -> None:
    biases = PlanBiases()
    biases.learn("a", 0.2, 100.0, late=False)
    now = biases.get("a", 100.0)
    assert biases.get("a", 100.0 + BIAS_MEMORY_S) == pytest.approx(now / math.e)
    assert biases.get("a", 50.0) == now  # a clock that went back


def test_what_is_too_far_off_or_has_no_name_teaches_nothing() -> None:
    biases = PlanBiases()
    biases.learn("a", LARGEST_BIAS + 0.01, 0.0, late=True)
    biases.learn(None, 0.1, 0.0, late=False)
    assert biases.get("a", 0.0) == biases.get(None, 0.0) == 0.0


def test_acquittal_undoes_what_late_answers_taught_and_nothing_else() -> None:
    biases = PlanBiases()
    biases.learn("a", 0.1, 0.0, late=False)
    before = biases.get("a", 0.0)
    biases.learn("b", 0.3, 0.0, late=True)
    biases.learn("a", 0.3, 0.0, late=True)
    assert biases.get("a", 0.0) > before
    biases.acquit()
    assert biases.get("a", 0.0) == before and biases.get("b", 0.0) == 0.0
    biases.learn("b", 0.3, 0.0, late=True)
    biases.learn("a", 0.0, 0.0, late=False)  # in time: the suspicion ends
    kept = biases.get("b", 0.0)
    biases.acquit()
    assert biases.get("b", 0.0) == kept > 0


def test_memory_is_bounded_and_the_oldest_plan_goes_first() -> None:
    biases = PlanBiases()
    for number in range(MAX_BIASES + 5):
        biases.learn(number, 0.1, 0.0, late=False)
    assert biases.get(0, 0.0) == 0.0 and biases.get(5, 0.0) > 0
