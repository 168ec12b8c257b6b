"""Cityscapes and NYUv2 as MTAN prepared them: numbered .npy files (CAGrad, Nash-MTL, SAMO @ c7c431c `data.py`).

    {train,val}/image/I.npy     float [H, W, 3], 0 to 1
    {train,val}/label_7/I.npy   Cityscapes, 7 classes; {train,val}/label/I.npy: NYUv2, 13 classes; -1 is none
    {train,val}/depth/I.npy     [H, W, 1]; NYUv2: metres; Cityscapes: inverse depth without unit; 0 is none
    {train,val}/normal/I.npy    NYUv2 only, [H, W, 3]

Inverse depth becomes 1 / value: right up to a scale, which the format does not tell.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import DataError
from .files import FileDataset, Item, read_labels, unit_normals

__all__ = ["Mtan"]


class Mtan(FileDataset):
    """`mtan`."""

    layout = "mtan"
    known_tasks = ("semseg", "depth", "normals")
    no_class = -1

    @classmethod
    def labelled(cls, root: Path, split: str) -> tuple[str, ...]:
        return cls.known_tasks[:2] if (root / split / "label_7").is_dir() else cls.known_tasks

    @property
    def cityscapes(self) -> bool:
        """True for Cityscapes, False for NYUv2: the folder of the labels tells."""
        return (self.root / self.split / "label_7").is_dir()

    @property
    def classes(self) -> dict[str, int]:
        return {"semseg": 7 if self.cityscapes else 13}

    def find_items(self) -> list[Item]:
        folder = self.root / self.split
        if not (folder / "image").is_dir():
            raise DataError(f"{folder / 'image'} is missing: the layout 'mtan' has its pictures there")
        if self.cityscapes and "normals" in self.tasks:
            raise DataError(f"{folder} is Cityscapes, which has no normals; take them off `tasks`")
        kinds = {"semseg": "label_7" if self.cityscapes else "label", "depth": "depth", "normals": "normal"}
        count = len(list((folder / "image").glob("*.npy")))
        return [
            Item(
                str(number),
                folder / "image" / f"{number}.npy",
                {task: folder / kinds[task] / f"{number}.npy" for task in self.tasks},
            )
            for number in range(count)
        ]

    def read_image(self, path: Path) -> np.ndarray:
        pixels = np.load(path, allow_pickle=False)
        if pixels.ndim != 3 or pixels.shape[-1] != 3:
            raise DataError(f"{path} must be a picture [H, W, 3], got shape {pixels.shape}")
        return np.clip(np.rint(pixels.astype(np.float32) * 255), 0, 255).astype(np.uint8)

    def read_label(self, task: str, item: Item) -> np.ndarray:
        path = item.labels[task]
        if task == "normals":
            return unit_normals(np.load(path, allow_pickle=False), path)
        values = read_labels(path)
        if task == "semseg":
            return values
        depth = np.maximum(np.nan_to_num(values.astype(np.float32), posinf=0), 0)
        if self.cityscapes:
            return np.divide(1.0, depth, out=np.zeros_like(depth), where=depth > 0)
        return depth
