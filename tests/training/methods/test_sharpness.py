"""SAMO and task-based flat minima against their formulas in plain numpy, on losses whose gradients are known.

Task-based flat minima: Phan et al. 2022 (arXiv 2211.13723), sections 4.3 and 4.4. SAMO: Ban et al. 2025 (arXiv
2507.07883) as in the published code, OptMN-Lab/SAMO @ c7c431c, experiments/cityscapes/trainer_samo.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from slimpath.training.methods.aggregate import aggregator
from slimpath.training.methods.flat import flat_gradients, task_gradients
from slimpath.training.methods.samo import samo_gradients
from slimpath.training.methods.split import Split, moved, split_weights

TASKS = ("depth", "edge", "scene")
SHARED_SHAPES, OWN_SHAPE = ((3, 2), (4,)), (2,)
SEEDS = {task: 100 + number for number, task in enumerate(TASKS)}


class Problem:
    """L_t(s, o) = sum sin(a_t s) + sum (o - b_t)^2 * sum s^2 / 10 in torch and in numpy, its gradients in numpy."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.shared = [rng.normal(size=shape) for shape in SHARED_SHAPES]
        self.own = {task: rng.normal(size=OWN_SHAPE) for task in TASKS}
        self.a = {task: [rng.normal(size=shape) for shape in SHARED_SHAPES] for task in TASKS}
        self.b = {task: rng.normal(size=OWN_SHAPE) for task in TASKS}
        weights = [nn.Parameter(torch.from_numpy(value.copy())) for value in self.shared]
        own = {task: [nn.Parameter(torch.from_numpy(value.copy()))] for task, value in self.own.items()}
        self.split = Split(weights, own)

    def torch_loss(self, task: str) -> Tensor:
        (own,) = self.split.own[task]
        waves = sum(torch.sin(torch.from_numpy(a) * s).sum() for a, s in zip(self.a[task], self.split.shared))
        squares = sum(s.square().sum() for s in self.split.shared)
        return waves + (own - torch.from_numpy(self.b[task])).square().sum() * squares / 10  # type: ignore[operator]

    def loss(self, task: str, shared: Sequence[np.ndarray], own: np.ndarray) -> float:
        waves = sum(np.sin(a * s).sum() for a, s in zip(self.a[task], shared))
        return float(waves + ((own - self.b[task]) ** 2).sum() * sum((s**2).sum() for s in shared) / 10)

    def gradient(self, task: str, shared: Sequence[np.ndarray], own: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        distance = ((own - self.b[task]) ** 2).sum()
        by_shared = [a * np.cos(a * s) + 2 * s * distance / 10 for a, s in zip(self.a[task], shared)]
        return by_shared, 2 * (own - self.b[task]) * sum((s**2).sum() for s in shared) / 10


def norm(parts: Sequence[np.ndarray]) -> float:
    return float(np.sqrt(sum((part**2).sum() for part in parts)))


def literal_flat(problem: Problem, rho: float) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """Algorithm 1 with the sum as aggregate: stage 1 finds the moves, stage 2 the gradients there."""
    loss_part = [np.zeros(shape) for shape in SHARED_SHAPES]
    flat_part = [np.zeros(shape) for shape in SHARED_SHAPES]
    own_gradient = {}
    for task in TASKS:
        g, g_own = problem.gradient(task, problem.shared, problem.own[task])
        move = [rho * part / norm(g) for part in g]
        own_move = rho * g_own / norm([g_own])
        there, own_gradient[task] = problem.gradient(
            task, [s + e for s, e in zip(problem.shared, move)], problem.own[task] + own_move
        )
        for layer in range(len(SHARED_SHAPES)):
            loss_part[layer] += g[layer]
            flat_part[layer] += there[layer] - g[layer]
    return [loss + flat for loss, flat in zip(loss_part, flat_part)], own_gradient


def literal_samo(
    problem: Problem, rho: float, beta: float, probe: float
) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """Stage I and stage II of the published training loop (not adaptive), with the sum of the tasks' gradients."""
    every = {task: problem.gradient(task, problem.shared, problem.own[task]) for task in TASKS}
    mean = [sum(every[task][0][layer] for task in TASKS) / len(TASKS) for layer in range(len(SHARED_SHAPES))]
    shared_gradient = [np.zeros(shape) for shape in SHARED_SHAPES]
    own_gradient = {}
    for task in TASKS:
        generator = torch.Generator().manual_seed(SEEDS[task])
        z = [torch.randn(shape, generator=generator).double().numpy() for shape in SHARED_SHAPES]
        above = problem.loss(task, [s + probe * n for s, n in zip(problem.shared, z)], problem.own[task])
        below = problem.loss(task, [s - probe * n for s, n in zip(problem.shared, z)], problem.own[task])
        zeroth = [(above - below) / (2 * probe) * n for n in z]
        mixed = []
        for g, q in zip(mean, zeroth):
            mixed.append((1 - beta) * g + beta * np.linalg.norm(g) * (q / np.linalg.norm(q)))
        move = [rho * part / norm(mixed) for part in mixed]
        own = every[task][1] / len(TASKS)
        there, own_gradient[task] = problem.gradient(
            task, [s + e for s, e in zip(problem.shared, move)], problem.own[task] + rho * own / norm([own])
        )
        for layer in range(len(SHARED_SHAPES)):
            shared_gradient[layer] += there[layer]
    return shared_gradient, own_gradient


def check(found: dict[nn.Parameter, Tensor], problem: Problem, expected: tuple[list, dict[str, np.ndarray]]) -> None:
    shared, own = expected
    for weight, value in zip(problem.split.shared, shared, strict=True):
        assert found[weight].numpy() == pytest.approx(value, rel=1e-6, abs=1e-9)
    for task, (weight,) in problem.split.own.items():
        assert found[weight].numpy() == pytest.approx(own[task], rel=1e-6, abs=1e-9)
    for weight, value in zip(problem.split.shared, problem.shared, strict=True):
        assert np.array_equal(weight.detach().numpy(), value), "weights must be back where they were, to the bit"
    for task, (weight,) in problem.split.own.items():
        assert np.array_equal(weight.detach().numpy(), problem.own[task])


def alone(tensors: Sequence[Tensor]) -> None:
    """One process: nothing to average."""


@given(seed=st.integers(0, 10_000), rho=st.floats(1e-4, 0.5))
@settings(max_examples=30, deadline=None)
def test_flat_minima_equal_algorithm_1(seed: int, rho: float):
    problem = Problem(seed)
    found = flat_gradients(problem.torch_loss, problem.split, rho, aggregator("sum", 0), alone)
    check(found, problem, literal_flat(problem, rho))


@given(seed=st.integers(0, 10_000), rho=st.floats(1e-4, 0.5), beta=st.floats(0, 1), probe=st.floats(1e-3, 0.1))
@settings(max_examples=30, deadline=None)
def test_samo_equals_the_published_loop(seed: int, rho: float, beta: float, probe: float):
    problem = Problem(seed)
    common: dict[nn.Parameter, Tensor] = {}
    every = [problem.gradient(task, problem.shared, problem.own[task]) for task in TASKS]
    for layer, weight in enumerate(problem.split.shared):  # of the sum, where the published code takes the mean
        common[weight] = torch.from_numpy(np.sum([shared[layer] for shared, _ in every], axis=0))
    for (_, own), task in zip(every, TASKS, strict=True):
        common[problem.split.own[task][0]] = torch.from_numpy(own)
    found = samo_gradients(
        problem.torch_loss,
        common,
        problem.split,
        rho=rho,
        beta=beta,
        probe=probe,
        seeds=SEEDS,
        aggregate=aggregator("sum", 0),
        average=alone,
    )
    check(found, problem, literal_samo(problem, rho, beta, probe))


def test_flat_part_and_loss_part_are_aggregated_apart():
    """Section 4.4: with an aggregate that is not linear, one of the whole would give something else."""
    problem, asked = Problem(3), []

    def first_only(gradients: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        asked.append([[part.clone() for part in parts] for parts in gradients])
        return [part.clone() for part in gradients[0]]

    found = flat_gradients(problem.torch_loss, problem.split, 0.1, first_only, alone)
    losses, flats = asked
    g = problem.gradient("edge", problem.shared, problem.own["edge"])[0]
    assert losses[1][0].numpy() == pytest.approx(g[0])
    assert found[problem.split.shared[1]].numpy() == pytest.approx((losses[0][1] + flats[0][1]).numpy())


def test_per_task_gradients_without_a_move_add_up_to_that_of_the_sum():
    problem = Problem(5)
    found = task_gradients(problem.torch_loss, problem.split, aggregator("sum", 0), alone)
    expected = [problem.gradient(task, problem.shared, problem.own[task])[0] for task in TASKS]
    assert found[problem.split.shared[0]].numpy() == pytest.approx(np.sum([e[0] for e in expected], axis=0))


def test_weights_come_back_even_if_the_loss_fails():
    weight = nn.Parameter(torch.tensor([0.1, 0.2]))
    before = weight.detach().clone()
    with pytest.raises(RuntimeError, match="failed"), moved([weight], [torch.tensor([1e-9, 3.0])]):
        raise RuntimeError("failed")
    assert torch.equal(weight, before)


def test_heads_routers_and_adapters_belong_to_their_task_and_frozen_weights_to_nobody():
    model = nn.ModuleDict(
        {
            "encoder": nn.Linear(2, 2),
            "heads": nn.ModuleDict({"depth": nn.Linear(2, 1), "edge": nn.Linear(2, 1)}),
            "routers": nn.ModuleDict({"depth": nn.Linear(2, 3)}),
        }
    )
    model["encoder"].bias.requires_grad_(False)
    split = split_weights(model, ("depth", "edge"))
    assert [len(split.shared), len(split.own["depth"]), len(split.own["edge"])] == [1, 4, 2]
    assert set(split.only({"edge"}).own) == {"edge"} and len(split.only({"edge"}).shared) == 1
