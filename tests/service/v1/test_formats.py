"""Arrays in every format: what comes out can be read back, and says how."""

from __future__ import annotations

import io
import json
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from slimpath.runtime.tasks import TaskSpec
from slimpath.service.errors import HttpError
from slimpath.service.v1.formats import FORMATS_BY_KIND, FormatError, choose_formats, encode
from slimpath.service.v1.masks import polygons, run_lengths
from slimpath.tests.service.running import read_png

CLASSES = ("wall", "floor", "bed")
SPECS = {
    "semseg": TaskSpec("semseg", "classes", 3, CLASSES, unit="class id"),
    "depth": TaskSpec("depth", "depth", 1, unit="m"),
    "normals": TaskSpec("normals", "normals", 3, unit="unit vector"),
    "edge": TaskSpec("edge", "probability", 1, unit="probability"),
    "scene": TaskSpec("scene", "image_classes", 3, CLASSES, unit="probability"),
}
MANY = 1e9
id_maps = hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 3))


def no_picture(task: str) -> bytes:
    raise AssertionError("not drawn here")


def encoded(task: str, values: np.ndarray, name: str) -> Any:
    return encode(SPECS[task], values, name, no_picture, max_json_values=MANY)


def decode_rle(counts: list[int], height: int, width: int) -> np.ndarray:
    """As docs/service.md shows it."""
    inside = np.arange(len(counts)) % 2 == 1
    return np.repeat(inside, counts).reshape(width, height).T


@given(id_maps)
def test_run_lengths_give_every_mask_back(ids: np.ndarray):
    found = run_lengths(ids, CLASSES)
    height, width = found["size_hw"]
    painted = np.full((height, width), 255, np.uint8)
    for segment in found["segments"]:
        mask = decode_rle(segment["counts"], height, width)
        left, top, wide, high = segment["bbox_xywh"]
        assert mask.sum() == segment["area_px"]
        assert mask[top : top + high, left : left + wide].sum() == segment["area_px"]
        assert (painted[mask] == 255).all()
        painted[mask] = segment["class_id"]
    assert (painted == ids).all()


def test_run_lengths_go_down_the_columns_and_begin_outside():
    ids = np.array([[1, 0], [1, 1]], np.uint8)
    segments = {segment["class"]: segment["counts"] for segment in run_lengths(ids, CLASSES)["segments"]}
    assert segments == {"wall": [2, 1, 1], "floor": [0, 2, 1, 1]}


@given(id_maps)
def test_polygons_without_thin_parts_give_every_mask_back(ids: np.ndarray):
    large = np.kron(ids, np.ones((4, 4), np.uint8))
    found = polygons(large, CLASSES)
    for segment in found["segments"]:
        mask = (large == segment["class_id"]).astype(np.uint8)
        painted = np.zeros_like(mask)
        for polygon in segment["polygons"]:
            one = np.zeros_like(mask)
            cv2.fillPoly(one, [np.array(polygon["outer"], np.int32)], 1)
            for hole in polygon["holes"]:
                inner = np.zeros_like(mask)
                cv2.fillPoly(inner, [np.array(hole, np.int32)], 1)
                cv2.polylines(inner, [np.array(hole, np.int32)], True, 0)
                one &= 1 - inner
            painted |= one
        assert (painted == mask).all()


@given(hnp.arrays(np.float32, (5, 7), elements=st.floats(0, 65, width=32)))
def test_16_bit_depth_is_millimetres(values: np.ndarray):
    item = encoded("depth", values, "png16")
    stored = read_png(item.data)
    assert stored.dtype == np.uint16 and item.details["scale"] == 1e-3
    np.testing.assert_allclose(stored * item.details["scale"] + item.details["offset"], values, atol=5.1e-4)


def test_16_bit_depth_beyond_65_metres_is_the_largest_number():
    item = encoded("depth", np.array([[1e6, np.inf, np.nan, -1.0]], np.float32), "png16")
    stored = read_png(item.data)
    assert stored.tolist() == [[65535, 65535, 0, 0]]


@pytest.mark.parametrize("task", ["normals", "edge"])
def test_16_bit_pictures_of_other_tasks_give_their_values_back(task: str):
    low, shape = (-1.0, (6, 5, 3)) if task == "normals" else (0.0, (6, 5))
    values = np.random.default_rng(0).uniform(low, 1, shape).astype(np.float32)
    item = encoded(task, values, "png16")
    stored = read_png(item.data)
    np.testing.assert_allclose(stored * item.details["scale"] + item.details["offset"], values, atol=2e-5)


@given(id_maps)
@settings(max_examples=20)
def test_8_bit_pictures_hold_the_class_ids(ids: np.ndarray):
    item = encoded("semseg", ids, "png8")
    assert (read_png(item.data) == ids).all()
    assert item.details["classes"] == list(CLASSES)


@pytest.mark.parametrize("task", list(SPECS))
def test_numpy_files_hold_the_very_array(task: str):
    shape = {"scene": (3,), "normals": (2, 3, 3)}.get(task, (2, 3))
    values = np.random.default_rng(0).random(shape).astype(np.uint8 if task == "semseg" else np.float32)
    alone = np.load(io.BytesIO(encoded(task, values, "npy").data), allow_pickle=False)
    packed = np.load(io.BytesIO(encoded(task, values, "npz").data), allow_pickle=False)[task]
    assert (alone == values).all() and (packed == values).all() and alone.dtype == values.dtype


def test_json_lists_are_rounded_and_finite():
    value = encoded("depth", np.array([[1.23456789, np.inf, np.nan]], np.float32), "json").value
    assert value[0][0] == 1.23457 and value[0][2] == 0.0
    json.dumps(value, allow_nan=False)


def test_the_label_of_an_image_comes_with_all_probabilities():
    value = encoded("scene", np.array([0.2, 0.7, 0.1], np.float32), "json").value
    assert value["label"] == "floor" and set(value["probabilities"]) == set(CLASSES)


def test_long_lists_are_refused():
    with pytest.raises(HttpError, match="JSON lists have at most 5"):
        encode(SPECS["depth"], np.zeros((2, 3), np.float32), "json", no_picture, max_json_values=5)


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (None, {"semseg": "rle", "depth": "png16", "scene": "json"}),
        ("auto", {"semseg": "rle", "depth": "png16", "scene": "json"}),
        ("png", {"semseg": "png", "depth": "png", "scene": "json"}),
        ("npy,semseg=polygons", {"semseg": "polygons", "depth": "npy", "scene": "npy"}),
        ("depth=auto", {"semseg": "rle", "depth": "png16", "scene": "json"}),
        ({"depth": "json"}, {"semseg": "rle", "depth": "json", "scene": "json"}),
    ],
)
def test_formats_are_chosen_by_task(request_: Any, expected: dict[str, str]):
    assert choose_formats(request_, ["semseg", "depth", "scene"], SPECS) == expected


@pytest.mark.parametrize("request_", ["jpeg", "depth=rle", "normals=npy", {"depth": "x"}, "depth", "=", "depth==npy"])
def test_formats_that_are_none_are_refused(request_: Any):
    with pytest.raises(FormatError):
        choose_formats(request_, ["semseg", "depth", "scene"], SPECS)


def test_every_kind_has_a_format_of_its_own_first():
    assert {kind: names[0] for kind, names in FORMATS_BY_KIND.items()} == {
        "classes": "rle", "depth": "png16", "normals": "png16", "probability": "png16", "image_classes": "json",
    }  # fmt: skip
