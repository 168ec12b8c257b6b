"""A step's gradients against the same sums written out: the sandwich rule, its teachers, and tasks taken apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from slimpath.tests.training.conftest import TOY_CLASSES, ToyRooms, toy_config
from slimpath.training.descent import per_task_descent, plain_descent
from slimpath.training.distill import distill_loss
from slimpath.training.losses import task_loss, thinned
from slimpath.training.methods.ci_kd import invariance_loss, representation
from slimpath.training.methods.settings import MethodConfig
from slimpath.training.sandwich import Pass
from slimpath.training.step_loss import StepLoss, rows_of
from slimpath.training.tasks import TASK_KINDS
from slimpath.training.trainer import Trainer

PASSES = [Pass(1.0, None, 1.0), Pass(0.25, 1, 0.25), Pass(0.5, None, 0.75)]
PLACE = (1, 0)


def step_of(tmp_path: Path, methods: MethodConfig | None = None, **settings: Any) -> tuple[Trainer, StepLoss]:
    """The first step of a toy training, whose routers draw no noise; weights moved off their start."""
    methods = methods or MethodConfig(router_noise=0.0)
    trainer = Trainer(toy_config(methods=methods, **settings), ToyRooms(), TOY_CLASSES, tmp_path)
    torch.manual_seed(5)
    with torch.no_grad():
        for weight in trainer.model.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    batch = trainer.maker(0, 0, 12, (32, 32))
    loss = StepLoss(trainer.model, trainer.config, batch, PASSES, PLACE, trainer.class_weights, trainer.uncertainty)
    return trainer, loss


def number(value: Tensor) -> float:
    return float(value.detach())


def gradients_of(trainer: Trainer) -> dict[str, Tensor]:
    found = {name: weight.grad.clone() for name, weight in trainer.model.named_parameters() if weight.grad is not None}
    trainer.model.zero_grad(set_to_none=True)
    return found


def check_alike(first: dict[str, Tensor], second: dict[str, Tensor], tolerance: float) -> None:
    largest = max(float(gradient.abs().max()) for gradient in first.values())
    for name in first.keys() | second.keys():
        zero = torch.zeros(())
        difference = (first.get(name, zero) - second.get(name, zero)).abs().max()
        assert float(difference) <= tolerance * largest, name


def test_step_is_the_sandwich_rule_with_in_place_distillation(tmp_path: Path):
    """Yu and Huang 2019 (US-Nets), algorithm 1: the widest learns from labels, its detached outputs teach the others,
    gradients of all passes are added before the one update. slimpath mixes labels and teacher for the narrow passes."""
    trainer, step = step_of(tmp_path)
    config, model, batch = trainer.config, trainer.model, step.batch
    plain_descent(step)
    found = gradients_of(trainer)
    teacher: dict[str, Tensor] = {}
    for number, chosen in enumerate(PASSES):
        out = model(
            batch.image_I3HW,
            batch.task_of_row,
            width=chosen.width,
            top_k=chosen.top_k,
            decoder_width=chosen.decoder_width,
            image_index_B=batch.image_index_B,
        )
        loss = 0.01 * out.balance_loss
        for task in config.tasks:
            if task == "scene":
                raw = model.heads["scene"](out.tokens_BND, None, chosen.decoder_width)
                target = batch.image_labels["scene"][batch.image_index_B]
            else:
                raw, target = out.raw[task], batch.targets[task]
            thin_raw, thin_target = thinned(task, raw, target, 2, PLACE)
            if TASK_KINDS[task] == "classes":
                raw, target = thin_raw, thin_target
            own = task_loss(task, raw, target, trainer.class_weights)
            if number == 0:
                teacher[task] = thin_raw.detach()
                loss = loss + config.loss_weights[task] * own
            else:
                taught = distill_loss(task, thin_raw, teacher[task], thin_target)
                loss = loss + config.loss_weights[task] * (0.5 * own + 0.5 * taught)
        (loss / 3).backward()
    check_alike(found, gradients_of(trainer), 1e-4)


def test_narrow_passes_taught_by_the_widest_alone_ignore_the_labels(tmp_path: Path):
    _, step = step_of(tmp_path, distill_weight=1.0)
    widest = step.of_pass(PASSES[0], None)
    before = step.of_pass(PASSES[1], widest.teacher)
    labels = step.batch.targets["semseg"]
    step.batch.targets["semseg"] = torch.where(labels == 255, labels, (labels + 1) % 3)
    after = step.of_pass(PASSES[1], widest.teacher)
    assert torch.equal(before.terms["semseg"], after.terms["semseg"])
    assert not torch.equal(before.truth["semseg"], after.truth["semseg"])


def test_features_of_narrow_passes_are_held_to_the_widest(tmp_path: Path):
    trainer, step = step_of(tmp_path, MethodConfig(router_noise=0.0, ci_kd=3.0))
    batch, parts = step.batch, {}
    for chosen in PASSES[:2]:
        features = trainer.model(
            batch.image_I3HW,
            batch.task_of_row,
            width=chosen.width,
            top_k=chosen.top_k,
            image_index_B=batch.image_index_B,
        )
        parts[chosen.width] = features
    widest = step.of_pass(PASSES[0], None)
    narrow = step.of_pass(PASSES[1], widest.teacher)
    distance = invariance_loss(*(representation(parts[width].features) for width in (0.25, 1.0)))
    expected = 0.01 * number(parts[0.25].balance_loss) + 3.0 * number(distance)
    assert number(distance) > 0.01 and number(narrow.extra) == pytest.approx(expected, rel=1e-4)
    assert number(widest.extra) == pytest.approx(0.01 * number(parts[1.0].balance_loss), rel=1e-5)


def test_saliencies_reach_encoder_and_heads(tmp_path: Path):
    """Rep-MTL's losses alone, with every other loss at weight 0: what moves, they move."""
    nothing = dict.fromkeys(toy_config().tasks, 0.0)
    methods = MethodConfig(router_noise=0.0, rep_tsr=1.0, rep_csa=1.0)
    trainer, step = step_of(tmp_path, methods, loss_weights=nothing, balance_weight=0.0)
    plain_descent(step)
    found = gradients_of(trainer)
    for name in ("encoder.patch_embed.weight", "encoder.blocks.1.experts.up.0"):
        assert torch.isfinite(found[name]).all() and found[name].abs().max() > 0, name
    assert any(found[name].abs().max() > 0 for name in found if name.startswith("heads.depth"))
    assert all(torch.isfinite(gradient).all() for gradient in found.values())


def of_routers(gradients: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: gradient for name, gradient in gradients.items() if name.startswith("routers.")}


def test_tasks_taken_apart_add_up_to_the_whole(tmp_path: Path):
    maps = tuple(task for task in toy_config().tasks if task != "scene")
    trainer, step = step_of(tmp_path, tasks=maps)
    total, shown = plain_descent(step)
    whole = gradients_of(trainer)
    apart_total, apart_shown = per_task_descent(step, 0)
    apart = gradients_of(trainer)
    check_alike(whole, apart, 1e-3)  # other batches: other rounding
    check_alike(of_routers(whole), of_routers(apart), 1e-3)  # by their own, smaller measure
    assert float(total) == pytest.approx(float(apart_total), rel=1e-5)
    assert {name: float(v) for name, v in shown.items()} == pytest.approx(
        {name: float(v) for name, v in apart_shown.items()}, rel=1e-4
    )


def test_only_other_tasks_routers_miss_labels_of_images_when_tasks_are_taken_apart(tmp_path: Path):
    """The head of an image's label reads the rows of all tasks; apart, a task moves its own routers alone."""
    trainer, step = step_of(tmp_path)
    plain_descent(step)
    whole = gradients_of(trainer)
    per_task_descent(step, 0)
    apart = gradients_of(trainer)
    others = {name for name in of_routers(whole) if not name.startswith("routers.scene.")}
    same = whole.keys() - others
    check_alike({name: whole[name] for name in same}, {name: apart[name] for name in same}, 1e-3)
    largest = max(float(whole[name].abs().max()) for name in others)
    assert max(float((whole[name] - apart[name]).abs().max()) for name in others) > 0.01 * largest


@pytest.mark.parametrize("sharpness", ["flat", "samo"])
def test_short_moves_change_little_and_long_ones_much(sharpness: str, tmp_path: Path):
    trainer, step = step_of(tmp_path, MethodConfig(router_noise=0.0, sharpness=sharpness, rho=1e-6, ci_kd=0.5))
    plain_descent(step)
    plain = gradients_of(trainer)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    per_task_descent(step, 0)
    check_alike(plain, gradients_of(trainer), 5e-3)
    far = MethodConfig(router_noise=0.0, sharpness=sharpness, rho=0.5, ci_kd=0.5)
    step.config = toy_config(methods=far)
    per_task_descent(step, 0)
    moved = gradients_of(trainer)
    assert any(float((moved[name] - plain[name]).abs().max()) > 0.05 * float(plain[name].abs().max()) for name in plain)
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())


def test_loss_of_a_task_is_the_same_for_the_same_noise_only(tmp_path: Path):
    _, step = step_of(tmp_path, MethodConfig(router_noise=4.0))
    state = torch.get_rng_state()
    first, again, other = (number(step.of_task("depth", seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert torch.equal(state, torch.get_rng_state())


def test_rows_of_a_task_keep_their_pictures_and_targets(tmp_path: Path):
    batch = step_of(tmp_path)[1].batch
    part = rows_of(batch, "normals")
    rows = [row for row, task in enumerate(batch.task_of_row) if task == "normals"]
    assert part.rows == len(rows) == 2 and set(part.targets) == {"normals"} and not part.image_labels
    for place, row in enumerate(rows):
        image = batch.image_I3HW[batch.image_index_B[row]]
        assert torch.equal(part.image_I3HW[part.image_index_B[place]], image)
        assert part.samples[int(part.image_index_B[place])] == batch.samples[int(batch.image_index_B[row])]
    scene = rows_of(batch, "scene")
    assert scene.rows == batch.rows and set(scene.image_labels) == {"scene"} and not scene.targets
