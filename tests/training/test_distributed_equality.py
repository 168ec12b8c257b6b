"""Two gloo processes compute what one does: the same gradients to rounding, and weights that stay together.

Losses that are means over rows are compared; those with ratios inside (squared metres over mean squared depth, the
rarer side of edges, the balance of experts) are computed over each process's rows, as in any data-parallel training.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from slimpath.tests.training.conftest import PLAIN_VIEWS, TOY_CLASSES, ToyRooms, toy_config
from slimpath.training.config import Stage, TrainConfig
from slimpath.training.methods.settings import MethodConfig
from slimpath.training.run_train import train
from slimpath.training.trainer import Trainer

TASKS = ("semseg", "normals", "saliency", "scene")
ROWS = 16  # eight in each process: each task equally often there
GRADIENT_TOLERANCE = 1e-4  # of the largest gradient
UPDATE_TOLERANCE = 0.02  # of the length of the way that the weights went

METHODS = {
    "plain": MethodConfig(router_noise=0.0),
    "ci_kd": MethodConfig(router_noise=0.0, ci_kd=1.0),
    "flat": MethodConfig(router_noise=0.0, sharpness="flat", rho=0.1),
    "samo": MethodConfig(router_noise=0.0, sharpness="samo", rho=0.1, samo_beta=0.5),
    "uncertainty": MethodConfig(router_noise=0.0, weighting="uncertainty", aggregate="pcgrad"),
}


def config_of(method: str) -> TrainConfig:
    return toy_config(
        tasks=TASKS,
        stages=(Stage((32, 32), ROWS, 1.0),),
        steps=2,
        augment=PLAIN_VIEWS,
        balance_weight=0.0,
        random_widths=0,
        methods=METHODS[method],
    )


def first_gradients(method: str, out: Path, processes: int, rank: int) -> dict[str, Tensor]:
    trainer = Trainer(config_of(method), ToyRooms(8), TOY_CLASSES, out)
    images = ROWS // processes // 2
    trainer.train_step(trainer.maker(0, rank * images, ROWS // processes, (32, 32)))
    learnt = trainer.uncertainty.state_dict() if trainer.uncertainty else {}
    return {name: weight.grad for name, weight in trainer.model.named_parameters() if weight.grad is not None} | learnt


def _worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found = {method: first_gradients(method, Path(folder) / "none", 2, rank) for method in METHODS}
    torch.save(found, f"{folder}/{rank}.pt")
    train(config_of("plain"), Path(folder) / "run", progress=False, source=ToyRooms(8), classes=TOY_CLASSES)
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    spawn(_worker, args=(str(folder),), nprocs=2)
    return folder


@pytest.mark.parametrize("method", METHODS)
def test_gradients_of_two_processes_are_those_of_one(method: str, two: Path, tmp_path: Path):
    both: list[dict[str, Any]] = [torch.load(two / f"{rank}.pt")[method] for rank in range(2)]
    alone = first_gradients(method, tmp_path, 1, 0)
    assert both[0].keys() == both[1].keys() == alone.keys()
    largest = max(float(gradient.abs().max()) for gradient in alone.values())
    for name, expected in alone.items():
        assert torch.equal(both[0][name], both[1][name]), name
        assert float((both[0][name] - expected).abs().max()) <= GRADIENT_TOLERANCE * largest, name


def test_weights_of_two_processes_go_the_way_of_one(two: Path, tmp_path: Path):
    start = Trainer(config_of("plain"), ToyRooms(8), TOY_CLASSES, tmp_path).model.state_dict()
    train(config_of("plain"), tmp_path / "run", progress=False, source=ToyRooms(8), classes=TOY_CLASSES)
    shared, alone = (torch.load(folder / "run/state.pt")["model"] for folder in (two, tmp_path))
    way = torch.stack([(alone[name] - value).norm() for name, value in start.items()]).norm()
    apart = torch.stack([(alone[name] - shared[name]).norm() for name in start]).norm()
    assert float(way) > 0 and float(apart) <= UPDATE_TOLERANCE * float(way)
