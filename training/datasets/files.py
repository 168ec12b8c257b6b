"""What all layouts share: the files of every sample are known and checked before anything is trained.

A sample is what `training.data` takes: `image` uint8 [H, W, 3] and, for each task asked for, class ids uint8 [H, W]
(255: none), depth float32 [H, W] in metres (0: none), normals float32 [H, W, 3] of length 1 (zero: none), edge and
saliency uint8 [H, W] (1, 0, or 255: none).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from ...runtime.errors import ImageError
from ...runtime.imaging.image_headers import read_header
from ...runtime.imaging.images import load_image
from ..errors import DataError
from ..tasks import IGNORED_CLASS

__all__ = ["FileDataset", "Item", "array_shape", "fitted", "read_labels", "read_picture", "unit_normals"]

_SHOWN = 8


@dataclass(frozen=True)
class Item:
    """One sample: its name, its picture, the file of each task, and what else is read for them."""

    name: str
    image: Path
    labels: Mapping[str, Path]
    others: tuple[Path, ...] = ()


class FileDataset(ABC):
    """Samples of one split, read from their files when they are asked for."""

    layout: ClassVar[str]
    known_tasks: ClassVar[tuple[str, ...]]
    resizes: ClassVar[bool] = False
    """True where labels of another size than their picture are resized, as the published loader does."""
    first_class: ClassVar[int] = 0
    """What files of class ids hold for the first class."""
    no_class: ClassVar[int] = IGNORED_CLASS
    """What they hold where there is no label."""
    counted: frozenset[str] = frozenset()
    """Tasks whose classes nothing names: a split may hold fewer than there are."""

    def __init__(self, root: Path, split: str, tasks: Sequence[str]) -> None:
        self.root, self.split, self.tasks = Path(root), split, tuple(tasks)
        if not self.root.is_dir():
            raise DataError(f"data.root must be a folder in the layout '{self.layout}', got {root}")
        if unknown := [task for task in self.tasks if task not in self.known_tasks]:
            raise DataError(
                f"the layout '{self.layout}' has {', '.join(self.known_tasks)}, not {', '.join(unknown)}; "
                "take them off `tasks`"
            )
        self.class_names: dict[str, list[str]] = {}
        self.items = self.find_items()
        if not self.items:
            raise DataError(f"{self.root}: the split '{split}' is empty")
        self._check()

    @classmethod
    def labelled(cls, root: Path, split: str) -> tuple[str, ...]:
        """The tasks that a folder in this layout has labels of, as far as its folders tell."""
        return cls.known_tasks

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int, /) -> dict[str, Any]:
        item = self.items[index]
        image = self.read_image(item.image)
        sample: dict[str, Any] = {"image": image}
        for task in self.tasks:
            label = self.read_label(task, item)
            if task in self.classes:
                label = self._class_ids(label, task, item.labels[task])
            if label.shape[:2] != image.shape[:2]:
                if not self.resizes:
                    raise DataError(f"{item.labels[task]} is {label.shape[:2]}, its picture {image.shape[:2]}")
                label = fitted(label, image.shape[:2])
            sample[task] = label
        return sample

    @property
    @abstractmethod
    def classes(self) -> dict[str, int]:
        """Number of classes of each task that has classes."""

    @abstractmethod
    def find_items(self) -> list[Item]:
        """Every sample of the split, whether its files are there or not."""

    @abstractmethod
    def read_label(self, task: str, item: Item) -> np.ndarray:
        """Ground truth of one task, in the form that the module describes; class ids as the file holds them."""

    def read_image(self, path: Path) -> np.ndarray:
        """The picture, uint8 [H, W, 3]."""
        return load_image(path).rgb

    def listed(self, path: Path) -> list[str]:
        """The names in a list of the split.

        Raises:
            DataError: there is no such list.
        """
        if not path.is_file():
            there = ", ".join(sorted(other.stem for other in path.parent.glob("*.txt"))) or "none"
            raise DataError(f"{path} is missing: the layout '{self.layout}' lists its splits there (found: {there})")
        return [name for line in path.read_text(encoding="utf-8").splitlines() if (name := line.strip())]

    def _class_ids(self, stored_HW: np.ndarray, task: str, path: Path) -> np.ndarray:
        """Class ids from 0 as uint8 [H, W], 255 where there is none.

        Raises:
            DataError: the file holds an id that is no class: it would end the training where its loss is computed.
        """
        last = min(self.classes[task], IGNORED_CLASS) - 1 + self.first_class
        none_HW = np.isin(stored_HW, (self.no_class, IGNORED_CLASS))
        class_HW = (stored_HW >= self.first_class) & (stored_HW <= last) & (stored_HW == np.rint(stored_HW))
        if (wrong := stored_HW[~(none_HW | class_HW)]).size:
            raise DataError(
                f"{path} holds class {wrong[0]:g} of '{task}', but {self.first_class} to {last} are allowed, and "
                f"{self.no_class} for none",
                hint="correct the file, or take the task off `tasks`",
            )
        return np.where(none_HW, IGNORED_CLASS, stored_HW - self.first_class).astype(np.uint8)

    def _check(self) -> None:
        """Refuse a split with files that are missing, damaged, or of a size that does not fit; name them."""
        problems: list[str] = []
        for item in self.items:
            size = _size_of(item.image, problems)
            for task in self.tasks:
                path = item.labels[task]
                found = _size_of(path, problems)
                if size and found and size != found and not self.resizes:
                    problems.append(f"{path} ({found[0]} x {found[1]}, its picture {size[0]} x {size[1]})")
            for path in item.others:
                _size_of(path, problems)
        if problems:
            more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
            raise DataError(
                f"{self.root}: of the files that split '{self.split}' needs, {len(problems)} are missing, damaged or "
                f"of another size: {'; '.join(problems[:_SHOWN])}{more}"
            )


def _size_of(path: Path, problems: list[str]) -> tuple[int, int] | None:
    """Height and width by the file's header; None where only reading it all would tell, or after noting a problem."""
    if not path.is_file():
        problems.append(f"{path} (missing)")
        return None
    try:
        if path.suffix == ".npy":
            return array_shape(path)[:2]  # type: ignore[return-value]
        if path.suffix != ".mat":
            header = read_header(path.read_bytes())
            return header.height, header.width
    except (ImageError, ValueError, OSError, EOFError) as error:
        problems.append(f"{path} ({error})")
    return None


def array_shape(path: Path) -> tuple[int, ...]:
    """Shape of a .npy file, by its header.

    Raises:
        ValueError: it is none, is cut off, or holds pickled objects.
        EOFError: it is empty.
    """
    return np.load(path, mmap_mode="r", allow_pickle=False).shape


def read_picture(path: Path) -> np.ndarray:
    """A label picture as it is stored: class ids of a palette stay ids, 16 bits stay 16 bits.

    Raises:
        DataError: Pillow cannot read it.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            return np.array(picture)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise DataError(f"{path} is not a picture that can be read: {error}") from error


def read_labels(path: Path) -> np.ndarray:
    """A label of one value per pixel, from .npy or a picture, [H, W].

    Raises:
        DataError: it has several values per pixel.
    """
    label = np.load(path, allow_pickle=False) if path.suffix == ".npy" else read_picture(path)
    if label.ndim == 3 and label.shape[-1] == 1:
        label = label[..., 0]
    if label.ndim != 2:
        raise DataError(f"{path} must hold one value per pixel, got an array of shape {label.shape}")
    return label


def unit_normals(vectors: np.ndarray, path: Path) -> np.ndarray:
    """Normals of length 1, float32 [H, W, 3]; those shorter than a half become "none".

    Raises:
        DataError: they are no vectors of three numbers.
    """
    if vectors.ndim != 3 or vectors.shape[-1] != 3:
        raise DataError(f"{path} must hold three numbers per pixel, got an array of shape {vectors.shape}")
    vectors = np.nan_to_num(vectors.astype(np.float32))
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.where(length > 0.5, vectors / np.maximum(length, 1e-6), 0).astype(np.float32)


def fitted(label: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """A label at its picture's size: the nearest value, never a mixture."""
    return cv2.resize(label, size_hw[::-1], interpolation=cv2.INTER_NEAREST)
