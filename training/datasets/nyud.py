"""NYUD-v2 for multi-task learning, in the two layouts that go round.

`nyud_mt` (NYUD_MT of ASTMT and Vandenhende's Multi-Task-Learning-PyTorch @ ed3d9ac, `data/nyud.py`; M3ViT, MTLoRA):

    gt_sets/{train,val}.txt    images/ID.jpg    segmentation/ID.png    depth/ID.npy    normals/ID.npy    edge/ID.npy

`nyud_v2` (NYUDv2 of ATRC; InvPT, TaskPrompter, MLoRE): images, normals and edges are .png.

Segmentation holds 0 for none and 1 to 40 for the classes; depth is in metres; .npy normals are vectors, .png ones
2 v / 255 - 1; edges are above a half of their largest possible value. Normals keep the axes of the data.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from .files import FileDataset, Item, read_labels, read_picture, unit_normals

__all__ = ["NyudMt", "NyudV2"]

CLASSES = 40


class NyudMt(FileDataset):
    """`nyud_mt`."""

    layout = "nyud_mt"
    known_tasks = ("semseg", "depth", "normals", "edge")
    resizes = True
    first_class, no_class = 1, 0
    endings: ClassVar[dict[str, str]] = {"image": "jpg", "normals": "npy", "edge": "npy"}

    @property
    def classes(self) -> dict[str, int]:
        return {"semseg": CLASSES}

    def find_items(self) -> list[Item]:
        files = {
            "semseg": ("segmentation", "png"),
            "depth": ("depth", "npy"),
            "normals": ("normals", self.endings["normals"]),
            "edge": ("edge", self.endings["edge"]),
        }
        return [
            Item(
                name,
                self.root / "images" / f"{name}.{self.endings['image']}",
                {task: self.root / files[task][0] / f"{name}.{files[task][1]}" for task in self.tasks},
            )
            for name in self.listed(self.root / "gt_sets" / f"{self.split}.txt")
        ]

    def read_label(self, task: str, item: Item) -> np.ndarray:
        path = item.labels[task]
        if task == "normals":
            vectors = np.load(path, allow_pickle=False) if path.suffix == ".npy" else read_picture(path) / 127.5 - 1
            return unit_normals(vectors, path)
        values = read_labels(path)
        if task == "semseg":
            return values
        if task == "depth":
            return np.maximum(np.nan_to_num(values.astype(np.float32), posinf=0), 0)
        return (values > (127 if path.suffix == ".png" else 0.5)).astype(np.uint8)


class NyudV2(NyudMt):
    """`nyud_v2`."""

    layout = "nyud_v2"
    endings: ClassVar[dict[str, str]] = {"image": "png", "normals": "png", "edge": "png"}
