"""Geometry of training views: what holds between a picture and its labels must still hold afterwards."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpath.runtime.bundles.preprocessing import Preprocessing
from slimpath.runtime.imaging.preprocess import place, preprocess
from slimpath.tests.training.conftest import ToyRooms
from slimpath.training.augment import (
    IMAGE_MEAN,
    IMAGE_STD,
    PAD_RGB,
    AugmentConfig,
    augment,
    draw_view,
    photometric,
    view_of_crop,
)
from slimpath.training.data import normalise

TASKS = ("semseg", "depth", "normals", "edge", "saliency", "scene")
WHOLE = view_of_crop((0, 0, 32, 32), (32, 32), (32, 32))
SIDES = st.integers(1, 40)


def test_view_of_the_whole_frame_changes_nothing():
    sample = ToyRooms()[0]
    image, targets = augment(sample, TASKS, WHOLE)
    assert np.array_equal(image, sample["image"])
    for task in TASKS:
        assert np.array_equal(targets[task], sample[task]), task


@given(index=st.integers(0, 50))
@settings(max_examples=20, deadline=None)
def test_mirrored_twice_is_the_original(index: int):
    sample, mirror = ToyRooms()[index], replace(WHOLE, flip=True)
    image, targets = augment(sample, TASKS, mirror)
    image, targets = augment({"image": image, **targets}, TASKS, mirror)
    assert np.array_equal(image, sample["image"])
    for task in TASKS:
        assert np.array_equal(targets[task], sample[task]), task


def plane_sample(normal: np.ndarray, size: int = 48, focal: float = 40.0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A tilted plane 3 m away seen by a camera, and the ray of every pixel (x right, y up, z towards the viewer)."""
    centre = (size - 1) / 2
    v, u = np.mgrid[:size, :size]
    rays = np.stack([(u - centre) / focal, (centre - v) / focal, -np.ones((size, size))], -1)
    depth = (normal @ [0, 0, -3.0]) / (rays @ normal)
    normals = np.broadcast_to(normal, rays.shape).astype(np.float32)
    return {"image": np.zeros((size, size, 3), np.uint8), "depth": depth.astype(np.float32), "normals": normals}, rays


@given(x=st.floats(-0.4, 0.4), y=st.floats(-0.4, 0.4))
@settings(max_examples=25, deadline=None)
def test_mirrored_plane_is_a_plane_with_the_mirrored_normal(x: float, y: float):
    normal = np.array([x, y, 1.0]) / np.linalg.norm([x, y, 1.0])
    sample, rays = plane_sample(normal)
    view = view_of_crop((0, 0, 48, 48), (48, 48), (48, 48), flip=True)
    _, targets = augment(sample, ("depth", "normals"), view)
    assert targets["normals"][5, 7] == pytest.approx([-normal[0], normal[1], normal[2]], abs=1e-6)
    points = rays * targets["depth"][..., None]
    # Every point of a plane has the same product with its normal.
    distance = (points * targets["normals"]).sum(-1)
    assert np.ptp(distance) == pytest.approx(0, abs=1e-4)


@given(top=st.integers(0, 20), left=st.integers(0, 20), side=st.sampled_from([12, 16, 24]))
@settings(max_examples=25, deadline=None)
def test_enlarged_crop_is_nearer_by_its_zoom_and_keeps_normals(top: int, left: int, side: int):
    sample, _ = plane_sample(np.array([0.6, 0.0, 0.8]))
    view = view_of_crop((top, left, side, side), (48, 48), (48, 48))
    assert view.zoom == 48 / side
    _, targets = augment(sample, ("depth", "normals"), view)
    cut = sample["depth"][top : top + side, left : left + side]
    # The values that are shown are those of the crop, so its extremes are found again exactly.
    assert targets["depth"].min() * view.zoom == pytest.approx(cut.min(), rel=1e-6)
    assert targets["depth"].max() * view.zoom == pytest.approx(cut.max(), rel=1e-6)
    assert targets["normals"][3, 3] == pytest.approx([0.6, 0.0, 0.8], abs=1e-6)


def test_enlarged_crop_keeps_the_lateral_size_of_things():
    """Half the distance at twice the focal length: the metres across a surface stay what they were."""
    focal, facing = 40.0, np.array([0.0, 0.0, 1.0])
    sample, _ = plane_sample(facing, focal=focal)
    _, targets = augment(sample, ("depth",), view_of_crop((12, 12, 24, 24), (48, 48), (48, 48)))
    before, after = 10 * sample["depth"][24, 24] / focal, 20 * targets["depth"][24, 24] / focal
    assert after == pytest.approx(before, rel=1e-6)


@given(frame=st.tuples(SIDES, SIDES), size=st.tuples(SIDES, SIDES))
@settings(max_examples=200, deadline=None)
def test_letterbox_lies_where_the_runtime_puts_it(frame: tuple[int, int], size: tuple[int, int]):
    view, there = view_of_crop((0, 0, *frame), frame, size), place(frame, size, "letterbox")
    assert (view.offset_hw, view.box_hw) == ((there.top, there.left), (there.height, there.width))


def test_normalised_letterbox_equals_the_runtime_preprocessing():
    sample = ToyRooms(size_hw=(24, 32))[1]
    view = view_of_crop((0, 0, 24, 32), (24, 32), (32, 32))
    image, _ = augment(sample, (), view)
    pad = PAD_RGB[0], PAD_RGB[1], PAD_RGB[2]
    plane, _ = preprocess(sample["image"], (32, 32), Preprocessing("letterbox", IMAGE_MEAN, IMAGE_STD, pad_rgb=pad))
    # Two ways to write (x / 255 - mean) / std: rounding of float32.
    assert normalise(image[None])[0].numpy() == pytest.approx(plane, abs=2e-6)


def test_padding_is_grey_and_counts_in_no_loss():
    sample = ToyRooms(size_hw=(16, 32))[0]
    image, targets = augment(sample, TASKS, view_of_crop((0, 0, 16, 32), (16, 32), (32, 32)))
    assert image[0, 0].tolist() == list(PAD_RGB)
    assert (targets["semseg"][:8] == 255).all() and (targets["edge"][:8] == 255).all()
    assert not targets["depth"][:8].any() and not targets["normals"][:8].any()
    assert (targets["semseg"][8:24] != 255).all() and (targets["depth"][8:24] > 0).all()


@given(seed=st.integers(0, 10_000), size=st.sampled_from([(32, 32), (32, 64), (48, 32)]))
@settings(max_examples=100, deadline=None)
def test_drawn_views_stay_inside_frame_and_picture(seed: int, size: tuple[int, int]):
    view = draw_view(np.random.default_rng(seed), (40, 56), size, AugmentConfig())
    assert view.top >= 0 and view.top + view.height <= 40
    assert view.left >= 0 and view.left + view.width <= 56
    assert all(o >= 0 and o + b <= s for o, b, s in zip(view.offset_hw, view.box_hw, size, strict=True))
    assert view.box_hw[0] == size[0] or view.box_hw[1] == size[1]


def test_shrunk_edges_stay_unbroken():
    edge = np.zeros((64, 64), np.uint8)
    edge[:, 31] = 1
    sample = {"image": np.zeros((64, 64, 3), np.uint8), "edge": edge}
    _, targets = augment(sample, ("edge",), view_of_crop((0, 0, 64, 64), (64, 64), (32, 32)))
    assert (targets["edge"].sum(axis=1) == 1).all()


@pytest.mark.parametrize("task", ["edge", "saliency"])
@given(size=st.sampled_from([16, 32, 48, 64]), flip=st.booleans())
@settings(max_examples=20, deadline=None)
def test_pixels_without_a_label_stay_without_one(task: str, size: int, flip: bool):
    """255 is no large 1: the left half is unknown, the right one marked above and not below."""
    mask = np.zeros((32, 32), np.uint8)
    mask[:16], mask[:, :16] = 1, 255
    sample = {"image": np.zeros((32, 32, 3), np.uint8), task: mask}
    _, targets = augment(sample, (task,), view_of_crop((0, 0, 32, 32), (32, 32), (size, size), flip=flip))
    found, half = targets[task][:, ::-1] if flip else targets[task], size // 2
    assert (found[:, : half - 1] == 255).all()
    assert (found[: half - 1, half + 1 :] == 1).all() and not found[half + 1 :, half + 1 :].any()


def test_little_that_is_unknown_marks_nothing():
    mask = np.zeros((40, 40), np.uint8)
    mask[3, 3] = 255  # a sixteenth of a pixel of the target: nothing of it is an edge
    sample = {"image": np.zeros((40, 40, 3), np.uint8), "edge": mask}
    _, targets = augment(sample, ("edge",), view_of_crop((0, 0, 40, 40), (40, 40), (10, 10)))
    assert not targets["edge"].any()


@given(seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_photographic_look_keeps_shape_and_type_and_repeats_with_its_seed(seed: int):
    image = ToyRooms()[3]["image"]
    looks = [photometric(np.random.default_rng(seed), image.copy(), AugmentConfig()) for _ in range(2)]
    assert looks[0].shape == image.shape and looks[0].dtype == np.uint8
    assert np.array_equal(looks[0], looks[1])


def test_photographic_look_can_be_switched_off():
    image = ToyRooms()[3]["image"]
    assert photometric(np.random.default_rng(0), image, AugmentConfig(photometric=0)) is image
