"""PASCAL-Context for multi-task learning: PASCAL_MT of ASTMT (Maninis et al. 2019), as Vandenhende's
Multi-Task-Learning-PyTorch @ ed3d9ac reads it (`data/pascal_context.py`); also M3ViT, MTLoRA, InvPT.

    ImageSets/Context/{train,val}.txt
    JPEGImages/ID.jpg
    semseg/VOC12/ID.png, else semseg/pascal-context/ID.png    0 to 20, 255 none
    human_parts/ID.mat             PASCAL-Part `anno`: 24 parts become 6, and 0 for what is none of them
    normals_distill/ID.png         2 v / 255 - 1, only where the context class is one that NYU has, too
    sal_distill/ID.png             above a half
    pascal-context/trainval/ID.mat `LabelMap`: edges are where its Laplacian is not 0, thinned

Normals keep the axes of the data. A picture without people has no label for human parts at all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..errors import DataError
from ..tasks import IGNORED_CLASS
from .files import FileDataset, Item, read_labels, read_picture, unit_normals

__all__ = ["PARTS", "PascalMt"]

_HINT = "unpack this file of PASCAL_MT again, or take it off the split"
_PERSON = 15
_PARTS_OF = {
    1: "hair head lear lebrow leye mouth nose rear rebrow reye",
    2: "neck torso",
    3: "luarm ruarm",
    4: "lhand llarm rhand rlarm",
    5: "luleg ruleg",
    6: "lfoot llleg rfoot rlleg",
}
PARTS = {name: number for number, names in _PARTS_OF.items() for name in names.split()}
"""PASCAL-Part's 24 parts of a person: head 1, torso 2, upper arms 3, lower arms 4, upper legs 5, lower legs 6."""

# Classes of PASCAL-Context whose names NYU has as well (equal names in the published class lists), and tvmonitor, 427.
# fmt: off
NORMALS_CLASSES = (
    3, 4, 6, 9, 10, 11, 13, 15, 17, 18, 22, 23, 29, 30, 33, 34, 36, 37, 38, 39, 41, 43, 46, 49, 50, 51, 53, 55, 56,
    59, 61, 62, 65, 66, 68, 69, 72, 73, 78, 83, 84, 85, 87, 88, 95, 96, 101, 104, 105, 107, 111, 113, 115, 122, 124,
    135, 141, 142, 143, 146, 150, 154, 157, 158, 159, 165, 172, 174, 181, 183, 184, 191, 193, 195, 197, 199, 202, 213,
    215, 216, 219, 220, 223, 225, 228, 230, 232, 233, 238, 239, 242, 243, 246, 250, 251, 252, 255, 260, 261, 263, 269,
    272, 273, 275, 281, 283, 284, 285, 286, 287, 288, 290, 291, 292, 293, 295, 304, 307, 309, 310, 314, 315, 319, 323,
    329, 330, 331, 336, 342, 345, 349, 350, 351, 352, 355, 357, 368, 370, 371, 374, 379, 380, 383, 384, 397, 401, 403,
    405, 407, 408, 411, 412, 413, 414, 417, 419, 421, 423, 427, 429, 430, 432, 440, 441, 442, 443, 444, 446, 454, 457,
)
# fmt: on


class PascalMt(FileDataset):
    """`pascal_mt`."""

    layout = "pascal_mt"
    known_tasks = ("semseg", "human_parts", "saliency", "normals", "edge")
    resizes = True

    @property
    def classes(self) -> dict[str, int]:
        return {"semseg": 21, "human_parts": 7}

    def find_items(self) -> list[Item]:
        names = self.listed(self.root / "ImageSets" / "Context" / f"{self.split}.txt")
        masked = "normals" in self.tasks and "edge" not in self.tasks  # normals need the classes, too
        return [
            Item(
                name,
                self.root / "JPEGImages" / f"{name}.jpg",
                {task: self._file(task, name) for task in self.tasks},
                (self._context_file(name),) if masked else (),
            )
            for name in names
        ]

    def _file(self, task: str, name: str) -> Path:
        if task == "semseg":
            own = self.root / "semseg" / "VOC12" / f"{name}.png"
            return own if own.is_file() else self.root / "semseg" / "pascal-context" / f"{name}.png"
        if task == "edge":
            return self._context_file(name)
        folder, ending = {
            "human_parts": ("human_parts", "mat"),
            "normals": ("normals_distill", "png"),
            "saliency": ("sal_distill", "png"),
        }[task]
        return self.root / folder / f"{name}.{ending}"

    def _context_file(self, name: str) -> Path:
        return self.root / "pascal-context" / "trainval" / f"{name}.mat"

    def read_label(self, task: str, item: Item) -> np.ndarray:
        path = item.labels[task]
        if task == "semseg":
            return read_labels(path)
        if task == "saliency":
            return (read_labels(path) > 127.5).astype(np.uint8)
        if task == "edge":
            return context_edges(self._context(item))
        if task == "human_parts":
            try:
                return human_parts(_matlab(path, "anno"))
            except (AttributeError, LookupError, TypeError, ValueError) as error:
                raise DataError(f"{path}: `anno` is not laid out as PASCAL-Part's: {error!r}", hint=_HINT) from error
        vectors = unit_normals(read_picture(path) / 127.5 - 1, path)
        context = self._context(item)
        if context.shape != vectors.shape[:2]:
            context = cv2.resize(context, vectors.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        return vectors * np.isin(context, NORMALS_CLASSES)[..., None]

    def _context(self, item: Item) -> np.ndarray:
        path = self._context_file(item.name)
        labels = np.asarray(_matlab(path, "LabelMap"))
        if labels.ndim != 2 or labels.dtype.kind not in "uif":
            raise DataError(
                f"{path}: `LabelMap` must hold one number per pixel, got {labels.dtype} of shape {labels.shape}",
                hint=_HINT,
            )
        return labels.astype(np.uint16)


def context_edges(labels_HW: np.ndarray) -> np.ndarray:
    """Where labels change, one pixel wide, uint8 0 or 1."""
    from skimage.morphology import thin

    return thin(np.abs(cv2.Laplacian(labels_HW, cv2.CV_64F)) > 0).astype(np.uint8)


def human_parts(anno: Any) -> np.ndarray:
    """Parts of all people in PASCAL-Part's annotation, uint8 [H, W]; 255 everywhere if none has parts.

    Args:
        anno: the structure as `scipy.io.loadmat` gives it: (imname, objects), an object being (class, class_ind, mask,
            parts), a part (part_name, mask).
    """
    target: np.ndarray | None = None
    size_hw = (1, 1)
    for thing in anno[0][0][1][0]:
        size_hw = thing[2].shape
        if thing[1][0][0] != _PERSON or len(thing[3]) == 0:
            continue
        target = np.zeros(size_hw, np.uint8) if target is None else target
        for part in thing[3][0]:
            target[part[1].astype(bool)] = PARTS[str(part[0][0])]
    if target is None or not target.any():
        return np.full(size_hw, IGNORED_CLASS, np.uint8)
    return target


def _matlab(path: Path, name: str) -> Any:
    """A variable of a .mat file.

    Raises:
        DataError: scipy cannot read the file, or the variable is not in it.
    """
    from scipy.io import loadmat

    try:
        variables = loadmat(path)
    except Exception as error:  # scipy raises a dozen types on a damaged file
        raise DataError(f"{path} is not a .mat file that scipy can read: {error}", hint=_HINT) from error
    if name not in variables:
        there = ", ".join(key for key in variables if not key.startswith("__")) or "nothing"
        raise DataError(f"{path} must hold `{name}`, got {there}", hint=_HINT)
    return variables[name]
