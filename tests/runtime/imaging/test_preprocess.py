from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimpath.runtime.errors import SizeError
from slimpath.runtime.imaging.preprocess import place, preprocess
from slimpath.tests.runtime.tiny_bundle import PREPROCESSING

STRETCH = msgspec.structs.replace(PREPROCESSING, fit="stretch")
SIZES = st.integers(1, 5000)


def by_hand(rgb: np.ndarray) -> np.ndarray:
    values = rgb / 255.0
    return ((values - PREPROCESSING.mean) / PREPROCESSING.std).transpose(2, 0, 1)


def test_picture_of_the_plane_s_size_is_only_normalised(photo):
    rgb = photo(32, 48)
    plane, placement = preprocess(rgb, (32, 48), PREPROCESSING)
    assert plane.dtype == np.float32 and plane.flags.c_contiguous
    # 1e-6: float32 against float64.
    np.testing.assert_allclose(plane, by_hand(rgb), atol=1e-6)
    assert (placement.top, placement.left, placement.height, placement.width) == (0, 0, 32, 48)


def test_letterbox_keeps_the_aspect_centres_and_pads():
    rgb = np.full((20, 80, 3), 200, np.uint8)
    plane, placement = preprocess(rgb, (32, 48), PREPROCESSING)
    assert (placement.top, placement.left, placement.height, placement.width) == (10, 0, 12, 48)
    expected = np.empty((32, 48, 3), np.uint8)
    expected[:] = PREPROCESSING.pad_rgb
    expected[10:22] = 200
    np.testing.assert_allclose(plane, by_hand(expected), atol=1e-6)


def test_padding_is_next_to_zero_where_it_is_the_mean():
    plane, _ = preprocess(np.zeros((4, 80, 3), np.uint8), (32, 48), PREPROCESSING)
    assert np.abs(plane[:, 0]).max() < 0.01  # pad_rgb is the mean, rounded to whole numbers


def test_stretch_fills_the_plane(photo):
    plane, placement = preprocess(photo(20, 80), (32, 48), STRETCH)
    assert (placement.height, placement.width) == (32, 48) and placement.scale_yx == (1.6, 0.6)
    assert plane.shape == (3, 32, 48)


def test_shrinking_averages():
    stripes = np.zeros((64, 96, 3), np.uint8)
    stripes[:, ::2] = 255
    plane, _ = preprocess(stripes, (32, 48), PREPROCESSING)
    np.testing.assert_allclose(plane, by_hand(np.full((32, 48, 3), 128)), atol=0.02)


def test_placement_is_that_of_the_whole_picture_when_it_was_scaled_while_decoded(photo):
    plane, placement = preprocess(photo(100, 200), (32, 48), PREPROCESSING, image_hw=(800, 1600))
    assert placement.image_hw == (800, 1600) and placement.scale_yx == (24 / 800, 48 / 1600)
    assert plane.shape == (3, 32, 48)


@given(SIZES, SIZES, st.sampled_from(["letterbox", "stretch"]))
def test_picture_of_any_size_lies_inside_the_plane(height, width, fit):
    placement = place((height, width), (32, 48), fit)
    assert placement.height >= 1 and placement.top >= 0 and placement.top + placement.height <= 32
    assert placement.width >= 1 and placement.left >= 0 and placement.left + placement.width <= 48
    assert placement.height == 32 or placement.width == 48
    assert (
        abs((32 - placement.height) - 2 * placement.top) <= 1 and abs((48 - placement.width) - 2 * placement.left) <= 1
    )


@given(st.integers(1, 90), st.integers(1, 90))
def test_one_pixel_wide_pictures_work(height, width):
    for size in ((1, width), (height, 1)):
        plane, _ = preprocess(np.full((*size, 3), 9, np.uint8), (32, 48), PREPROCESSING)
        assert np.isfinite(plane).all()


@pytest.mark.parametrize("image_hw", [(64, 48), (15, 40), (100, 30), (32, 48), (3, 200)])
@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
def test_there_and_back_gives_the_picture_again(image_hw, fit):
    """A ramp survives being fitted to the plane and restored."""
    y, x = np.mgrid[0 : image_hw[0], 0 : image_hw[1]]
    ramp = ((y / image_hw[0] + x / image_hw[1]) * 100 + 20).astype(np.uint8)
    settings = msgspec.structs.replace(PREPROCESSING, fit=fit, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    plane, placement = preprocess(np.repeat(ramp[..., None], 3, axis=2), (32, 48), settings)
    back = placement.restore(np.ascontiguousarray(plane[0])) * 255
    assert back.shape == image_hw
    step = 100 / min(placement.height, placement.width) + 2  # half a network pixel either way, and rounding
    assert np.abs(back - ramp).max() <= step


def test_points_come_back_to_the_picture():
    placement = place((100, 50), (32, 48), "letterbox")
    corners = [[placement.left, placement.top], [placement.left + placement.width, placement.top + placement.height]]
    np.testing.assert_allclose(placement.to_image_xy(np.array(corners)), [[0, 0], [50, 100]])


def test_crop_is_a_view_of_the_picture_s_part():
    placement = place((20, 80), (32, 48), "letterbox")
    plane = np.zeros((32, 48, 3))
    assert placement.crop(plane).base is plane and placement.crop(plane).shape == (12, 48, 3)
    with pytest.raises(SizeError, match=r"plane of \(32, 48\) is expected, got \(48, 32\)"):
        placement.crop(np.zeros((48, 32)))
