"""Distillation of outputs against its formulas in loops (in-place distillation, Yu and Huang 2019, section 3.3)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from slimpath.training.distill import distill_loss

RNG = np.random.default_rng(2)


def softmax(values: np.ndarray) -> np.ndarray:
    return np.exp(values) / np.exp(values).sum()


def divergence(teacher: np.ndarray, student: np.ndarray) -> float:
    return float((teacher * (np.log(teacher) - np.log(student))).sum())


def found(task: str, raw: np.ndarray, teacher: np.ndarray, target: np.ndarray) -> float:
    return float(distill_loss(task, *(torch.from_numpy(array) for array in (raw, teacher, target))))


def test_classes_are_taught_by_the_divergence_of_labelled_pixels():
    raw, teacher = RNG.normal(size=(2, 2, 3, 4, 5))
    target = RNG.integers(0, 3, (2, 4, 5))
    target[1, 2:] = 255
    terms = [
        divergence(softmax(teacher[r, :, y, x]), softmax(raw[r, :, y, x]))
        for r, y, x in np.ndindex(2, 4, 5)
        if target[r, y, x] != 255
    ]
    assert found("semseg", raw, teacher, target) == pytest.approx(np.mean(terms), rel=1e-5)


def test_image_classes_are_taught_by_the_mean_divergence():
    raw, teacher = RNG.normal(size=(2, 5, 4))
    terms = [divergence(softmax(teacher[r]), softmax(raw[r])) for r in range(5)]
    assert found("scene", raw, teacher, np.zeros(5, np.int64)) == pytest.approx(np.mean(terms), rel=1e-5)


def test_depth_is_taught_by_the_difference_of_its_logarithms():
    raw, teacher = RNG.normal(size=(2, 2, 1, 4, 5))
    target = np.ones((2, 1, 4, 5), np.float32)
    target[0, 0, :2] = 0
    assert found("depth", raw, teacher, target) == pytest.approx(np.abs(raw - teacher)[target > 0].mean(), rel=1e-5)


def test_normals_are_taught_by_one_minus_the_cosine():
    raw, teacher, target = RNG.normal(size=(3, 2, 3, 4, 5))
    target /= np.linalg.norm(target, axis=1, keepdims=True)
    target[0, :, 1] = 0
    terms = []
    for r, y, x in np.ndindex(2, 4, 5):
        if target[r, :, y, x].any():
            a, b = raw[r, :, y, x], teacher[r, :, y, x]
            terms.append(1 - a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
    assert found("normals", raw, teacher, target) == pytest.approx(np.mean(terms), rel=1e-5)


@pytest.mark.parametrize("task", ["edge", "saliency"])
def test_probabilities_are_taught_by_the_divergence_of_a_coin(task: str):
    raw, teacher = RNG.normal(size=(2, 2, 1, 4, 5))
    target = RNG.integers(0, 2, (2, 1, 4, 5)).astype(np.uint8)
    target[1, 0, 0] = 255
    terms = []
    for place in np.ndindex(raw.shape):
        if target[place] != 255:
            p, q = (1 / (1 + math.exp(-values[place])) for values in (teacher, raw))
            terms.append(p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)))
    assert found(task, raw, teacher, target) == pytest.approx(np.mean(terms), rel=1e-5)
