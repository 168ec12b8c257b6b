"""Pictures of samples after every epoch: when they come, what they show, and that the training does not notice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slimpath.runtime.imaging.images import load_image
from slimpath.tests.training.conftest import TOY_CLASSES, ToyRooms, toy_config
from slimpath.training import epoch_pictures
from slimpath.training.config import Stage, TrainConfig
from slimpath.training.epoch_pictures import EpochPictures
from slimpath.training.methods.settings import MethodConfig
from slimpath.training.network_answers import network_answers
from slimpath.training.run_train import train
from slimpath.training.state import load_state
from slimpath.training.trainer import Trainer

ROOMS = ToyRooms(count=9, size_hw=(32, 40))


def config(**changes: Any) -> TrainConfig:
    """Four steps of six pictures: epochs of nine end within the second and the third; the last has another size."""
    stages = (Stage((32, 32), 12, 0.75), Stage((48, 48), 12, 0.25))
    noisy = MethodConfig(router_noise=1.0)
    return toy_config(
        **{"stages": stages, "steps": 4, "random_widths": 0, "sample_pictures": True, "methods": noisy} | changes
    )


def run(settings: TrainConfig, out: Path, source: ToyRooms = ROOMS) -> dict[str, Any]:
    train(settings, out, progress=False, source=source, classes=TOY_CLASSES)
    return load_state(out / "state.pt")


def names_in(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir() if "samples" in path.name)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("drawn")
    run(config(), out)
    return out


def test_picture_appears_beside_the_checkpoint_for_every_epoch_that_ended(drawn: Path):
    # 24 pictures were seen: two epochs of 9, and 6 of the third. No temporary name is left over.
    assert names_in(drawn) == ["samples-epoch1.jpg", "samples-epoch2.jpg"]
    sheets = [load_image(drawn / name).rgb for name in names_in(drawn)]
    assert all(sheet.shape[0] > 4 * 100 and sheet.shape[1] > 11 * 100 for sheet in sheets)
    assert (sheets[0] != sheets[1]).any()  # other weights


def test_training_is_the_same_to_the_bit_with_pictures_without_and_resumed_at_an_epoch(drawn: Path, tmp_path: Path):
    whole, without = load_state(drawn / "state.pt"), run(config(sample_pictures=False), tmp_path / "without")
    assert not names_in(tmp_path / "without")
    first = Trainer(config(), ROOMS, TOY_CLASSES, tmp_path / "parts")
    for step in range(2):
        first.train_step(first.maker(step, 6 * step, 12, (32, 32)))
    first.out.mkdir()
    first.save()
    torch.manual_seed(99)  # another process would have another state
    parts = run(config(), first.out)
    assert names_in(first.out) == ["samples-epoch2.jpg"]  # the first had ended in the other slice
    for other in (without, parts):
        assert all(torch.equal(whole["model"][name], value) for name, value in other["model"].items())
        assert all(torch.equal(whole["average"][name], value) for name, value in other["average"].items())
        assert torch.equal(whole["rng"], other["rng"])


def test_drawing_leaves_the_random_state_and_the_training_mode_alone(tmp_path: Path):
    trainer = Trainer(config(), ROOMS, TOY_CLASSES, tmp_path)
    pictures = EpochPictures(trainer.config, ROOMS, trainer.tasks, tmp_path, seen=0)
    before = torch.get_rng_state()
    assert pictures.after_step(8, 1, trainer.model, trainer.average) is None
    assert pictures.after_step(9, 2, trainer.model, trainer.average) == tmp_path / "samples-epoch1.jpg"
    assert pictures.after_step(17, 3, trainer.model, trainer.average) is None
    assert pictures.after_step(40, 4, trainer.model, trainer.average) == tmp_path / "samples-epoch4.jpg"
    assert torch.equal(torch.get_rng_state(), before) and trainer.model.training


def test_samples_are_fixed_and_the_averaged_weights_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    trainer = Trainer(config(), ROOMS, TOY_CLASSES, tmp_path)
    pictures = EpochPictures(trainer.config, ROOMS, trainer.tasks, tmp_path, seen=0)
    assert pictures.numbers == [0, 2, 4, 6]
    asked: list[dict[str, torch.Tensor]] = []

    def seen(network: Any, image_I3HW: torch.Tensor, *more: Any) -> Any:
        asked.append({name: value.clone() for name, value in network.state_dict().items()})
        assert tuple(image_I3HW.shape) == (4, 3, 32, 32) and not network.training
        return network_answers(network, image_I3HW, *more)

    monkeypatch.setattr(epoch_pictures, "network_answers", seen)
    with torch.no_grad():
        for value in trainer.average.values.values():
            value.mul_(0.5)
    pictures.after_step(9, 1, trainer.model, trainer.average)
    assert all(torch.equal(asked[0][name], value) for name, value in trainer.average.values.items())


def test_other_processes_than_the_first_draw_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("slimpath.training.distributed.rank", lambda: 1)
    trainer = Trainer(config(steps=2), ROOMS, TOY_CLASSES, tmp_path)
    trainer.run(progress=False)
    assert not names_in(tmp_path)


def test_source_of_one_picture_without_any_label_is_drawn(tmp_path: Path):
    """Labels of published data sets may have no value anywhere."""

    class Unlabelled(ToyRooms):
        def __getitem__(self, index: int, /) -> dict[str, Any]:
            sample = super().__getitem__(index)
            nothing = {"semseg": 255, "edge": 255, "saliency": 255, "depth": 0, "normals": 0}
            return sample | {name: np.full_like(sample[name], value) for name, value in nothing.items()}

    trainer = Trainer(config(), ROOMS, TOY_CLASSES, tmp_path)
    pictures = EpochPictures(trainer.config, Unlabelled(count=1), trainer.tasks, tmp_path, seen=5)
    assert pictures.after_step(6, 1, trainer.model, trainer.average) == tmp_path / "samples-epoch6.jpg"
