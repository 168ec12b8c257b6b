from __future__ import annotations

import numpy as np
import pytest

from slimpath.runtime.imaging.postprocess import argmax_classes, finish, softmax_classes, to_image
from slimpath.runtime.imaging.preprocess import place


@pytest.mark.parametrize("classes", [1, 2, 21, 256])
def test_argmax_is_that_of_numpy_also_among_equals(classes):
    logits = np.random.default_rng(0).integers(-3, 3, (classes, 17, 23)).astype(np.float32)  # full of ties
    before = logits.copy()
    ids = argmax_classes(logits)
    assert ids.dtype == np.uint8
    np.testing.assert_array_equal(ids, logits.argmax(axis=0))
    np.testing.assert_array_equal(logits, before)


def test_softmax_sums_to_one_and_survives_large_logits():
    logits = np.random.default_rng(0).normal(0, 300, (5, 8, 9)).astype(np.float32)
    probabilities = softmax_classes(logits)
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, rtol=1e-6)  # float32 rounding over 5 terms
    np.testing.assert_array_equal(probabilities.argmax(axis=0), logits.argmax(axis=0))


def test_each_kind_gets_its_documented_shape_and_type():
    plane = np.random.default_rng(0).random((3, 6, 8), np.float32)
    assert finish("classes", plane).shape == (6, 8)
    assert finish("depth", plane[:1]).shape == (6, 8)
    assert finish("probability", plane[:1]).dtype == np.float32
    normals = finish("normals", plane)
    assert normals.shape == (6, 8, 3) and normals.flags.c_contiguous
    np.testing.assert_array_equal(normals[2, 3], plane[:, 2, 3])
    assert finish("image_classes", plane[:, 0, 0]).shape == (3,)


def test_classes_are_never_mixed_when_resized():
    ids = np.random.default_rng(0).choice([0, 7, 200], (32, 48)).astype(np.uint8)
    resized = to_image("classes", ids, place((97, 301), (32, 48), "letterbox"))
    assert resized.shape == (97, 301) and resized.dtype == np.uint8
    assert set(np.unique(resized)) == {0, 7, 200}


def test_padding_is_not_part_of_the_picture():
    depth = np.full((32, 48), 99, np.float32)
    placement = place((20, 80), (32, 48), "letterbox")
    placement.crop(depth)[:] = 2.5
    np.testing.assert_array_equal(to_image("depth", depth, placement), np.full((20, 80), 2.5))


def test_resized_normals_are_unit_vectors():
    normals = np.random.default_rng(0).normal(size=(32, 48, 3)).astype(np.float32)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    resized = to_image("normals", normals, place((64, 200), (32, 48), "letterbox"))
    assert resized.shape == (64, 200, 3)
    np.testing.assert_allclose(np.linalg.norm(resized, axis=-1), 1, atol=1e-5)


def test_normals_that_cancel_out_stay_finite():
    normals = np.zeros((32, 48, 3), np.float32)
    assert np.isfinite(to_image("normals", normals, place((64, 64), (32, 48), "stretch"))).all()


def test_label_probabilities_are_not_resized():
    value = np.array([0.2, 0.8], np.float32)
    assert to_image("image_classes", value, place((64, 64), (32, 48), "stretch")) is value
