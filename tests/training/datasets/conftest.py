"""Tiny data sets, written as the published ones lie on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

SIZE_HW = (20, 28)
PERSON, CHAIR, SKY = 284, 72, 360  # classes of PASCAL-Context; NYU has the first two, and no sky


def picture(seed: int, size_hw: tuple[int, int] = SIZE_HW) -> np.ndarray:
    """Smooth colours, so that a JPEG keeps them."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (3, 4, 3)).astype(np.uint8)
    return cv2.resize(small, size_hw[::-1], interpolation=cv2.INTER_LINEAR)


def write_picture(path: Path, rgb: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), rgb[..., ::-1])


def write_png(path: Path, values: np.ndarray, *, palette: bool = False) -> None:
    """`palette`: as VOC writes its classes, ids into a table of colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values)
    if palette:
        image.putpalette(list(range(255, -1, -1)) * 3)
    image.save(path)


def write_npy(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)


def write_list(path: Path, names: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(names) + "\n")


def coded(normals: np.ndarray) -> np.ndarray:
    """Vectors in 8 bits, v = 127.5 (n + 1)."""
    return np.rint((normals + 1) * 127.5).astype(np.uint8)


def directions(seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(*SIZE_HW, 3))
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def thing(kind: int, mask: np.ndarray, parts: list[tuple[str, np.ndarray]]) -> tuple[Any, ...]:
    """An object of PASCAL-Part: class, class_ind, mask, parts."""
    inner = np.zeros((1, len(parts)), [("part_name", "O"), ("mask", "O")])
    for place, (name, part_mask) in enumerate(parts):
        inner[0, place] = (name, part_mask.astype(np.uint8))
    return ("thing", kind, mask.astype(np.uint8), inner if parts else np.zeros((0, 0)))


def write_parts(path: Path, things: list[tuple[Any, ...]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    objects = np.zeros((1, len(things)), [("class", "O"), ("class_ind", "O"), ("mask", "O"), ("parts", "O")])
    for place, values in enumerate(things):
        objects[0, place] = values
    anno = np.zeros((1, 1), [("imname", "O"), ("objects", "O")])
    anno[0, 0] = (path.stem, objects)
    savemat(path, {"anno": anno})


def box(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros(SIZE_HW, bool)
    mask[top:bottom, left:right] = True
    return mask


@pytest.fixture(scope="session")
def pascal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures: a person on a chair with VOC's classes, and a street with those of the context set only."""
    root = tmp_path_factory.mktemp("PASCAL_MT")
    write_list(root / "ImageSets/Context/train.txt", ["2008_000001", "2008_000002"])
    write_list(root / "ImageSets/Context/val.txt", ["2008_000002"])
    for number, name in enumerate(("2008_000001", "2008_000002")):
        write_picture(root / f"JPEGImages/{name}.jpg", picture(number))
        write_png(root / f"normals_distill/{name}.png", coded(directions(number)))
        write_png(root / f"sal_distill/{name}.png", (255 * box(2, 2, 9, 9)).astype(np.uint8) // (1 + number))
        labels = np.full(SIZE_HW, SKY, np.uint16)
        labels[box(5, 4, 15, 14)] = PERSON
        labels[box(12, 4, 18, 20)] = CHAIR
        (root / "pascal-context/trainval").mkdir(parents=True, exist_ok=True)
        savemat(root / f"pascal-context/trainval/{name}.mat", {"LabelMap": labels})
        classes = np.where(labels == PERSON, 15, 0).astype(np.uint8)
        classes[0] = 255
        write_png(root / f"semseg/{('VOC12', 'pascal-context')[number]}/{name}.png", classes, palette=number == 0)
    body = [("head", box(2, 2, 6, 8)), ("torso", box(6, 2, 12, 8)), ("rlleg", box(12, 2, 18, 5))]
    other = thing(9, box(0, 20, 5, 25), [])
    write_parts(root / "human_parts/2008_000001.mat", [other, thing(15, box(2, 2, 18, 8), body)])
    write_parts(root / "human_parts/2008_000002.mat", [other])
    return root


def nyud(root: Path, *, pictures: str, maps: str) -> Path:
    write_list(root / "gt_sets/train.txt", ["1", "3"])
    write_list(root / "gt_sets/val.txt", ["2"])
    for number in (1, 2, 3):
        write_picture(root / f"images/{number}.{pictures}", picture(number))
        write_png(root / f"segmentation/{number}.png", np.arange(560).reshape(SIZE_HW).astype(np.uint8) % 41)
        depth = np.linspace(0, 9, 560, dtype=np.float32).reshape(SIZE_HW)
        write_npy(root / f"depth/{number}.npy", depth)
        if maps == "npy":
            write_npy(root / f"normals/{number}.npy", directions(number))
            write_npy(root / f"edge/{number}.npy", box(3, 3, 4, 20).astype(np.float32))
        else:
            write_png(root / f"normals/{number}.png", coded(directions(number)))
            write_png(root / f"edge/{number}.png", (255 * box(3, 3, 4, 20)).astype(np.uint8))
    return root


@pytest.fixture(scope="session")
def nyud_mt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nyud(tmp_path_factory.mktemp("NYUD_MT"), pictures="jpg", maps="npy")


@pytest.fixture(scope="session")
def nyud_v2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nyud(tmp_path_factory.mktemp("NYUDv2"), pictures="png", maps="png")


def mtan(root: Path, labels: str, *, normals: bool) -> Path:
    for split, count in (("train", 3), ("val", 1)):
        for number in range(count):
            write_npy(root / split / f"image/{number}.npy", (picture(number) / 255).astype(np.float32))
            classes = (np.arange(560).reshape(SIZE_HW) % 8 - 1).astype(np.float32)
            write_npy(root / split / f"{labels}/{number}.npy", classes)
            values = np.linspace(0, 0.5, 560, dtype=np.float32).reshape(*SIZE_HW, 1)
            write_npy(root / split / f"depth/{number}.npy", values)
            if normals:
                write_npy(root / split / f"normal/{number}.npy", directions(number))
    return root


@pytest.fixture(scope="session")
def mtan_cityscapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mtan(tmp_path_factory.mktemp("cityscapes"), "label_7", normals=False)


@pytest.fixture(scope="session")
def mtan_nyuv2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mtan(tmp_path_factory.mktemp("nyuv2"), "label", normals=True)


def write_folder(root: Path) -> Path:
    """A plain folder: two pictures, every task, one of them in each of its two forms."""
    for number, name in enumerate(("kitchen", "hall")):
        write_picture(root / f"images/{name}.{('jpg', 'png')[number]}", picture(number))
        classes = np.where(box(0, 0, 10, 28), 0, 4).astype(np.uint8)
        classes[0, 0] = 255
        write_png(root / f"semseg/{name}.png", classes)
        metres = np.full(SIZE_HW, 2.5, np.float32)
        metres[0] = 0
        if number:
            write_npy(root / f"depth/{name}.npy", metres)
            write_npy(root / f"normals/{name}.npy", 3 * directions(number))
        else:
            write_png(root / f"depth/{name}.png", (1000 * metres).astype(np.uint16))
            write_png(root / f"normals/{name}.png", coded(directions(number)))
        write_png(root / f"edge/{name}.png", (255 * box(9, 0, 10, 28)).astype(np.uint8))
        write_png(root / f"saliency/{name}.png", (255 * box(5, 5, 9, 9)).astype(np.uint8))
    return root


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "mine")
