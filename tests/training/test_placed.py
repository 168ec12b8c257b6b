"""Samples of any size on one plane."""

from __future__ import annotations

import numpy as np
import pytest

from slimpath.runtime.bundles.preprocessing import Preprocessing
from slimpath.runtime.imaging.preprocess import preprocess
from slimpath.tests.training.conftest import ToyRooms
from slimpath.training.placed import Placed, Subset, spread

LETTERBOX = Preprocessing("letterbox", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), pad_rgb=(1, 2, 3))
TASKS = ("semseg", "depth", "normals", "edge", "saliency", "scene")


@pytest.mark.parametrize("size_hw", [(20, 40), (64, 96)])
def test_picture_is_what_the_runtime_gives_the_network(size_hw: tuple[int, int]):
    """Smaller and larger than the plane."""
    rooms = ToyRooms(1, size_hw)
    plane, _ = preprocess(rooms[0]["image"], (32, 32), LETTERBOX)
    found = Placed(rooms, TASKS, (32, 32), LETTERBOX)[0]["image"]
    assert np.array_equal(found, np.rint(255 * plane.transpose(1, 2, 0)).astype(np.uint8))


def test_labels_stay_where_the_picture_is_and_padding_has_none():
    found = Placed(ToyRooms(1, (16, 32)), TASKS, (32, 32), LETTERBOX)[0]
    for task, nothing in (("semseg", 255), ("edge", 255), ("saliency", 255), ("depth", 0), ("normals", 0)):
        assert (found[task][:8] == nothing).all() and (found[task][24:] == nothing).all(), task
        assert np.array_equal(found[task][8:24], ToyRooms(1, (16, 32))[0][task]), task
    assert found["scene"] == 0


def test_numbers_are_spread_evenly():
    assert spread(10, 5) == [0, 2, 4, 6, 8] and spread(3, None) == [0, 1, 2] and spread(2, 9) == [0, 1]
    rooms = ToyRooms(9)
    assert np.array_equal(Subset(rooms, spread(9, 3))[2]["image"], rooms[6]["image"])
