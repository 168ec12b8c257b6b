"""Devices: what torch finds here is known before anything is built, and autocast is told the kind alone."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from slimpath.tests.training.conftest import TOY_CLASSES, ToyRooms, toy_config
from slimpath.training import devices, distributed, step_loss
from slimpath.training.errors import ConfigError
from slimpath.training.sandwich import Pass
from slimpath.training.trainer import Trainer


def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)


def test_gpus_are_known_by_torch_s_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    two_gpus(monkeypatch)
    present = {name: devices.is_present(name) for name in ("cpu", "cuda", "cuda:1", "cuda:2", "cuda:", "gpu", "cpu:0")}
    assert [name for name, found in present.items() if found] == ["cpu", "cuda", "cuda:1"]
    assert [devices.gpu_numbers(name) for name in ("cpu", "cuda", "cuda:0")] == [[], [1], [0]]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert not devices.is_present("cuda") and not devices.is_present("cuda:0") and devices.is_present("cpu")


def test_gpu_that_is_not_there_is_refused_before_anything_is_built(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class NoRooms(ToyRooms):
        def __getitem__(self, index: int, /) -> dict[str, Any]:
            raise AssertionError("a sample was made")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="got 'cuda:0'; device=cpu works everywhere"):
        Trainer(toy_config(device="cuda:0"), NoRooms(), TOY_CLASSES, tmp_path)


def test_autocast_is_told_the_kind_of_device_not_its_number(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trainer = Trainer(toy_config(), ToyRooms(), TOY_CLASSES, tmp_path)
    batch = trainer.maker(0, 0, 12, (32, 32))
    told: list[str] = []

    def recorded(kind: str, *arguments: Any, **options: Any) -> Any:
        told.append(kind)
        return nullcontext()

    loss = step_loss.StepLoss(trainer.model, toy_config(device="cuda:1"), batch, [], (0, 0), trainer.class_weights)
    monkeypatch.setattr(step_loss.torch, "autocast", recorded)
    loss._answers(trainer.model, batch, Pass(1.0, None, 1.0))
    assert told[0] == "cuda"  # the model's own follow, of the CPU it runs on here
    assert "cuda:1" not in told


def test_several_processes_take_a_gpu_each(monkeypatch: pytest.MonkeyPatch) -> None:
    two_gpus(monkeypatch)
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ConfigError, match=r"a GPU of its own, got device=cuda:0; device=cuda"):
        distributed.join("cuda:0")
    with pytest.raises(ConfigError, match="where torch finds one, got 'cuda:2'"):
        distributed.join("cuda")
