"""Your own data in a plain folder.

images/NAME.jpg (or .jpeg, .png, .webp)        the pictures; every other file has its picture's NAME
semseg/NAME.png, human_parts/NAME.png          class ids from 0; 255 is none (.npy works, too)
depth/NAME.npy, or depth/NAME.png              metres; or millimetres in 16 bits; 0 is none
normals/NAME.npy, or normals/NAME.png          vectors; or 2 v / 255 - 1; x right, y up, z towards the viewer
edge/NAME.png, saliency/NAME.png               above a half: yes
train.txt, val.txt, ...                        names, one a line; without, every picture is in every split
semseg.txt, human_parts.txt                    names of the classes, one a line; without, classes are counted
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import DataError
from ..tasks import IGNORED_CLASS
from .files import FileDataset, Item, read_labels, read_picture, unit_normals

__all__ = ["PlainFolder"]

_PICTURES = (".jpg", ".jpeg", ".png", ".webp")


class PlainFolder(FileDataset):
    """`folder`."""

    layout = "folder"
    known_tasks = ("semseg", "human_parts", "depth", "normals", "edge", "saliency")

    def __init__(self, root: Path, split: str, tasks: list[str] | tuple[str, ...]) -> None:
        super().__init__(root, split, tasks)
        lists = {task: self.root / f"{task}.txt" for task in self.tasks if task in ("semseg", "human_parts")}
        self.class_names = {task: self.listed(path) for task, path in lists.items() if path.is_file()}
        self.counted = frozenset(lists) - frozenset(self.class_names)
        self._classes = {task: self._count(task) for task in lists}

    @classmethod
    def labelled(cls, root: Path, split: str) -> tuple[str, ...]:
        return tuple(task for task in cls.known_tasks if (root / task).is_dir())

    @property
    def classes(self) -> dict[str, int]:
        return dict(self._classes)

    def find_items(self) -> list[Item]:
        files = sorted((self.root / "images").glob("*"))
        pictures = {path.stem: path for path in files if path.suffix.lower() in _PICTURES}
        if not pictures:
            raise DataError(f"{self.root / 'images'} holds no picture ({', '.join(_PICTURES)})")
        lists = self.root.glob("*.txt")
        chosen = self.root / f"{self.split}.txt"
        named = chosen.is_file() or any(path.stem in ("train", "val", "test") for path in lists)
        names = self.listed(chosen) if named else list(pictures)
        return [
            Item(
                name,
                pictures.get(name, self.root / "images" / f"{name}.jpg"),
                {task: self._file(task, name) for task in self.tasks},
            )
            for name in names
        ]

    def _file(self, task: str, name: str) -> Path:
        array = self.root / task / f"{name}.npy"
        return array if array.is_file() else array.with_suffix(".png")

    def _count(self, task: str) -> int:
        """Number of classes: as many as have names, else one more than the largest id."""
        if task in self.class_names:
            return len(self.class_names[task])
        largest = 0
        for item in self.items:
            ids = read_labels(item.labels[task])
            largest = max(largest, int(ids[ids != IGNORED_CLASS].max(initial=0)))
        return largest + 1

    def read_label(self, task: str, item: Item) -> np.ndarray:
        path = item.labels[task]
        array = path.suffix == ".npy"
        if task == "normals":
            return unit_normals(np.load(path, allow_pickle=False) if array else read_picture(path) / 127.5 - 1, path)
        values = read_labels(path)
        if task == "depth":
            metres = values.astype(np.float32) / np.float32(1 if array else 1000)
            return np.maximum(np.nan_to_num(metres, posinf=0), 0)
        if task in ("edge", "saliency"):
            return (values > (0.5 if array or values.dtype == bool else 127)).astype(np.uint8)
        return values
