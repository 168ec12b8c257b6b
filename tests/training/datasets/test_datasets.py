"""Each layout on a tiny set written to it: what a published file says is what a sample says."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from slimpath.tests.training.datasets.conftest import (
    CHAIR,
    PERSON,
    SIZE_HW,
    SKY,
    box,
    directions,
    picture,
    write_list,
    write_npy,
    write_parts,
    write_picture,
    write_png,
)
from slimpath.training.datasets import LAYOUTS, open_dataset
from slimpath.training.datasets.pascal import NORMALS_CLASSES, PARTS, human_parts
from slimpath.training.errors import DataError

EIGHT_BITS = 0.02  # of a normal written to a .png


def check_form(sample: dict[str, Any]) -> None:
    """What `training.data` relies on."""
    kinds = {"depth": np.float32, "normals": np.float32}
    for task, label in sample.items():
        assert label.dtype == kinds.get(task, np.uint8), task
        assert label.shape[:2] == SIZE_HW and label.ndim == (3 if task in ("image", "normals") else 2), task
    if "normals" in sample:
        length = np.linalg.norm(sample["normals"], axis=-1)
        assert np.isclose(length, 1, atol=1e-5).sum() + (length == 0).sum() == length.size


def test_pascal_reads_every_task_as_published(pascal: Path):
    tasks = ("semseg", "human_parts", "saliency", "normals", "edge")
    samples = open_dataset("pascal_mt", pascal, "train", tasks)
    assert len(samples) == 2 and samples.classes == {"semseg": 21, "human_parts": 7}
    first, second = samples[0], samples[1]
    check_form(first)
    check_form(second)
    assert np.abs(first["image"].astype(int) - picture(0)).mean() < 6  # a JPEG

    labels = np.full(SIZE_HW, SKY)
    labels[box(5, 4, 15, 14)] = PERSON
    labels[box(12, 4, 18, 20)] = CHAIR
    for sample in (first, second):  # from a palette in VOC12/, from grey in pascal-context/
        assert (sample["semseg"][0] == 255).all()
        assert np.array_equal(sample["semseg"][1:], np.where(labels == PERSON, 15, 0)[1:])
    assert np.array_equal(first["saliency"], box(2, 2, 9, 9)) and not second["saliency"].any()  # 255, and 127 of 255
    known = labels != SKY
    assert first["normals"][known] == pytest.approx(directions(0)[known], abs=EIGHT_BITS)
    assert not first["normals"][~known].any()

    parts = np.zeros(SIZE_HW)
    parts[box(2, 2, 6, 8)], parts[box(6, 2, 12, 8)], parts[box(12, 2, 18, 5)] = 1, 2, 6
    assert np.array_equal(first["human_parts"], parts)
    assert (second["human_parts"] == 255).all()  # nobody there: no label, not "no parts"


def test_pascal_edges_lie_where_labels_change_and_are_thin(pascal: Path):
    edge = open_dataset("pascal_mt", pascal, "train", ("edge",))[0]["edge"].astype(bool)
    labels = np.full(SIZE_HW, SKY)
    labels[box(5, 4, 15, 14)] = PERSON
    labels[box(12, 4, 18, 20)] = CHAIR
    differs = np.zeros(SIZE_HW, bool)
    for axis in (0, 1):
        for step in (1, -1):
            differs |= labels != np.roll(labels, step, axis)  # sky all around: rolling over the rim finds nothing
    assert edge.any() and not (edge & ~differs).any()
    assert edge.sum() <= 0.6 * differs.sum()  # one side of every border
    rows = edge[6:11, :9]
    assert (rows.sum(axis=1) == 1).all()  # the person's left border, unbroken


def test_pascal_parts_and_normal_classes_are_those_of_the_papers():
    assert len(PARTS) == 24 and set(PARTS.values()) == {1, 2, 3, 4, 5, 6}
    assert (PARTS["neck"], PARTS["lhand"], PARTS["rfoot"], PARTS["luleg"]) == (2, 4, 6, 5)
    # 168 shared names (other than "unknown") and tvmonitor; aeroplane, bird, horse and sky are not indoors.
    assert len(NORMALS_CLASSES) == len(set(NORMALS_CLASSES)) == 170
    assert {PERSON, CHAIR, 427} <= set(NORMALS_CLASSES) and not {2, 25, 207, SKY, 431} & set(NORMALS_CLASSES)


def test_two_people_share_one_map_of_parts(tmp_path: Path):
    from scipy.io import loadmat

    from slimpath.tests.training.datasets.conftest import thing

    people = [
        thing(15, box(0, 0, 9, 9), [("hair", box(0, 0, 2, 9))]),
        thing(15, box(0, 12, 9, 20), [("luarm", box(4, 12, 8, 14)), ("neck", box(3, 14, 4, 18))]),
    ]
    write_parts(tmp_path / "p.mat", people)
    found = human_parts(loadmat(tmp_path / "p.mat")["anno"])
    assert found[1, 4] == 1 and found[5, 13] == 3 and found[3, 15] == 2 and found[15, 20] == 0


@pytest.mark.parametrize("layout", ["nyud_mt", "nyud_v2"])
def test_both_nyud_layouts_say_the_same(layout: str, request: pytest.FixtureRequest):
    root = request.getfixturevalue(layout)
    samples = open_dataset(layout, root, "train", ("semseg", "depth", "normals", "edge"))
    assert [item.name for item in samples.items] == ["1", "3"] and samples.classes == {"semseg": 40}
    sample = samples[1]
    check_form(sample)
    assert np.abs(sample["image"].astype(int) - picture(3)).mean() < 6
    stored = np.arange(560).reshape(SIZE_HW).astype(np.uint8) % 41
    assert (sample["semseg"][stored == 0] == 255).all()
    assert np.array_equal(sample["semseg"][stored > 0], stored[stored > 0] - 1)
    assert sample["depth"] == pytest.approx(np.linspace(0, 9, 560).reshape(SIZE_HW))
    assert sample["normals"] == pytest.approx(directions(3), abs=EIGHT_BITS)
    assert np.array_equal(sample["edge"], box(3, 3, 4, 20))
    assert len(open_dataset(layout, root, "val", ("depth",))) == 1


def test_nyud_label_of_another_size_is_resized_by_nearest_value(nyud_mt: Path, tmp_path: Path):
    root = shutil.copytree(nyud_mt, tmp_path / "nyud")
    write_png(root / "segmentation/1.png", np.array([[1, 2], [3, 0]], np.uint8))
    label = open_dataset("nyud_mt", root, "train", ("semseg",))[0]["semseg"]
    assert label.shape == SIZE_HW and set(np.unique(label)) == {0, 1, 2, 255}
    assert (label[0, 0], label[-1, -1]) == (0, 255)


def test_mtan_cityscapes_turns_inverse_depth_over(mtan_cityscapes: Path):
    samples = open_dataset("mtan", mtan_cityscapes, "train", ("semseg", "depth"))
    assert len(samples) == 3 and samples.classes == {"semseg": 7}
    sample = samples[2]
    check_form(sample)
    assert np.array_equal(sample["image"], picture(2))
    stored = np.arange(560).reshape(SIZE_HW) % 8 - 1
    assert np.array_equal(sample["semseg"], np.where(stored < 0, 255, stored))
    inverse = np.linspace(0, 0.5, 560, dtype=np.float32).reshape(SIZE_HW)
    assert sample["depth"][0, 0] == 0  # none
    assert (sample["depth"] * inverse).ravel()[1:] == pytest.approx(1, rel=1e-5)
    with pytest.raises(DataError, match="has no normals"):
        open_dataset("mtan", mtan_cityscapes, "train", ("normals",))


def test_mtan_nyuv2_has_metres_and_normals(mtan_nyuv2: Path):
    samples = open_dataset("mtan", mtan_nyuv2, "val", ("semseg", "depth", "normals"))
    assert len(samples) == 1 and samples.classes == {"semseg": 13}
    sample = samples[0]
    check_form(sample)
    assert sample["depth"] == pytest.approx(np.linspace(0, 0.5, 560).reshape(SIZE_HW))
    assert sample["normals"] == pytest.approx(directions(0), abs=1e-5)


def test_plain_folder_reads_arrays_and_pictures_alike(plain: Path):
    tasks = ("semseg", "depth", "normals", "edge", "saliency")
    samples = open_dataset("folder", plain, "train", tasks)
    assert [item.name for item in samples.items] == ["hall", "kitchen"] and samples.classes == {"semseg": 5}
    for sample, seed in zip((samples[0], samples[1]), (1, 0), strict=True):
        check_form(sample)
        assert sample["semseg"][0, 0] == 255 and sample["semseg"][1, 0] == 0 and sample["semseg"][15, 5] == 4
        assert not sample["depth"][0].any() and (sample["depth"][1:] == 2.5).all()
        assert sample["normals"] == pytest.approx(directions(seed), abs=EIGHT_BITS)
        assert np.array_equal(sample["edge"], box(9, 0, 10, 28)) and sample["saliency"].sum() == 16


def test_plain_folder_takes_lists_and_names_of_classes(plain: Path):
    write_list(plain / "val.txt", ["hall"])
    write_list(plain / "semseg.txt", ["floor", "wall", "a", "b", "c", "door"])
    samples = open_dataset("folder", plain, "val", ("semseg",))
    assert len(samples) == 1 and samples.classes == {"semseg": 6}
    with pytest.raises(DataError, match=r"train\.txt is missing.*val"):
        open_dataset("folder", plain, "train", ("semseg",))
    write_list(plain / "semseg.txt", ["floor", "wall"])
    with pytest.raises(DataError, match="class 4 of 'semseg', but 0 to 1 are allowed, and 255 for none"):
        open_dataset("folder", plain, "val", ("semseg",))[0]


WRITERS = {".png": lambda path, ids: write_png(path, ids.astype(np.uint16)), ".npy": write_npy}


# Each layout's file, an id that is no class of it, and what it may hold. 300 would wrap around in 8 bits.
@pytest.mark.parametrize(
    ("layout", "fixture", "file", "wrong", "allowed"),
    [
        ("pascal_mt", "pascal", "semseg/VOC12/2008_000001.png", 21, "0 to 20 are allowed, and 255"),
        ("nyud_mt", "nyud_mt", "segmentation/1.png", 41, "1 to 40 are allowed, and 0"),
        ("nyud_v2", "nyud_v2", "segmentation/1.png", 300, "1 to 40 are allowed, and 0"),
        ("mtan", "mtan_cityscapes", "train/label_7/0.npy", 7, "0 to 6 are allowed, and -1"),
        ("mtan", "mtan_nyuv2", "train/label/0.npy", 13.0, "0 to 12 are allowed, and -1"),
        ("mtan", "mtan_nyuv2", "train/label/0.npy", 0.5, "0 to 12 are allowed, and -1"),
        ("mtan", "mtan_nyuv2", "train/label/0.npy", np.nan, "0 to 12 are allowed, and -1"),
        ("folder", "plain", "semseg/hall.png", 300, "0 to 254 are allowed, and 255"),
        ("folder", "plain", "semseg/hall.npy", -2, "0 to 4 are allowed, and 255"),
    ],
)
def test_id_that_is_no_class_is_refused_by_file_and_number(
    layout: str, fixture: str, file: str, wrong: float, allowed: str, request: pytest.FixtureRequest, tmp_path: Path
):
    root = shutil.copytree(request.getfixturevalue(fixture), tmp_path / "copy")
    ids = np.full(SIZE_HW, 3 if isinstance(wrong, int) else 3.0)
    ids[4, 5] = wrong
    WRITERS[Path(file).suffix](root / file, ids)
    samples = open_dataset(layout, root, "train", ("semseg",))
    with pytest.raises(
        DataError, match=rf"{Path(file).name} holds class {wrong:g} of 'semseg', but {allowed} for none"
    ):
        samples[0]


def test_everything_wrong_is_named_at_the_start(plain: Path):
    (plain / "edge/hall.png").unlink()
    write_npy(plain / "depth/hall.npy", np.ones((4, 4), np.float32))
    whole = (plain / "images/kitchen.jpg").read_bytes()
    (plain / "images/kitchen.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError) as caught:
        open_dataset("folder", plain, "train", ("depth", "edge"))
    text = str(caught.value)
    assert "3 are missing, damaged or of another size" in text
    assert "hall.png (missing)" in text and "hall.npy (4 x 4, its picture 20 x 28)" in text
    assert "kitchen.jpg (" in text and "cut off" in text


def test_many_problems_are_counted_not_all_shown(tmp_path: Path):
    for number in range(30):
        write_picture(tmp_path / f"images/{number}.png", picture(0))
    with pytest.raises(DataError, match=r"30 are missing.*and 22 more"):
        open_dataset("folder", tmp_path, "train", ("depth",))


def test_damaged_label_is_refused(plain: Path):
    (plain / "depth/hall.npy").write_bytes(b"\x93NUMPY nothing")
    with pytest.raises(DataError, match=r"hall\.npy"):
        open_dataset("folder", plain, "train", ("depth",))
    write_npy(plain / "depth/hall.npy", np.zeros((*SIZE_HW, 2), np.float32))
    with pytest.raises(DataError, match="one value per pixel"):
        open_dataset("folder", plain, "train", ("depth",))[0]


def test_empty_array_is_named_with_the_others(plain: Path):
    (plain / "depth/hall.npy").write_bytes(b"")
    with pytest.raises(DataError, match=r"1 are missing, damaged.*hall\.npy"):
        open_dataset("folder", plain, "train", ("depth",))


def test_suffix_of_a_picture_may_be_in_capitals(plain: Path):
    (plain / "images/kitchen.jpg").rename(plain / "images/kitchen.JPG")
    samples = open_dataset("folder", plain, "train", ("edge",))
    assert [item.name for item in samples.items] == ["hall", "kitchen"] and samples[1]["image"].shape == (*SIZE_HW, 3)


def test_pascal_normals_ask_for_the_classes_that_mask_them(pascal: Path, tmp_path: Path):
    root = shutil.copytree(pascal, tmp_path / "pascal")
    (root / "pascal-context/trainval/2008_000002.mat").unlink()
    for tasks in (("normals",), ("edge",), ("normals", "edge")):
        with pytest.raises(DataError, match=r"1 are missing.*trainval.2008_000002\.mat \(missing\)"):
            open_dataset("pascal_mt", root, "train", tasks)
    assert len(open_dataset("pascal_mt", root, "train", ("saliency",))) == 2


def test_mat_file_that_cannot_be_used_is_refused_when_it_is_read(pascal: Path, tmp_path: Path):
    root = shutil.copytree(pascal, tmp_path / "pascal")
    parts, context = root / "human_parts/2008_000001.mat", root / "pascal-context/trainval/2008_000001.mat"
    samples = open_dataset("pascal_mt", root, "train", ("human_parts",))
    edges = open_dataset("pascal_mt", root, "train", ("edge",))
    parts.write_bytes(parts.read_bytes()[:200])
    with pytest.raises(DataError, match=r"2008_000001\.mat is not a \.mat file.*unpack"):
        samples[0]
    savemat(parts, {"anno": np.ones((2, 2))})
    with pytest.raises(DataError, match=r"`anno` is not laid out.*unpack"):
        samples[0]
    savemat(parts, {"other": 1})
    with pytest.raises(DataError, match="must hold `anno`, got other; unpack"):
        samples[0]
    savemat(context, {"LabelMap": "text"})
    with pytest.raises(DataError, match=r"one number per pixel.*unpack"):
        edges[0]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_a_layout_does_not_have_is_refused_with_what_it_has(layout: str, tmp_path: Path):
    with pytest.raises(DataError, match=r"scene.*take them off"):
        open_dataset(layout, tmp_path, "train", ("scene",))
    with pytest.raises(DataError, match="must be a folder"):
        open_dataset(layout, tmp_path / "nowhere", "train", ("semseg",))
    with pytest.raises(DataError, match=r"missing|no picture"):
        open_dataset(layout, tmp_path, "train", ("semseg",))


def test_unknown_layout_lists_the_known_ones(tmp_path: Path):
    with pytest.raises(DataError, match="pascal_mt, nyud_mt, nyud_v2, mtan, folder"):
        open_dataset("coco", tmp_path, "train", ("semseg",))


def test_grey_picture_becomes_rgb(plain: Path):
    assert cv2.imwrite(str(plain / "images/hall.png"), picture(1)[..., 0])
    assert open_dataset("folder", plain, "train", ("edge",))[0]["image"].shape == (*SIZE_HW, 3)
