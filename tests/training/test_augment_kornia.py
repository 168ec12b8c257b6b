"""Geometry of training views against kornia's, where kornia has it: flip, turn, and crop with resize."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from slimpath.tests.training.conftest import ToyRooms
from slimpath.training.augment import augment, view_of_crop

kornia = pytest.importorskip("kornia", reason="kornia is in slimpath[dev], from Python 3.11 on")

SIZE = 48
WHOLE = view_of_crop((0, 0, SIZE, SIZE), (SIZE, SIZE), (SIZE, SIZE))


def scene(index: int) -> dict[str, np.ndarray]:
    """A toy room whose picture is smooth: both libraries then interpolate alike."""
    sample = ToyRooms(size_hw=(SIZE, SIZE))[index]
    v, u = np.mgrid[:SIZE, :SIZE] / SIZE
    waves = [np.sin(3 * u + index), np.cos(4 * v - index), np.sin(2 * (u + v))]
    return sample | {"image": (127 + 100 * np.stack(waves, -1)).astype(np.uint8)}


def as_tensor(array: np.ndarray) -> Tensor:
    """[1, C, H, W], float32."""
    maps = np.ascontiguousarray(array, np.float32)
    return torch.from_numpy(maps[..., None] if maps.ndim == 2 else maps).permute(2, 0, 1)[None]


def as_array(tensor: Tensor) -> np.ndarray:
    return tensor[0].permute(1, 2, 0).numpy().squeeze()


@given(index=st.integers(0, 30))
@settings(max_examples=10, deadline=None)
def test_mirrored_views_are_those_of_kornia(index: int):
    sample = scene(index)
    image, targets = augment(sample, ("semseg", "depth", "edge"), replace(WHOLE, flip=True))
    flip = kornia.geometry.transform.hflip
    assert np.array_equal(image, as_array(flip(as_tensor(sample["image"]))))
    for task in targets:
        assert np.array_equal(targets[task], as_array(flip(as_tensor(sample[task])))), task


@given(index=st.integers(0, 30), angle=st.floats(-180, 180))
@settings(max_examples=25, deadline=None)
def test_turned_views_are_those_of_kornia(index: int, angle: float):
    sample = scene(index)
    image, targets = augment(sample, ("semseg", "depth", "saliency"), replace(WHOLE, angle_deg=angle))
    turn, by = kornia.geometry.transform.rotate, torch.tensor([angle])
    seen = as_array(turn(as_tensor(np.ones((SIZE, SIZE))), by, mode="bilinear")) > 0.999
    theirs = as_array(turn(as_tensor(sample["image"]), by, mode="bilinear"))
    assert np.abs(image[seen] - theirs[seen]).max() < 2.5  # OpenCV rounds places to 1/32 of a pixel
    for task in targets:
        values = as_array(turn(as_tensor(sample[task]), by, mode="nearest"))
        assert (targets[task][seen] == values[seen]).mean() > 0.98, task  # halfway pixels may go to either side


@given(
    index=st.integers(0, 30),
    top=st.integers(0, 23),
    left=st.integers(0, 23),
    side=st.integers(12, 24),
)
@settings(max_examples=25, deadline=None)
def test_enlarged_crops_are_those_of_kornia(index: int, top: int, left: int, side: int):
    sample = scene(index)
    view = view_of_crop((top, left, side, side), (SIZE, SIZE), (SIZE, SIZE))
    image, targets = augment(sample, ("semseg", "depth"), view)
    corners = [(left, top), (left + side - 1, top), (left + side - 1, top + side - 1), (left, top + side - 1)]
    boxes = torch.tensor([corners], dtype=torch.float32)

    def cut(array: np.ndarray, mode: str) -> np.ndarray:
        """kornia crops exactly; its resize has OpenCV's idea of where pixels lie (align_corners=False)."""
        part = kornia.geometry.transform.crop_by_indices(as_tensor(array), boxes)
        return as_array(kornia.geometry.transform.resize(part, (SIZE, SIZE), interpolation=mode))

    assert np.abs(image - cut(sample["image"], "bilinear")).max() < 2.5
    # Nearest at a factor that is no whole number: ties of rounding.
    for task, factor in (("semseg", 1.0), ("depth", view.zoom)):
        theirs = cut(sample[task], "nearest-exact") / factor
        assert np.isclose(targets[task], theirs, rtol=1e-5).mean() > 0.97, task
