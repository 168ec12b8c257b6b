"""Data is opened, split and checked before anything is trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slimpath.models import HeadConfig
from slimpath.tests.training.conftest import ToyRooms
from slimpath.tests.training.datasets.conftest import mtan, picture, write_list, write_picture, write_png
from slimpath.training.adapt.errors import AdaptError
from slimpath.training.adapt.pictures import FIRST_TRAINING_SEED, Blank, open_data
from slimpath.training.errors import DataError
from slimpath.training.eval_rooms import FIRST_EVALUATION_SEED

SEMSEG, DEPTH = HeadConfig("semseg", "classes", 3), HeadConfig("depth", "depth", 1)
SIZE = (32, 32)


def write_folder(root: Path, count: int = 12, classes: int = 3) -> Path:
    for number in range(count):
        write_picture(root / "images" / f"p{number}.png", picture(number))
        ids = np.random.default_rng(number).integers(0, classes, picture(number).shape[:2]).astype(np.uint8)
        write_png(root / "semseg" / f"p{number}.png", ids)
    return root


def test_a_folder_is_split_by_the_names_of_its_pictures(tmp_path: Path) -> None:
    for number in range(20):
        write_picture(tmp_path / "photos" / f"{number}.png", picture(number))
    data = open_data(str(tmp_path / "photos"), [DEPTH], SIZE)
    assert (data.name, data.labelled) == ("photos/", False)
    assert 0 < len(data.held) < len(data.trained) and len(data.held) + len(data.trained) == 20
    shown = {data.held[number]["image"].tobytes() for number in range(len(data.held))}
    assert shown.isdisjoint(data.trained[number]["image"].tobytes() for number in range(len(data.trained)))
    write_picture(tmp_path / "photos" / "one more.png", picture(99))
    again = open_data(str(tmp_path / "photos"), [DEPTH], SIZE)
    assert shown <= {again.held[number]["image"].tobytes() for number in range(len(again.held))}


@pytest.mark.parametrize("count", range(2, 9))
def test_few_pictures_are_split_all_the_same(tmp_path: Path, count: int) -> None:
    for number in range(count):
        write_picture(tmp_path / f"{number}.png", picture(number))
    data = open_data(str(tmp_path), [DEPTH], SIZE)
    assert min(len(data.held), len(data.trained)) >= 1 and len(data.held) + len(data.trained) == count


def test_blank_labels_say_where_a_picture_is_and_nothing_else() -> None:
    tasks = ("semseg", "depth", "normals", "saliency", "scene")
    sample = Blank(ToyRooms(), tasks)[1]
    assert np.array_equal(sample["image"], ToyRooms()[1]["image"])
    assert (sample["semseg"] == 0).all() and (sample["depth"] == 1).all() and (sample["saliency"] == 0).all()
    assert (sample["normals"] == (0, 0, 1)).all() and sample["scene"] == 0
    assert sample["normals"].shape == (*SIZE, 3) and sample["depth"].shape == SIZE


def test_labelled_files_without_a_list_of_splits_are_split_by_their_names(tmp_path: Path) -> None:
    data = open_data(f"folder={write_folder(tmp_path / 'mine')}", [SEMSEG], SIZE)
    assert data.labelled and data.name == "folder, mine/"
    assert len(data.trained) + len(data.held) == 12 and "semseg" in data.held[0]


def test_split_val_is_what_is_judged_on(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "mine")
    write_list(root / "train.txt", ["p0", "p1", "p2"])
    write_list(root / "val.txt", ["p7", "p8"])
    data = open_data(f"folder={root}", [SEMSEG], SIZE)
    assert (len(data.trained), len(data.held)) == (3, 2)
    assert np.array_equal(data.held[0]["image"], picture(7))
    (root / "val.txt").unlink()
    data = open_data(f"folder={root}", [SEMSEG], SIZE)  # no such split: some of the training's are held out
    assert (len(data.trained), len(data.held)) == (2, 1)


@pytest.mark.parametrize("labels", [None, False])
def test_split_val_of_numbered_files_is_what_is_judged_on(tmp_path: Path, labels: bool | None) -> None:
    """Pictures of both splits have the same names there, from 0 on."""
    root = mtan(tmp_path / "cityscapes", "label_7", normals=False)
    shown = picture(9)
    np.save(root / "val" / "image" / "0.npy", (shown / 255).astype(np.float32))
    data = open_data(f"mtan={root}", [HeadConfig("semseg", "classes", 7), DEPTH], SIZE, labels=labels)
    assert (len(data.trained), len(data.held), data.labelled) == (3, 1, labels is None)
    assert np.array_equal(data.held[0]["image"], shown)
    (root / "val").rename(root / "test")
    data = open_data(f"mtan={root}", [DEPTH], SIZE, labels=labels)
    assert len(data.trained) + len(data.held) == 3


def test_classes_that_only_the_split_val_has_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "mine")
    write_list(root / "train.txt", ["p0", "p1", "p2"])
    write_list(root / "val.txt", ["p7", "p8"])
    write_png(root / "semseg" / "p8.png", np.full(picture(8).shape[:2], 7, np.uint8))
    with pytest.raises(AdaptError, match="'semseg' has 3 classes, folder, mine/, split val, labels 8"):
        open_data(f"folder={root}", [SEMSEG], SIZE)
    assert open_data(f"folder={root}", [SEMSEG], SIZE, labels=False).held


def test_exchanged_pictures_are_told_apart_wherever_they_lie(tmp_path: Path) -> None:
    def digest(name: str, pictures: list[str]) -> str | None:
        for number, file in enumerate(pictures):
            write_picture(tmp_path / name / "photos" / file, picture(number))
        return open_data(str(tmp_path / name / "photos"), [DEPTH], SIZE).names_sha256

    first = digest("here", ["a.png", "b.png", "c.png"])
    assert first == digest("there", ["c.png", "a.png", "b.png"]) != digest("elsewhere", ["a.png", "b.png", "d.png"])
    root = write_folder(tmp_path / "mine")
    write_list(root / "train.txt", ["p0", "p1", "p2"])
    found = set()
    for judged in ("p7", "p8"):
        write_list(root / "val.txt", [judged])
        found.add(open_data(f"folder={root}", [SEMSEG], SIZE).names_sha256)
    assert len(found) == 2 and None not in found


def test_labels_can_be_left_alone_or_asked_for(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "mine")
    assert not open_data(f"folder={root}", [DEPTH], SIZE, labels=False).labelled
    with pytest.raises(AdaptError, match="labels are asked for, images/ has none"):
        open_data(str(root / "images"), [SEMSEG], SIZE, labels=True)


def test_a_task_without_labels_and_other_classes_are_named(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "mine")
    with pytest.raises(AdaptError, match=r"has none for depth; say --no-labels"):
        open_data(f"folder={root}", [SEMSEG, DEPTH], SIZE)
    with pytest.raises(AdaptError, match="'semseg' has 2 classes, folder, mine/ labels 3"):
        open_data(f"folder={root}", [HeadConfig("semseg", "classes", 2)], SIZE)
    more = [HeadConfig("semseg", "classes", 9)]
    assert open_data(f"folder={root}", more, SIZE).labelled  # they were counted: some may not occur
    write_list(root / "semseg.txt", ["a", "b", "c"])
    with pytest.raises(AdaptError, match="'semseg' has 9 classes, folder, mine/ labels 3"):
        open_data(f"folder={root}", more, SIZE)
    with pytest.raises(AdaptError, match="'semseg' has 3 classes, rooms:4 labels"):
        open_data("rooms:4", [SEMSEG], SIZE)
    with pytest.raises(AdaptError, match="has none for depth"):  # a task of that name, but of another kind
        open_data("rooms:4", [HeadConfig("depth", "probability", 1)], SIZE)


def test_damaged_files_of_a_data_set_are_named(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "mine")
    (root / "semseg" / "p3.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"p3\.png"):
        open_data(f"folder={root}", [SEMSEG], SIZE)


def test_rooms_to_train_and_to_judge_on_are_others() -> None:
    data = open_data("rooms:5", [DEPTH], SIZE, held=3)
    assert data.labelled and (len(data.trained), len(data.held)) == (5, 3)
    assert data.trained.config.first_seed == FIRST_TRAINING_SEED  # type: ignore[attr-defined]
    assert data.held.config.first_seed == FIRST_EVALUATION_SEED  # type: ignore[attr-defined]
    assert FIRST_TRAINING_SEED + 1_000_000 < FIRST_EVALUATION_SEED
