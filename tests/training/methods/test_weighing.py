"""Weights of tasks and aggregation of their gradients, against their papers' formulas."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch

from slimpath.training.errors import ConfigError
from slimpath.training.methods.aggregate import aggregator
from slimpath.training.methods.settings import MethodConfig
from slimpath.training.methods.uncertainty import UncertaintyWeights

CONFLICT = np.array([[1.0, 0.0, 2.0], [-1.0, 1.0, -0.5]], np.float32)


def as_gradients(matrix: np.ndarray) -> list[list[torch.Tensor]]:
    """Two weights of shapes [1] and [1, 2]."""
    return [[torch.from_numpy(row[:1].copy()), torch.from_numpy(row[1:].copy()).reshape(1, 2)] for row in matrix]


def flat(parts: list[torch.Tensor]) -> np.ndarray:
    assert [tuple(part.shape) for part in parts] == [(1,), (1, 2)]
    return torch.cat([part.flatten() for part in parts]).numpy()


def projected(matrix: np.ndarray) -> np.ndarray:
    """PCGrad (Yu et al. 2020, algorithm 1) for two tasks, where the order does not matter."""
    result = []
    for i, j in ((0, 1), (1, 0)):
        product = matrix[i] @ matrix[j]
        result.append(matrix[i] - min(0.0, product) / (matrix[j] @ matrix[j]) * matrix[j])
    return np.stack(result)


def test_sum_is_the_sum():
    assert flat(aggregator("sum", 0)(as_gradients(CONFLICT))) == pytest.approx(CONFLICT.sum(axis=0))


def test_pcgrad_sums_the_projected_gradients():
    assert flat(aggregator("pcgrad", 0)(as_gradients(CONFLICT))) == pytest.approx(
        projected(CONFLICT).sum(axis=0), abs=1e-5
    )


def test_upgrad_is_the_mean_of_projections_onto_the_cone_of_no_conflict():
    """Quinton and Rey 2024; for two tasks in conflict that is the mean of PCGrad's two vectors."""
    pytest.importorskip("quadprog", reason="under the GPL, so not among slimpath's dependencies")
    found = flat(aggregator("upgrad", 0)(as_gradients(CONFLICT)))
    assert found == pytest.approx(projected(CONFLICT).mean(axis=0), abs=1e-3)  # TorchJD regularises the projection


def test_upgrad_without_its_solver_is_refused_with_the_command_that_helps(monkeypatch: pytest.MonkeyPatch):
    from torchjd._linalg import QuadprogProjector

    monkeypatch.setattr(QuadprogProjector, "_REQUIRED_DEPS", ["no_such_solver"])
    with pytest.raises(ConfigError, match=r"torchjd\[quadprog-projector\]"):
        aggregator("upgrad", 0)


@pytest.mark.parametrize("c", [0.0, 0.4, 0.9])
def test_cagrad_is_the_direction_in_a_ball_that_helps_the_worst_task_most(c: float):
    """Liu et al. 2021, algorithm 1: d = g0 + c |g0| g_w / |g_w|, with the w on the simplex of least
    g_w . g0 + c |g0| |g_w|; for two tasks the simplex is a line, looked at point by point."""
    pytest.importorskip("cvxpy", reason="a modelling language for one aggregator: not among slimpath's dependencies")
    pytest.importorskip("clarabel", reason="the solver that TorchJD asks cvxpy for")
    mean = CONFLICT.astype(np.float64).mean(axis=0)
    share = np.linspace(0, 1, 200_001)[:, None]
    mixed = share * CONFLICT[0] + (1 - share) * CONFLICT[1]
    radius, lengths = c * np.linalg.norm(mean), np.linalg.norm(mixed, axis=1)
    best = np.argmin(mixed @ mean + radius * lengths)
    found = flat(aggregator("cagrad", 0, c)(as_gradients(CONFLICT)))
    assert found == pytest.approx(mean + radius * mixed[best] / lengths[best], abs=2e-3)
    assert np.linalg.norm(found - mean) <= radius + 1e-3


def test_cagrad_without_its_solver_is_refused_with_the_command_that_helps(monkeypatch: pytest.MonkeyPatch):
    from torchjd.aggregation import CAGradWeighting

    monkeypatch.setattr(CAGradWeighting, "_REQUIRED_DEPS", ["no_such_solver"])
    with pytest.raises(ConfigError, match=r'needs cvxpy.*pip install "torchjd\[cagrad\]"'):
        aggregator("cagrad", 0)


def test_mgda_is_the_shortest_convex_combination():
    """Désidéri 2012; for two tasks in closed form."""
    a, b = CONFLICT
    share = min(1.0, max(0.0, float((b - a) @ b / ((a - b) @ (a - b)))))
    found = flat(aggregator("mgda", 0)(as_gradients(CONFLICT)))
    assert found == pytest.approx(share * a + (1 - share) * b, abs=1e-3)


def test_order_of_tasks_in_pcgrad_is_the_seeds_and_costs_the_global_state_nothing(monkeypatch: pytest.MonkeyPatch):
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    matrix = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    before = torch.get_rng_state()
    first, again = (flat(aggregator("pcgrad", 4)(as_gradients(matrix))) for _ in range(2))
    assert np.array_equal(first, again) and torch.equal(before, torch.get_rng_state()) and not seeded


def test_aggregator_without_its_library_is_refused_with_the_command_that_helps(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torchjd", None)
    with pytest.raises(ConfigError, match=r"needs TorchJD.*slimpath\[train\]"):
        aggregator("upgrad", 0)
    assert flat(aggregator("sum", 0)(as_gradients(CONFLICT))) == pytest.approx(CONFLICT.sum(axis=0))


def test_uncertainty_weighs_regression_by_half_and_learns_the_balance():
    """Kendall et al. 2018, equations 7 and 10: 1/(2 sigma^2) L + log sigma, and 1/sigma^2 L + log sigma."""
    weights = UncertaintyWeights(("depth", "semseg"))
    losses = {"depth": 3.0, "semseg": 0.2}
    for task, s in (("depth", 0.4), ("semseg", -1.1)):
        weights.log_variance[task].data.fill_(s)
        sigma = math.exp(s / 2)
        expected = losses[task] / ((2 if task == "depth" else 1) * sigma**2) + math.log(sigma)
        assert float(weights(task, torch.tensor(losses[task])).detach()) == pytest.approx(expected, rel=1e-6)
    for _ in range(1500):
        torch.stack([weights(task, torch.tensor(value)) for task, value in losses.items()]).sum().backward()
        weights.step(lr=0.01)
    # Where the derivative by s vanishes: sigma^2 = L for regression, 2 L for classification.
    assert weights.log_variance["depth"].item() == pytest.approx(math.log(3.0), abs=0.02)
    assert weights.log_variance["semseg"].item() == pytest.approx(math.log(0.4), abs=0.02)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sharpness": "sam"}, "none, samo, flat"),
        ({"aggregate": "mean"}, "sum, pcgrad"),
        ({"weighting": "dwa"}, "equal, uncertainty"),
        ({"balance": "none"}, "joint, per_task"),
        ({"ci_kd": -1.0}, "ci_kd must be 0"),
        ({"rho": 0.0}, "rho must be above 0"),
        ({"samo_beta": 1.5}, "0..1"),
        ({"cagrad_c": 1.0}, "cagrad_c must be from 0 to below 1"),
        ({"router_noise": -1.0}, "negative"),
    ],
)
def test_impossible_settings_are_refused(settings: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        MethodConfig(**settings)
