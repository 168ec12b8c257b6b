"""Fine-tuning: what a training takes from the checkpoint that it starts from, and what it refuses."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch

from slimpath.models import MultiTaskModel, build_preset, load_checkpoint, save_checkpoint
from slimpath.models.config import HeadConfig
from slimpath.training.config import Stage
from slimpath.training.errors import ConfigError
from slimpath.training.presets import preset, with_overrides
from slimpath.training.run_train import train
from slimpath.training.trainer import Trainer

from .conftest import PLAIN_VIEWS, TOY_CLASSES, ToyRooms, toy_config

TASKS = (HeadConfig("semseg", "classes", 3), HeadConfig("edge", "probability", 1))


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(7)
    return save_checkpoint(tmp_path_factory.mktemp("start") / "base.safetensors", build_preset("m3vit_micro", TASKS))


def settings(path: Path, **changes):
    values = {"tasks": ("semseg", "depth"), "start": str(path), "augment": PLAIN_VIEWS, **changes}
    return toy_config(stages=(Stage((32, 32), 8, 1.0),), **values)


def fresh(path: Path, **changes) -> MultiTaskModel:
    return Trainer(settings(path, **changes), ToyRooms(), TOY_CLASSES, path.parent / "run").model


def test_encoder_and_shared_tasks_are_taken_and_the_rest_is_fresh(start: Path):
    model, base = fresh(start), load_checkpoint(start)[0].state_dict()
    state = model.state_dict()
    taken = [name for name in state if name.startswith(("encoder.", "heads.semseg.", "routers.semseg."))]
    assert len(taken) > 50 and all(torch.equal(state[name], base[name]) for name in taken)
    assert any(name.startswith("heads.depth.") for name in state)


def test_fine_tune_says_which_file_it_started_from_but_not_where_that_lies(start: Path, tmp_path: Path):
    config = settings(start, steps=1, warmup_steps=1)
    result = train(config, tmp_path, progress=False, source=ToyRooms(), classes=TOY_CLASSES)
    _, metadata = load_checkpoint(result.checkpoint)
    assert metadata["provenance"]["training"]["start"] == hashlib.sha256(start.read_bytes()).hexdigest()
    assert str(start.parent) not in json.dumps(metadata)


def test_resuming_needs_the_start_no_more_and_keeps_its_first_hash(start: Path, tmp_path: Path):
    base = Path(shutil.copy(start, tmp_path / "base.safetensors"))
    config, out = settings(base, steps=2, warmup_steps=1), tmp_path / "run"
    first = Trainer(config, ToyRooms(), TOY_CLASSES, out)
    first.train_step(first.maker(0, 0, 8, (32, 32)))
    out.mkdir()
    first.save()
    base.unlink()
    result = train(config, out, progress=False, source=ToyRooms(), classes=TOY_CLASSES)
    _, metadata = load_checkpoint(result.checkpoint)
    assert metadata["provenance"]["training"]["start"] == hashlib.sha256(start.read_bytes()).hexdigest()


def test_positions_are_resampled_to_the_first_stage(start: Path):
    larger = Trainer(
        dataclasses.replace(settings(start), stages=(Stage((48, 48), 8, 1.0),)), ToyRooms(), TOY_CLASSES, start.parent
    ).model
    expected = load_checkpoint(start)[0].resized((48, 48)).state_dict()["encoder.position"]
    assert torch.equal(larger.state_dict()["encoder.position"], expected)


def test_network_with_adapters_starts_from_one_without_and_answers_as_it(start: Path):
    model, base = fresh(start, model="m3lora_micro").eval(), load_checkpoint(start)[0].eval()
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(image, ["semseg"]).raw["semseg"], base(image, ["semseg"]).raw["semseg"])
    adapted = save_checkpoint(start.with_name("adapted.safetensors"), build_preset("m3lora_micro", TASKS))
    with pytest.raises(ConfigError, match=r"another network .*shared_rank: expected 0, got 16"):
        fresh(adapted)  # what the adapters learnt would be lost


def test_adapters_alone_learn_and_go_on_to_after_an_interruption(start: Path, tmp_path: Path):
    config = settings(start, model="m3lora_micro", adapters_only=True, steps=4, warmup_steps=1)
    trainer = Trainer(config, ToyRooms(), TOY_CLASSES, tmp_path / "run")
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.out.mkdir()
    for step in range(2):
        trainer.train_step(trainer.maker(step, 8 * step, 8, (32, 32)))
    trainer.save()
    trainer.train_step(trainer.maker(2, 16, 8, (32, 32)))
    again = Trainer(config, ToyRooms(), TOY_CLASSES, tmp_path / "run")
    again.resume()  # the state of random numbers, too
    again.train_step(again.maker(2, 16, 8, (32, 32)))
    after = trainer.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in again.model.state_dict().items())
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    for kind in ("attn.qkv_shared.up", "mlp.down_shared.up", "experts.up_shared.up", "norm1.weight"):
        assert any(name.endswith(kind) for name in moved), kind
    assert {"adapters", "routers", "heads"} <= {name.split(".")[0] for name in moved}
    frozen = ("attn.qkv", "attn.proj", "mlp.up", "mlp.down")
    assert not [name for name in moved if name.endswith(frozen) or ".experts.up." in name or ".experts.down." in name]


def test_adapters_alone_are_refused_without_a_start_or_without_adapters(start: Path):
    """What is frozen would be random, or nothing would be left that adapts."""
    with pytest.raises(ConfigError, match=r"adapters_only=true leaves the big products .* start="):
        with_overrides(preset("smoke"), ["model=m3lora_micro", "adapters_only=true"])
    with pytest.raises(ConfigError, match="needs a network with adapters, and m3vit_micro has none"):
        fresh(start, adapters_only=True)


def test_another_network_is_refused_by_what_differs(start: Path):
    with pytest.raises(ConfigError, match=r"another network \(moe_blocks: expected \(\), got \(1, 3\).*set `model`"):
        fresh(start, model="vit_micro")


def test_other_classes_of_a_shared_task_are_refused(tmp_path: Path):
    path = save_checkpoint(
        tmp_path / "base.safetensors", build_preset("m3vit_micro", (HeadConfig("semseg", "classes", 9),))
    )
    with pytest.raises(ConfigError, match="answers 'semseg' with 9 channels, this training with 3"):
        fresh(path)


def test_missing_start_is_refused(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        fresh(tmp_path / "nowhere.safetensors")
