"""The loop: resumes to the bit, refuses what is not finite, and learns."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from slimpath.models import load_checkpoint
from slimpath.tests.training.conftest import PLAIN_VIEWS, TOY_CLASSES, ToyRooms, toy_config
from slimpath.training import journal
from slimpath.training import trainer as trainer_module
from slimpath.training.config import Stage, TrainConfig
from slimpath.training.errors import ConfigError, DivergedError, ResumeError
from slimpath.training.run_train import saved_config, train
from slimpath.training.state import load_state
from slimpath.training.trainer import Trainer
from slimpath.training.weights import WeightAverage, build_optimizer, carry_over

ROOMS = ToyRooms(size_hw=(48, 48))


def run(config: TrainConfig, out: Path, minutes: float | None = None, **options: Any):
    return train(config, out, minutes, progress=False, source=ROOMS, classes=TOY_CLASSES, **options)


def log_of(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((out / "log.csv").read_text().splitlines()))


def one_minute_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock by which every step takes a minute, so that a slice of k minutes is k steps."""
    now_s = [0.0]

    class Clock:
        monotonic = staticmethod(lambda: now_s[0])

    step = Trainer.train_step

    def slow(self: Trainer, *arguments: Any, **options: Any) -> dict[str, Tensor]:
        result = step(self, *arguments, **options)
        now_s[0] += 60
        return result

    monkeypatch.setattr(trainer_module, "time", Clock)
    monkeypatch.setattr(Trainer, "train_step", slow)


def test_rate_counts_pictures_and_not_their_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    now_s, texts = [0.0], []
    step, update = Trainer.train_step, journal.Progress.update

    def one_second(self: Trainer, *arguments: Any, **options: Any) -> dict[str, Tensor]:
        now_s[0] += 1
        return step(self, *arguments, **options)

    def told(self: journal.Progress, step: int, text: str | None = None) -> None:
        texts.append(text)
        update(self, step, text)

    monkeypatch.setattr(journal, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    monkeypatch.setattr(Trainer, "train_step", one_second)
    monkeypatch.setattr(journal.Progress, "update", told)
    run(toy_config(steps=2, data=replace(toy_config().data, rows_per_image=3)), tmp_path)  # 12 rows: 4 pictures
    assert [float(row["images_per_s"]) for row in log_of(tmp_path)] == [4.0]
    assert [text for text in texts if text and " 4 images/s " in text]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    assert run(toy_config(), out).finished
    return out


def everything(out: Path) -> dict[str, Any]:
    state = load_state(out / "state.pt")
    moments = state["optimizer"]["state"]
    return {
        **{f"model.{name}": value for name, value in state["model"].items()},
        **{f"average.{name}": value for name, value in state["average"].items()},
        **{f"moment.{i}.{name}": value for i, part in moments.items() for name, value in part.items()},
        "rng": state["rng"],
        "step": torch.tensor([state["step"], state["seen"]]),
    }


# The second stage, with other resolution, begins at step 3: before, at and after it.
@pytest.mark.parametrize("first_slice", [2, 3, 5])
def test_resumed_training_equals_the_uninterrupted_one_to_the_bit(
    first_slice: int, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    one_minute_a_step(monkeypatch)
    part = run(toy_config(), tmp_path, minutes=first_slice)
    assert (part.step, part.finished) == (first_slice, False)
    torch.manual_seed(123)  # another process would have another state
    assert run(toy_config(), tmp_path).finished
    whole, resumed = everything(uninterrupted), everything(tmp_path)
    assert whole.keys() == resumed.keys()
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []
    logged = [[row["step"] for row in log_of(out)] for out in (uninterrupted, tmp_path)]
    assert logged[0] == logged[1]


def test_result_names_files_that_exist(uninterrupted: Path):
    model, metadata = load_checkpoint(uninterrupted / "model.safetensors")
    assert model.config.image_hw == (48, 48)
    assert metadata["provenance"]["step"] == 6
    assert [task["name"] for task in metadata["tasks"]] == list(toy_config().tasks)
    assert saved_config(uninterrupted) == toy_config()
    assert (uninterrupted / "loss.png").stat().st_size > 1000
    averaged = load_state(uninterrupted / "state.pt")["average"]
    assert all(torch.equal(value, averaged[name]) for name, value in model.named_parameters())


def test_other_settings_do_not_resume(uninterrupted: Path):
    with pytest.raises(ResumeError, match="weight_decay"):
        run(toy_config(weight_decay=0.5), uninterrupted)
    with pytest.raises(ResumeError, match="already holds a training"):
        run(toy_config(), uninterrupted, resume=False)


def test_damaged_state_is_refused(tmp_path: Path):
    (tmp_path / "state.pt").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(ResumeError, match="not a training state"):
        run(toy_config(), tmp_path)


def test_not_a_number_aborts_with_the_batch_saved_and_no_weight_changed(tmp_path: Path):
    trainer = Trainer(toy_config(), ROOMS, TOY_CLASSES, tmp_path)
    trainer.train_step(trainer.maker(0, 0, 12, (32, 32)))
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    average = {name: value.clone() for name, value in trainer.average.values.items()}
    batch = trainer.maker(1, 6, 12, (32, 32))
    batch.image_I3HW[0, 0, 3, 3] = float("nan")
    with pytest.raises(DivergedError, match=r"step 1: .*not finite.*lower lr") as caught:
        trainer.train_step(batch)
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())
    assert all(torch.equal(value, average[name]) for name, value in trainer.average.values.items())
    assert (caught.value.step, trainer.step) == (1, 1)
    saved = load_state(caught.value.batch_file)
    assert saved["tasks"] == batch.task_of_row and torch.isnan(saved["image"]).sum() == 1


def test_every_task_is_learnt_at_widest_and_narrowest(tmp_path: Path):
    config = toy_config(
        steps=90, stages=(Stage((32, 32), 12, 1.0),), lr=4e-3, warmup_steps=5, augment=PLAIN_VIEWS, log_every=5
    )
    train(config, tmp_path, progress=False, source=ToyRooms(), classes=TOY_CLASSES)
    rows = log_of(tmp_path)
    for task in config.tasks:
        for which in ("widest", "narrowest"):
            values = [float(row[f"{task}_{which}"]) for row in rows]
            # Smoothed room labels cannot cost less than 0.117.
            floor = 0.117 if task == "scene" else 0.0
            assert np.mean(values[-3:]) - floor < 0.75 * (values[0] - floor), (task, which, values)


def test_wider_image_keeps_moments_of_every_tensor_that_keeps_its_shape(tmp_path: Path):
    trainer = Trainer(toy_config(), ROOMS, TOY_CLASSES, tmp_path)
    trainer.train_step(trainer.maker(0, 0, 12, (32, 32)))
    model, average, optimizer = carry_over(trainer.model, trainer.average, trainer.optimizer, (48, 48))
    new = dict(model.named_parameters())
    for name, old in trainer.model.named_parameters():
        if name == "encoder.position":
            assert new[name] not in optimizer.state and new[name].shape != old.shape
            continue
        assert torch.equal(new[name], old)
        assert torch.equal(optimizer.state[new[name]]["exp_avg"], trainer.optimizer.state[old]["exp_avg"])
    assert average.values["encoder.position"].shape == new["encoder.position"].shape
    assert average.updates == trainer.average.updates


def test_vectors_and_embeddings_are_not_decayed(tmp_path: Path):
    model = Trainer(toy_config(), ROOMS, TOY_CLASSES, tmp_path).model
    decayed, plain = build_optimizer(model, 1e-3, 0.1, (0.9, 0.99)).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert all(parameter.ndim >= 2 for parameter in decayed["params"])
    assert {"encoder.position", "encoder.class_token"} <= {names[id(parameter)] for parameter in plain["params"]}
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)


def test_average_forgets_its_random_start_and_then_follows_slowly():
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(model.weight, 100.0)
    average = WeightAverage(model, decay=0.99)
    torch.nn.init.constant_(model.weight, 1.0)
    expected = 100.0
    for n in range(30):
        decay = min(0.99, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * 1.0
        average.update(model)
    assert float(average.values["weight"]) == pytest.approx(expected, rel=1e-5)
    assert expected < 1.01


def test_task_without_classes_is_refused_before_anything_is_built(tmp_path: Path):
    with pytest.raises(ConfigError, match="semseg"):
        Trainer(toy_config(), ROOMS, {"scene": 2}, tmp_path)
