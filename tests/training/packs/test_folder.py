"""Folders of labelled pictures: every kind, and what is said of those that cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from slimpath.runtime.tasks import TaskSpec
from slimpath.training.errors import ConfigError, DataError
from slimpath.training.packs.folder import open_folder
from slimpath.training.packs.kinds import check_kind

PARTS = TaskSpec("parts", "classes", 3, ("hull", "wing", "tail"))
Make = Callable[[np.ndarray, str], Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A folder of twelve pictures whose labels are all the same."""

    def write(label: np.ndarray, suffix: str = ".png") -> Path:
        for number in range(12):
            for part in ("images", "labels"):
                (tmp_path / part).mkdir(exist_ok=True)
            image = np.full((8, 12, 3), 10 * number, np.uint8)
            assert cv2.imwrite(str(tmp_path / "images" / f"picture{number}.png"), image)
            place = tmp_path / "labels" / f"picture{number}{suffix}"
            if suffix == ".npy":
                np.save(place, label)
            else:
                assert cv2.imwrite(str(place), label)
        return tmp_path

    return write


def _grey(*values: int, kind: type = np.uint8) -> np.ndarray:
    return np.array([*values, *[0] * (96 - len(values))], kind).reshape(8, 12)


def test_classes_are_ids_and_255_is_nothing(make: Make) -> None:
    trained, held = open_folder(make(_grey(1, 2, 255), ".png"), PARTS)
    sample = trained[0]
    assert sample["image"].shape == (8, 12, 3)
    assert sample["semseg"].dtype == np.uint8 and list(sample["semseg"][0, :4]) == [1, 2, 255, 0]
    assert len(trained) + len(held) == 12 and len(held) >= 1


def test_what_is_held_out_depends_on_names_alone(make: Make) -> None:
    folder = make(_grey(), ".png")
    before = {path.name for path, _ in open_folder(folder, PARTS)[1].entries}
    assert cv2.imwrite(str(folder / "images" / "another.png"), np.zeros((8, 12, 3), np.uint8))
    assert cv2.imwrite(str(folder / "labels" / "another.png"), _grey())
    trained, held = open_folder(folder, PARTS)
    after = {path.name for path, _ in held.entries}
    assert after - {"another.png"} == before
    assert not after & {path.name for path, _ in trained.entries}


def test_probabilities_are_black_and_white(make: Make) -> None:
    trained, _ = open_folder(make(_grey(255, 7), ".png"), TaskSpec("mask", "probability", 1))
    assert list(trained[0]["saliency"][0, :3]) == [1, 255, 0]


def test_depth_is_in_millimetres_or_an_array(make: Make) -> None:
    spec = TaskSpec("reach", "depth", 1)
    trained, _ = open_folder(make(_grey(1500, kind=np.uint16), ".png"), spec)
    assert trained[0]["depth"].dtype == np.float32 and trained[0]["depth"][0, 0] == 1.5


def test_depth_as_an_array(make: Make) -> None:
    trained, _ = open_folder(make(np.full((8, 12), 2.5), ".npy"), TaskSpec("reach", "depth", 1))
    assert trained[0]["depth"].dtype == np.float32 and trained[0]["depth"][3, 3] == 2.5


def test_normals_are_unit_vectors_and_black_is_nothing(make: Make) -> None:
    bgr = np.zeros((8, 12, 3), np.uint8)
    bgr[0] = (255, 128, 128)  # blue is z: towards the viewer
    trained, _ = open_folder(make(bgr, ".png"), TaskSpec("faces", "normals", 3))
    normals = trained[0]["normals"]
    assert np.allclose(normals[0, 0], (0, 0, 1), atol=0.01)
    assert np.all(normals[1] == 0)


def test_image_classes_come_from_a_table(make: Make) -> None:
    folder = make(_grey(), ".png")
    lines = [f"picture{number}.png,{'day' if number % 2 else 'night'}" for number in range(11)]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    trained, held = open_folder(folder, TaskSpec("time", "image_classes", 2, ("day", "night")))
    assert len(trained) + len(held) == 11  # the twelfth has no line
    assert {trained[number]["scene"] for number in range(len(trained))} == {0, 1}


@pytest.mark.parametrize(
    ("label", "spec", "said"),
    [
        (_grey(3), PARTS, "class 3 is not among the 3 classes"),
        (_grey(1, kind=np.uint16), PARTS, "kind classes is uint8 with 2 axes, got uint16"),
        (_grey(1), TaskSpec("reach", "depth", 1), "kind depth is uint16 with 2 axes, got uint8"),
        (np.zeros((4, 4), np.uint8), PARTS, "must be of one size"),
    ],
)
def test_labels_that_cannot_be_used_say_why(make: Make, label: np.ndarray, spec: TaskSpec, said: str) -> None:
    trained, _ = open_folder(make(label, ".png"), spec)
    with pytest.raises(DataError, match=said):
        trained[0]


def test_a_label_that_is_no_picture_says_so(make: Make) -> None:
    folder = make(_grey(), ".png")
    for path in (folder / "labels").iterdir():
        path.write_bytes(b"not a picture")
    with pytest.raises(DataError, match="got no picture"):
        open_folder(folder, PARTS)[0][0]


def test_an_array_that_would_be_unpickled_is_refused(make: Make) -> None:
    folder = make(np.zeros((8, 12)), ".npy")
    for path in (folder / "labels").iterdir():
        np.save(path, np.array([{"run": "me"}], object), allow_pickle=True)
    with pytest.raises(DataError, match="no array of numbers"):
        open_folder(folder, TaskSpec("reach", "depth", 1))[0][0]


def test_folders_that_cannot_be_used_say_why(make: Make, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a folder 'images'"):
        open_folder(tmp_path / "nothing", PARTS)
    folder = make(_grey(), ".png")
    with pytest.raises(DataError, match=r"labels\.csv: is missing"):
        open_folder(folder, TaskSpec("time", "image_classes", 2, ("day", "night")))
    (folder / "labels.csv").write_text("picture0.png,dusk\n")
    with pytest.raises(DataError, match="line 1: expected"):
        open_folder(folder, TaskSpec("time", "image_classes", 2, ("day", "night")))
    (folder / "labels" / "picture3.png").unlink()
    with pytest.raises(DataError, match=r"picture3\.png: has no label"):
        open_folder(folder, PARTS)
    (folder / "images" / "picture3.png").unlink()
    for path in sorted((folder / "images").iterdir())[1:]:
        path.unlink()
    with pytest.raises(DataError, match="1 labelled pictures are too few"):
        open_folder(folder, PARTS)


@pytest.mark.parametrize(
    ("kind", "classes", "said"),
    [
        ("poetry", 0, "must be one of"),
        ("classes", 1, "needs 2 to 255 classes"),
        ("classes", 300, "needs 2 to 255"),
        ("depth", 2, "has no classes"),
    ],
)
def test_kinds_that_cannot_be_are_refused(kind: str, classes: int, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_kind(kind, classes)


def test_channels_follow_from_the_kind() -> None:
    kinds = [("classes", 3), ("image_classes", 4), ("normals", 0), ("depth", 0), ("probability", 0)]
    assert [check_kind(kind, classes) for kind, classes in kinds] == [3, 4, 3, 1, 1]
