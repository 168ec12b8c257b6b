"""Labelled pictures in a folder: `images/` beside `labels/`, one file of the same name in each.

| kind | label of a picture | nothing known |
|---|---|---|
| classes | 8-bit grey PNG, the class id | 255 |
| probability | 8-bit grey PNG, 0 no, 255 yes | 1 to 254 |
| depth | 16-bit grey PNG in millimetres (any unit / 1000), or .npy, float32 [H, W] | 0 |
| normals | RGB PNG, (n + 1) / 2 * 255; x right, y up, z towards the viewer | 0, 0, 0 |
| image_classes | a line "name of the picture,class" of `labels.csv` | no line |

About a fifth of the pictures, chosen by their names, is held out and judged on.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ...runtime import load_image
from ...runtime.tasks import TaskSpec
from ..errors import DataError
from ..tasks import IGNORED_CLASS
from .kinds import LIKE

__all__ = ["FolderSamples", "open_folder"]

HELD_OUT = 5  # one picture in so many
_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_Entry = tuple[Path, "Path | int"]  # a picture, and its label or where that lies


class FolderSamples:
    """Pictures of a folder with the labels of one task, read when they are asked for."""

    def __init__(self, folder: Path, spec: TaskSpec, entries: list[_Entry]) -> None:
        self.folder = folder
        self.spec = spec
        self.entries = entries

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int, /) -> Mapping[str, Any]:
        picture, label = self.entries[index]
        image = load_image(picture).rgb
        truth = label if isinstance(label, int) else _read_label(label, self.spec)
        if isinstance(truth, np.ndarray) and truth.shape[:2] != image.shape[:2]:
            raise DataError(f"{label}: is {truth.shape[:2]}, its picture {image.shape[:2]}; they must be of one size")
        return {"image": image, LIKE[self.spec.kind]: truth}

    def __str__(self) -> str:
        return f"{self.folder.name}, {len(self)} pictures"


def open_folder(folder: Path, spec: TaskSpec) -> tuple[FolderSamples, FolderSamples]:
    """The pictures to train on, and those to judge on.

    Raises:
        DataError: no such folders, a picture without a label, or too few pictures.
    """
    images = folder / "images"
    if not images.is_dir():
        raise DataError(f"{folder}: must hold a folder 'images' of pictures, here is none")
    pictures = sorted(path for path in images.iterdir() if path.suffix.lower() in _PICTURES)
    entries = _labelled(folder, pictures, spec)
    held = [entry for entry in entries if _held_out(entry[0])]
    trained = [entry for entry in entries if not _held_out(entry[0])]
    if len(trained) < 2 or not held:
        raise DataError(f"{folder}: {len(entries)} labelled pictures are too few to train on some and judge on others")
    return FolderSamples(folder, spec, trained), FolderSamples(folder, spec, held)


def _held_out(picture: Path) -> bool:
    """By the name, so that pictures that are added later change nothing for the others."""
    return int(hashlib.sha256(picture.stem.encode()).hexdigest(), 16) % HELD_OUT == 0


def _labelled(folder: Path, pictures: list[Path], spec: TaskSpec) -> list[_Entry]:
    if spec.kind == "image_classes":
        labels = _read_table(folder / "labels.csv", spec.classes)
        return [(picture, labels[picture.name]) for picture in pictures if picture.name in labels]
    found: list[_Entry] = []
    for picture in pictures:
        places = [folder / "labels" / f"{picture.stem}{suffix}" for suffix in (".png", ".npy")]
        label = next((place for place in places if place.is_file()), None)
        if label is None:
            raise DataError(f"{picture}: has no label; {places[0]} is expected")
        found.append((picture, label))
    return found


def _read_table(path: Path, classes: tuple[str, ...]) -> dict[str, int]:
    if not path.is_file():
        raise DataError(f"{path}: is missing; it must hold lines 'name of the picture,class'")
    labels: dict[str, int] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.reader(file), 1):
            if not row:
                continue
            if len(row) != 2 or row[1].strip() not in classes:
                raise DataError(f"{path}, line {number}: expected 'picture,class' with a class of {classes}, got {row}")
            labels[row[0].strip()] = classes.index(row[1].strip())
    return labels


def _read_label(path: Path, spec: TaskSpec) -> np.ndarray:
    if path.suffix == ".npy":
        return _read_array(path, spec)
    found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    wanted = {"depth": (np.uint16, 2), "normals": (np.uint8, 3)}.get(spec.kind, (np.uint8, 2))
    if found is None or (found.dtype, found.ndim) != wanted:
        got = "no picture" if found is None else f"{found.dtype} with {found.ndim} axes"
        raise DataError(f"{path}: a label of kind {spec.kind} is {wanted[0].__name__} with {wanted[1]} axes, got {got}")
    if spec.kind == "depth":
        return found.astype(np.float32) / 1000
    if spec.kind == "normals":
        return _normals(found)
    if spec.kind == "probability":
        return np.where(found == 0, 0, np.where(found == 255, 1, IGNORED_CLASS)).astype(np.uint8)
    if (unknown := found[(found >= spec.channels) & (found != IGNORED_CLASS)]).size:
        raise DataError(f"{path}: class {int(unknown[0])} is not among the {spec.channels} classes (0 is the first)")
    return found


def _read_array(path: Path, spec: TaskSpec) -> np.ndarray:
    if spec.kind != "depth":
        raise DataError(f"{path}: labels of kind {spec.kind} are PNG files")
    try:
        return np.load(path, allow_pickle=False).astype(np.float32)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path}: is no array of numbers: {error}") from error


def _normals(bgr: np.ndarray) -> np.ndarray:
    rgb = bgr[..., ::-1].astype(np.float32)
    vectors = rgb / 127.5 - 1
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.where(rgb.any(axis=-1, keepdims=True), vectors / np.maximum(length, 1e-6), 0).astype(np.float32)
