"""Two processes train one model: the same weights in both, and those of one process that saw all rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import spawn

from slimpath.tests.training.conftest import TOY_CLASSES, ToyRooms, toy_config
from slimpath.training import distributed
from slimpath.training.data import Batch
from slimpath.training.divergence import diverged
from slimpath.training.errors import ConfigError
from slimpath.training.run_train import train
from slimpath.training.state import load_state


def _meet(rank: int, folder: str) -> None:
    """Two processes of one group: they average, and both meet a gradient that is not finite."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    weight, unused = nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(4))
    weight.grad = torch.full((2, 3), float(rank + 1))
    late, total = distributed.average_gradients([weight, unused], torch.tensor(float(rank)), torch.tensor(10.0))
    error = diverged(Path(folder), 7, batch_of(rank), [], {}, torch.tensor(float("nan")))
    found = {"grad": weight.grad, "late": late, "total": total, "unused": unused.grad, "kept": str(error.batch_file)}
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def batch_of(sample: int) -> Batch:
    return Batch(torch.zeros(1, 3, 2, 2), torch.zeros(1, dtype=torch.int64), ["depth"], {}, [sample])


@pytest.fixture(scope="module")
def met(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes found."""
    folder = tmp_path_factory.mktemp("met")
    spawn(_meet, args=(str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def test_gradients_and_numbers_are_averaged_over_processes(met: list[dict[str, Any]]) -> None:
    for found in met:
        assert torch.equal(found["grad"], torch.full((2, 3), 1.5)) and found["unused"] is None
        assert found["late"] == 0.5 and found["total"] == 10.0


def test_every_process_keeps_its_own_share_of_a_batch_that_diverged(met: list[dict[str, Any]], tmp_path: Path) -> None:
    files = [Path(found["kept"]) for found in met]
    assert [file.name for file in files] == ["diverged-step7-rank0.pt", "diverged-step7-rank1.pt"]
    assert [load_state(file)["samples"] for file in files] == [[0], [1]]
    alone = diverged(tmp_path, 7, batch_of(5), [], {}, torch.tensor(float("nan")))
    assert alone.batch_file == tmp_path / "diverged-step7.pt"


def test_one_process_changes_nothing() -> None:
    weight = nn.Parameter(torch.zeros(2))
    weight.grad = torch.ones(2)
    assert distributed.average_gradients([weight], torch.tensor(3.0)) == [torch.tensor(3.0)]
    assert torch.equal(weight.grad, torch.ones(2)) and (distributed.rank(), distributed.world_size()) == (0, 1)


def _train(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    config = toy_config(steps=2)
    result = train(config, Path(folder) / "run", progress=False, source=ToyRooms(size_hw=(48, 48)), classes=TOY_CLASSES)
    assert result.finished
    dist.destroy_process_group()


def test_two_processes_share_a_training_and_the_first_writes_it(tmp_path: Path) -> None:
    spawn(_train, args=(str(tmp_path),), nprocs=2)
    files = {file.name for file in (tmp_path / "run").iterdir()}
    assert {"model.safetensors", "state.pt", "log.csv", "loss.png", "config.json"} <= files
    first, second = ((tmp_path / "run" / name).read_text() for name in ("log.csv", "log-rank1.csv"))
    norms = [[line.split(",")[4] for line in text.splitlines()[1:]] for text in (first, second)]
    # The norm is that of the averaged gradient: equal in both if, and only if, both step alike.
    assert norms[0] and norms[0] == norms[1]


def test_batches_that_cannot_be_shared_out_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    distributed.check_batches([12, 24], 3)
    with pytest.raises(ConfigError, match=r"multiples of 6 \(processes x rows_per_image\), got \[9, 20\]"):
        distributed.check_batches([12, 9, 20], 3)
