"""Gradient checkpointing: blocks run twice, keep less, and every gradient is the same to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from slimpath.models import MultiTaskModel
from slimpath.models.block import Block
from slimpath.models.recompute import recomputed_blocks
from slimpath.models.swin import SwinBlock
from slimpath.tests.training.conftest import TOY_CLASSES, ToyRooms, toy_config
from slimpath.training import step_loss
from slimpath.training.config import Stage, TrainConfig
from slimpath.training.data import Batch
from slimpath.training.methods.settings import MethodConfig
from slimpath.training.run_train import train
from slimpath.training.state import load_state
from slimpath.training.trainer import Trainer

ROOMS = ToyRooms(size_hw=(64, 64))
STAGES = (Stage((64, 64), 6, 1.0),)
NOISY = MethodConfig(router_noise=1.0)


def gradients(out: Path, **changes: Any) -> dict[str, Tensor]:
    """Of two steps of a fresh training, and torch's random state after them; the second step sees moved weights."""
    side = 64 if "swin" in changes["model"] or "mtlora" in changes["model"] else 32
    trainer = Trainer(
        toy_config(stages=(Stage((side, side), 6, 1.0),), random_widths=0, **changes), ROOMS, TOY_CLASSES, out
    )
    found: dict[str, Tensor] = {}
    for step in range(2):
        trainer.train_step(trainer.maker(step, 3 * step, 6, (side, side)))
        found |= {f"{step} {name}": w.grad for name, w in trainer.model.named_parameters() if w.grad is not None}
    return found | {"random state": torch.get_rng_state()}


@pytest.mark.parametrize(
    ("model", "precision", "methods"),
    [
        ("m3vit_micro", "fp32", NOISY),
        ("m3vit_micro", "bf16", MethodConfig(ci_kd=0.5, rep_tsr=1.0, rep_csa=1.0)),
        ("m3vit_micro", "fp32", MethodConfig(sharpness="samo", rho=0.05, weighting="uncertainty")),
        ("m3lora_micro", "fp32", MethodConfig(sharpness="flat", rho=0.05, aggregate="pcgrad")),
        ("taskexpert_m3vit_micro", "fp32", NOISY),
        ("vit_micro", "bf16", MethodConfig()),
        ("swin_micro", "fp32", MethodConfig()),
        ("mtlora_micro", "fp32", MethodConfig(ci_kd=0.5)),
    ],
)
def test_gradients_and_random_state_are_those_without(
    model: str, precision: str, methods: MethodConfig, tmp_path: Path
):
    settings: dict[str, Any] = {"model": model, "precision": precision, "methods": methods}
    plain, spared = gradients(tmp_path, **settings), gradients(tmp_path, **settings, checkpointing=True)
    assert plain.keys() == spared.keys() and len(plain) > 100
    assert [name for name in plain if not torch.equal(plain[name], spared[name])] == []


def kept_bytes(model: MultiTaskModel, batch: Batch) -> int:
    """Of all different tensors that autograd keeps of an encoder's forward pass, weights included."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        features = model.encode(
            batch.image_I3HW, batch.image_index_B, batch.task_of_row, torch.full((batch.rows,), model.config.top_k)
        )
    assert features.tokens_BND.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize(
    ("model", "kind", "part"), [("m3vit_micro", Block, "attend"), ("mtlora_micro", SwinBlock, "_mix")]
)
def test_blocks_run_twice_in_a_step_and_keep_less(
    model: str, kind: type[nn.Module], part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    runs = 0
    inner = getattr(kind, part)

    def counted(self: nn.Module, *inputs: Any) -> Any:
        nonlocal runs
        runs += 1
        return inner(self, *inputs)

    monkeypatch.setattr(kind, part, counted)
    counts = []
    for checkpointing in (False, True):
        trainer = Trainer(
            toy_config(model=model, stages=STAGES, random_widths=0, checkpointing=checkpointing),
            ROOMS,
            TOY_CLASSES,
            tmp_path,
        )
        batch = trainer.maker(0, 0, 6, (64, 64))
        before = runs
        trainer.train_step(batch)
        counts.append(runs - before)
        plain = kept_bytes(trainer.model, batch)  # after a step, all is as it was
        with recomputed_blocks(trainer.model.encoder):
            assert kept_bytes(trainer.model, batch) < 0.7 * plain
    assert counts[1] == 2 * counts[0] > 0


def test_training_may_go_on_with_it_and_ends_the_same(tmp_path: Path):
    """Memory that turns out too small is no reason to start anew."""

    def run(config: TrainConfig, out: Path) -> dict[str, Any]:
        train(config, out, progress=False, source=ROOMS, classes=TOY_CLASSES)
        return load_state(out / "state.pt")

    config = toy_config(stages=STAGES, steps=2, random_widths=0)
    whole = run(config, tmp_path / "whole")
    first = Trainer(config, ROOMS, TOY_CLASSES, tmp_path / "parts")
    first.train_step(first.maker(0, 0, 6, (64, 64)))
    first.out.mkdir()
    first.save()
    parts = run(toy_config(stages=STAGES, steps=2, random_widths=0, checkpointing=True), first.out)
    assert all(torch.equal(whole["model"][name], value) for name, value in parts["model"].items())


def test_setting_reaches_every_step_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from typer.testing import CliRunner

    from slimpath.cli.app import app

    asked: list[bool] = []
    inner = step_loss.recomputed_blocks

    def seen(*arguments: Any) -> Any:
        asked.append(True)
        return inner(*arguments)

    monkeypatch.setattr(step_loss, "recomputed_blocks", seen)
    settings = ["stages=32x32:4:1", "steps=1", "tasks=depth,edge", "data.scenes=2", "data.render_hw=32x32"]
    words = ["train", "smoke", *settings, "model=m3vit_micro", "random_widths=0", "sample_pictures=false", "--json"]
    for number, (setting, passes) in enumerate((("checkpointing=true", 2), ("checkpointing=false", 0))):
        asked.clear()
        done = CliRunner().invoke(app, [*words, setting, "--out", str(tmp_path / str(number))])
        assert done.exit_code == 0, done.output
        assert len(asked) == passes
