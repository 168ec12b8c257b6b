"""Turned views: what holds between a picture and its labels still holds, and the corners have no label."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpath.tests.training.conftest import PLAIN_VIEWS, ToyRooms
from slimpath.tests.training.test_augment import TASKS, WHOLE, plane_sample
from slimpath.training.augment import PAD_RGB, AugmentConfig, augment, draw_view, view_of_crop
from slimpath.training.config import TrainConfig
from slimpath.training.data import BatchMaker
from slimpath.training.errors import ConfigError
from slimpath.training.presets import with_overrides

ANGLES = st.floats(-180, 180)
SIZE, FOCAL = 48, 40.0


def turned(sample: dict[str, Any], tasks: tuple[str, ...], angle_deg: float, **changes: Any):
    size = sample["image"].shape[0]
    view = view_of_crop((0, 0, size, size), (size, size), (size, size))
    return augment(sample, tasks, replace(view, angle_deg=angle_deg, **changes))


def source_of(angle_deg: float, size: int) -> np.ndarray:
    """Where in the frame each pixel of the turned picture comes from: x right and y down, [H, W, 2]."""
    angle, centre = np.deg2rad(angle_deg), (size - 1) / 2
    v, u = np.mgrid[:size, :size] - centre
    return np.stack([np.cos(angle) * u - np.sin(angle) * v, np.sin(angle) * u + np.cos(angle) * v], -1) + centre


@given(x=st.floats(-0.4, 0.4), y=st.floats(-0.4, 0.4), angle=ANGLES)
@settings(max_examples=50, deadline=None)
def test_turned_plane_is_the_plane_that_a_rolled_camera_sees(x: float, y: float, angle: float):
    normal = np.array([x, y, 1.0]) / np.linalg.norm([x, y, 1.0])
    sample, rays = plane_sample(normal, SIZE, FOCAL)
    _, targets = turned(sample, ("depth", "normals"), angle)
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    expected = np.array([cos * normal[0] - sin * normal[1], sin * normal[0] + cos * normal[1], normal[2]])
    valid = targets["depth"] > 0
    assert valid[SIZE // 2, SIZE // 2]
    assert np.abs(targets["normals"][valid] - expected).max() < 1e-5
    # Every point of a plane has the same product with its normal, that of the point 3 m ahead. Depth comes from the
    # nearest pixel, at most half a diagonal away (and a little more, as OpenCV rounds places), where the ray differs.
    products = ((rays * targets["depth"][..., None]) @ expected)[valid]
    per_pixel = np.hypot(*normal[:2]) / FOCAL * sample["depth"].max()
    assert np.abs(products + 3 * normal[2]).max() <= per_pixel * (np.sqrt(0.5) + 0.05) + 1e-4


@given(angle=ANGLES)
@settings(max_examples=30, deadline=None)
def test_corners_that_show_nothing_of_the_frame_have_no_label(angle: float):
    sample = ToyRooms(size_hw=(SIZE, SIZE))[2]
    image, targets = turned(sample, TASKS, angle)
    place = source_of(angle, SIZE)
    outside = ((place < -1) | (place > SIZE)).any(-1)
    inside = ((place >= 0.05) & (place <= SIZE - 1.05)).all(-1)
    assert (image[outside] == PAD_RGB).all()
    for task, nothing in {"semseg": 255, "edge": 255, "saliency": 255, "depth": 0, "normals": 0}.items():
        assert (targets[task][outside] == nothing).all(), task
        labelled = targets[task][inside] != nothing
        assert (labelled.any(-1) if task == "normals" else labelled).all(), task


@given(index=st.integers(0, 50), quarters=st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_quarter_turns_move_pixels_and_invent_none(index: int, quarters: int):
    sample = ToyRooms()[index]
    image, targets = turned(sample, TASKS, 90.0 * quarters)
    assert np.array_equal(image, np.rot90(sample["image"], quarters))
    for task in ("semseg", "depth", "edge", "saliency"):
        assert np.array_equal(targets[task], np.rot90(sample[task], quarters)), task
    normals = np.rot90(sample["normals"], quarters)
    for _ in range(quarters):  # what pointed right points up
        normals = np.stack([-normals[..., 1], normals[..., 0], normals[..., 2]], -1)
    assert targets["normals"] == pytest.approx(normals, abs=1e-6)
    assert targets["scene"] == sample["scene"]


@given(angle=st.floats(-80, 80), index=st.integers(0, 20))
@settings(max_examples=20, deadline=None)
def test_turned_and_then_mirrored_is_mirrored_and_then_turned_the_other_way(angle: float, index: int):
    sample = ToyRooms(size_hw=(SIZE, SIZE))[index]
    _, one = turned(sample, TASKS, angle, flip=True)
    image, mirrored = augment(sample, TASKS, replace(turned_view(), flip=True))
    _, other = turned({"image": image, **mirrored}, TASKS, -angle)
    for task in ("semseg", "depth", "edge", "saliency"):
        assert (one[task] == other[task]).mean() > 0.98, task  # pixels halfway between two may go to either
    near = np.abs(one["normals"] - other["normals"]).max(-1) < 1e-5
    assert near.mean() > 0.98


def turned_view():
    return view_of_crop((0, 0, SIZE, SIZE), (SIZE, SIZE), (SIZE, SIZE))


def test_classes_are_never_mixed_and_depth_is_never_averaged():
    sample = ToyRooms(size_hw=(SIZE, SIZE))[5]
    _, targets = turned(sample, ("semseg", "depth"), 33.0)
    assert set(np.unique(targets["semseg"])) <= {0, 1, 2, 255}
    assert set(np.unique(targets["depth"])) <= {0, *np.unique(sample["depth"])}


def test_depth_that_is_infinite_stays_unknown():
    sample, _ = plane_sample(np.array([0.0, 0.0, 1.0]), SIZE)
    sample["depth"][:, :20] = np.inf
    _, targets = turned(sample, ("depth",), 20.0)
    assert np.isfinite(targets["depth"]).all() and targets["depth"].max() == pytest.approx(3.0)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=50, deadline=None)
def test_angles_are_drawn_to_either_side_and_change_nothing_else_of_the_view(seed: int):
    view = draw_view(np.random.default_rng(seed), (40, 56), (32, 32), AugmentConfig(rotate_deg=15))
    plain = draw_view(np.random.default_rng(seed), (40, 56), (32, 32), AugmentConfig())
    assert -15 <= view.angle_deg <= 15 and view.angle_deg != 0
    assert replace(view, angle_deg=0.0) == plain and plain.angle_deg == 0


def test_batches_are_turned_and_repeat_with_their_seed():
    def batch(angle: float):
        maker = BatchMaker(ToyRooms(), TASKS, seed=3, augment=replace(PLAIN_VIEWS, rotate_deg=angle), rows_per_image=2)
        return maker(0, 0, 12, (32, 32))

    plain, once, again = batch(0.0), batch(30.0), batch(30.0)
    assert np.array_equal(once.image_I3HW, again.image_I3HW) and not np.array_equal(once.image_I3HW, plain.image_I3HW)
    assert (once.targets["semseg"] == 255).any() and not (plain.targets["semseg"] == 255).any()


def test_setting_is_off_by_default_and_refused_beyond_half_a_turn():
    assert TrainConfig().augment.rotate_deg == 0
    assert with_overrides(TrainConfig(), ["augment.rotate_deg=10"]).augment.rotate_deg == 10.0
    for wrong in (-1, 181):
        with pytest.raises(ConfigError, match=r"augment.rotate_deg must be from 0 \(off\) to 180"):
            with_overrides(TrainConfig(), [f"augment.rotate_deg={wrong}"])


def test_whole_frame_unturned_is_untouched():
    sample = ToyRooms()[0]
    image, targets = augment(sample, TASKS, WHOLE)
    assert np.array_equal(image, sample["image"])
    assert all(np.array_equal(targets[task], sample[task]) for task in TASKS)
