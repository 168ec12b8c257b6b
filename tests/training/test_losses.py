"""Every loss against its formula written out in plain numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from slimpath.training.distill import distill_loss
from slimpath.training.losses import class_weights, task_loss, thinned

RNG = np.random.default_rng(0)
CLOSE = 1e-5  # float32 sums against float64 ones


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def loss(task: str, raw: np.ndarray, target: np.ndarray, **weights: torch.Tensor) -> float:
    dtype = {"semseg": torch.int64, "scene": torch.int64}.get(task)
    tensor = torch.from_numpy(target)
    return float(task_loss(task, torch.from_numpy(raw).float(), tensor if dtype is None else tensor.to(dtype), weights))


def test_class_loss_is_weighted_cross_entropy_over_labelled_pixels():
    raw, target = RNG.normal(size=(2, 3, 4, 5)), RNG.integers(0, 3, (2, 4, 5))
    target[0, 1:3] = 255
    weight = [0.5, 2.0, 1.25]
    terms = []
    for r, y, x in np.ndindex(2, 4, 5):
        k = target[r, y, x]
        if k != 255:
            logits = raw[r, :, y, x]
            terms.append(weight[k] * (math.log(np.exp(logits).sum()) - logits[k]))
    assert loss("semseg", raw, target, semseg=torch.tensor(weight)) == pytest.approx(np.mean(terms), rel=CLOSE)


def test_class_weights_are_fourth_root_of_rarity_with_mean_one():
    weight = class_weights(np.array([0.81, 0.16, 0.03, 0.0])).numpy()
    assert weight[0] / weight[1] == pytest.approx((0.16 / 0.81) ** 0.25, rel=CLOSE)
    assert (weight[:3] * [0.81, 0.16, 0.03]).sum() == pytest.approx(1, rel=CLOSE)
    assert weight[3] == 1


def test_depth_loss_is_log_difference_squared_metres_and_gradients_on_four_scales():
    raw, target = RNG.normal(size=(2, 1, 16, 24)), np.exp(RNG.normal(size=(2, 1, 16, 24)))
    target[0, 0, :5] = 0
    target = target.astype(np.float32)
    valid = target > 0
    difference = raw - np.log(np.where(valid, target, 1))
    expected = np.abs(difference)[valid].mean()
    expected += ((np.exp(raw) - target)[valid] ** 2).mean() / (target[valid] ** 2).mean()
    for scale in (1, 2, 4, 8):
        part, there = difference[..., ::scale, ::scale], valid[..., ::scale, ::scale]
        for axis in (2, 3):
            first = np.take(there, range(there.shape[axis] - 1), axis)
            both = first & np.take(there, range(1, there.shape[axis]), axis)
            expected += 0.5 / 4 * np.abs(np.diff(part, axis=axis))[both].mean()
    assert loss("depth", raw, target) == pytest.approx(expected, rel=CLOSE)


def test_gradient_part_of_depth_loss_is_blind_to_a_common_scale():
    raw, target = 0.5 * RNG.normal(size=(1, 1, 16, 16)), np.ones((1, 1, 16, 16), np.float32)

    def rest(values: np.ndarray) -> float:
        return float(np.abs(values).mean() + ((np.exp(values) - 1) ** 2).mean())

    gain = loss("depth", raw + 1, target) - loss("depth", raw, target)
    assert gain == pytest.approx(rest(raw + 1) - rest(raw), rel=1e-4)


def test_depth_loss_of_an_untrained_network_is_finite():
    target = np.ones((1, 1, 8, 8), np.float32)
    assert np.isfinite(loss("depth", np.full((1, 1, 8, 8), 200.0), target))


def test_normals_loss_is_cosine_and_a_tenth_of_l1():
    raw, target = RNG.normal(size=(2, 3, 4, 5)), RNG.normal(size=(2, 3, 4, 5))
    target /= np.linalg.norm(target, axis=1, keepdims=True)
    target[1, :, 2] = 0
    terms = []
    for r, y, x in np.ndindex(2, 4, 5):
        true, unit = target[r, :, y, x], raw[r, :, y, x] / np.linalg.norm(raw[r, :, y, x])
        if true.any():
            terms.append(1 - unit @ true + 0.1 * np.abs(unit - true).sum())
    assert loss("normals", raw, target.astype(np.float32)) == pytest.approx(np.mean(terms), rel=CLOSE)


@pytest.mark.parametrize("share", [0.005, 0.15, 0.8])  # so rare that the weight is bounded, usual, and common
@pytest.mark.parametrize("task", ["edge", "saliency"])
def test_probability_loss_is_cross_entropy_and_dice_and_only_edges_are_balanced(task: str, share: float):
    raw, target = RNG.normal(size=(2, 1, 16, 17)), np.zeros(2 * 16 * 17, np.uint8)
    target[RNG.permutation(target.size)[: round(share * target.size)]] = 1
    target = target.reshape(raw.shape)
    target[0, 0, 0] = 255
    positive, valid = (target == 1).sum(), (target != 255).sum()
    weight = min(max(math.sqrt((valid - positive) / positive), 1), 8) if task == "edge" else 1.0
    entropy = [
        -weight * math.log(sigmoid(x)) if y == 1 else -math.log(1 - sigmoid(x))
        for x, y in zip(raw.flat, target.flat, strict=True)
        if y != 255
    ]
    dice = []
    for row in range(2):
        there = target[row] != 255
        probability, truth = 1 / (1 + np.exp(-raw[row][there])), (target[row][there] == 1).astype(float)
        dice.append(1 - (2 * (probability * truth).sum() + 1) / (probability.sum() + truth.sum() + 1))
    assert loss(task, raw, target) == pytest.approx(np.mean(entropy) + np.mean(dice), rel=CLOSE)


def test_room_loss_is_cross_entropy_with_smoothed_labels():
    raw, target = RNG.normal(size=(5, 6)), RNG.integers(0, 6, 5)
    log_share = raw - np.log(np.exp(raw).sum(1, keepdims=True))
    wanted = np.full((5, 6), 0.05 / 6)
    wanted[np.arange(5), target] += 0.95
    assert loss("scene", raw, target) == pytest.approx(-(wanted * log_share).sum(1).mean(), rel=CLOSE)


def test_pictures_that_show_no_room_do_not_count_in_the_room_loss():
    raw, target = torch.randn(4, 6), torch.tensor([2, 255, 5, 255])
    torch.testing.assert_close(task_loss("scene", raw, target, {}), task_loss("scene", raw[[0, 2]], target[[0, 2]], {}))
    raw.requires_grad_(True)
    task_loss("scene", raw, torch.full((4,), 255), {}).backward()
    assert raw.grad is not None and (raw.grad == 0).all()


@pytest.mark.parametrize(
    ("task", "channels", "empty"), [("semseg", 3, 255), ("depth", 1, 0), ("normals", 3, 0), ("edge", 1, 255)]
)
def test_rows_without_any_label_cost_nothing_and_have_a_finite_gradient(task: str, channels: int, empty: int):
    raw = torch.randn(2, channels, 16, 16, requires_grad=True)
    shape = (2, 16, 16) if task == "semseg" else (2, 3, 16, 16) if task == "normals" else (2, 1, 16, 16)
    dtype = {"semseg": torch.int64, "edge": torch.uint8}.get(task, torch.float32)
    value = task_loss(task, raw, torch.full(shape, empty, dtype=dtype), {})
    value.backward()
    assert float(value.detach()) == pytest.approx(0, abs=1e-6)
    assert raw.grad is not None and bool(torch.isfinite(raw.grad).all())


def test_thinning_keeps_every_second_pixel_from_the_place_given():
    raw, target = torch.arange(24.0).reshape(1, 1, 4, 6), torch.arange(24).reshape(1, 4, 6)
    thin_raw, thin_target = thinned("semseg", raw, target, 2, (1, 0))
    assert thin_raw.flatten().tolist() == [6, 8, 10, 18, 20, 22]
    assert thin_target.flatten().tolist() == [6, 8, 10, 18, 20, 22]
    label = torch.tensor([1])
    assert thinned("scene", raw, label, 2, (0, 0))[1] is label


SHAPES = {"semseg": (2, 3, 8, 8), "depth": (2, 1, 8, 8), "normals": (2, 3, 8, 8), "edge": (2, 1, 8, 8), "scene": (2, 4)}


def any_target(task: str) -> torch.Tensor:
    shape = SHAPES[task]
    if task == "scene":
        return torch.zeros(2, dtype=torch.int64)
    if task == "semseg":
        return torch.zeros((2, 8, 8), dtype=torch.int64)
    return torch.ones(shape, dtype=torch.uint8 if task == "edge" else torch.float32)


@pytest.mark.parametrize("task", SHAPES)
def test_student_equal_to_its_teacher_has_nothing_to_learn(task: str):
    teacher = torch.randn(SHAPES[task])
    student = teacher.clone().requires_grad_()
    value = distill_loss(task, student, teacher, any_target(task))
    value.backward()
    assert float(value.detach()) == pytest.approx(0, abs=1e-6)
    if task != "depth":  # |x| has no gradient at 0 to speak of
        assert student.grad is not None and float(student.grad.abs().max()) < 1e-6


@pytest.mark.parametrize("task", SHAPES)
def test_student_that_differs_from_its_teacher_is_drawn_towards_it(task: str):
    teacher = torch.randn(SHAPES[task])
    student = (teacher + 0.5 * torch.randn(SHAPES[task])).requires_grad_()
    value = distill_loss(task, student, teacher, any_target(task))
    value.backward()
    assert student.grad is not None
    closer = student.detach() - 0.1 * student.grad / student.grad.norm()
    assert float(value.detach()) > 1e-3
    assert float(distill_loss(task, closer, teacher, any_target(task))) < float(value.detach())


def test_distillation_leaves_out_pixels_without_a_label():
    teacher, student, target = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8)
    student[..., :4] = 7.0
    target[..., :4] = 0
    assert float(distill_loss("depth", student, teacher, target)) == 0
