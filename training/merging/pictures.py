"""Pictures that coefficients are learned on: the files of a folder, rendered rooms, or a folder of these.

Axes: I pictures, H and W sides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...models import HeadConfig
from ...runtime.bundles.preprocessing import Preprocessing
from ...runtime.imaging.preprocess import preprocess
from ..config import DataConfig
from ..data import stack_targets
from ..errors import TrainingError
from ..losses import class_weights
from ..run_train import room_classes
from ..sources import RenderedRooms, SampleSource, class_frequencies
from ..tasks import TASK_KINDS
from .errors import MergeError

__all__ = [
    "FIRST_SEED",
    "PICTURE_SUFFIXES",
    "LabelledPictures",
    "Pictures",
    "open_pictures",
    "picture_files",
    "room_count",
    "rooms",
]

FIRST_SEED = 7_000_000
"""Of rooms rendered for a merge: below are those of trainings, from 10,000,000 on those of evaluations."""

_MOST_ROOMS = 1_000_000  # seeds of merges, adaptations and evaluations lie further apart than that
_KEPT = 256  # prepared pictures in memory: 150 MB at 224 x 224


class Pictures:
    """Pictures by number, prepared for one network."""

    def __init__(
        self, count: int, read: Callable[[int], np.ndarray], size_hw: tuple[int, int], spec: Preprocessing, name: str
    ) -> None:
        if count < 1:
            raise MergeError(f"expected at least one picture, got none in {name}")
        self.count, self.name = count, name
        self._plane = lru_cache(_KEPT)(lambda number: torch.from_numpy(preprocess(read(number), size_hw, spec)[0]))

    def stacked(self, numbers: Sequence[int]) -> Tensor:
        """Some of them, [I, 3, H, W]."""
        return torch.stack([self._plane(number) for number in numbers])

    def batches(self, images: int, steps: int, seed: int) -> Iterator[Tensor]:
        """`steps` batches of `images` pictures; see `draws`."""
        for numbers in draws(self.count, images, steps, seed):
            yield self.stacked(numbers)


class LabelledPictures(Pictures):
    """Pictures with the ground truth of some tasks: anything with a length and samples, as trainings use them."""

    def __init__(
        self,
        source: SampleSource,
        heads: Sequence[HeadConfig],
        size_hw: tuple[int, int],
        spec: Preprocessing,
        name: str,
    ) -> None:
        super().__init__(len(source), lambda number: source[number]["image"], size_hw, spec, name)
        self.source, self.heads = source, tuple(heads)
        _check_labels(source[0], heads, size_hw, name)

    def class_weights(self) -> dict[str, Tensor]:
        """Weights of the tasks that name the class of every pixel, as trainings have them."""
        dense = [head for head in self.heads if head.kind == "classes"]
        return {head.name: class_weights(class_frequencies(self.source, head.name, head.channels)) for head in dense}

    def labelled_batches(self, images: int, steps: int, seed: int) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """As `batches`, each with the targets of every task (see `slimpath.training.data.Batch`)."""
        for numbers in draws(self.count, images, steps, seed):
            samples = [self.source[number] for number in numbers]
            targets = {
                head.name: stack_targets(head.name, [np.asarray(sample[head.name]) for sample in samples])
                for head in self.heads
            }
            yield self.stacked(numbers), targets


def draws(count: int, images: int, steps: int, seed: int) -> Iterator[list[int]]:
    """Numbers of each step's pictures: every one equally often, in an order that is shuffled anew each time round."""
    rng = np.random.default_rng([seed, 5])
    images, order = min(images, count), []
    for _ in range(steps):
        while len(order) < images:
            order += [int(number) for number in rng.permutation(count)]
        yield order[:images]
        order = order[images:]


def rooms(count: int, size_hw: tuple[int, int], first_seed: int = FIRST_SEED) -> SampleSource:
    """Rendered rooms, each when it is first asked for."""
    return RenderedRooms(DataConfig(first_seed=first_seed, scenes=count, render_hw=size_hw))


def room_count(text: str, refusal: type[TrainingError], hint: str) -> int:
    """N of "rooms:N"; raises `refusal` where that is no number of rooms."""
    count = text.removeprefix("rooms:")
    if not count.isdecimal() or not 1 <= int(count) <= _MOST_ROOMS:
        raise refusal(f"rooms:N needs a number of rooms from 1 to {_MOST_ROOMS}, got '{text}'", hint=hint)
    return int(count)


def picture_files(folder: Path) -> list[Path]:
    """The picture files of a folder and of the folders in it, in order."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file())


def open_pictures(
    text: str, heads: Sequence[HeadConfig], size_hw: tuple[int, int], spec: Preprocessing, *, labelled: bool
) -> Pictures:
    """The pictures that `--data` names: "rooms:N", a folder of rendered rooms, or a folder of picture files.

    Raises:
        MergeError: none of these; or labels are needed and the pictures have none.
    """
    if text.startswith("rooms:"):
        count = room_count(text, MergeError, hint="say rooms:64")
        return _of_samples(rooms(count, size_hw), heads, size_hw, spec, text, labelled)
    folder = Path(text)
    if not folder.is_dir():
        raise MergeError(f"expected a folder of pictures or rooms:N, got '{text}'", hint="say rooms:64")
    if (folder / "config.json").is_file():
        return _of_samples(_shards(folder), heads, size_hw, spec, f"{folder.resolve().name}/", labelled)
    if labelled:
        raise MergeError(
            f"atlas learns on labelled pictures, got the plain folder {folder}",
            hint="say rooms:64, give a folder of rendered rooms, or take adamerging, which needs no labels",
        )
    paths = picture_files(folder)
    return Pictures(len(paths), lambda number: _read(paths[number]), size_hw, spec, f"{folder.resolve().name}/")


PICTURE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


def _of_samples(
    source: SampleSource,
    heads: Sequence[HeadConfig],
    size_hw: tuple[int, int],
    spec: Preprocessing,
    name: str,
    labelled: bool,
) -> Pictures:
    if labelled:
        for head in heads:
            if (labels := room_classes().get(head.name, head.channels)) != head.channels:
                raise MergeError(
                    f"'{head.name}' has {head.channels} classes, {name} labels {labels}",
                    hint="take adamerging, which needs no labels",
                )
        return LabelledPictures(source, heads, size_hw, spec, name)
    return Pictures(len(source), lambda number: source[number]["image"], size_hw, spec, name)


def _shards(folder: Path) -> SampleSource:
    from ..synthrooms.cache import RoomShards

    try:
        return RoomShards(folder)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise MergeError(
            f"{folder / 'config.json'} is not that of rendered rooms: {error}",
            hint="of a folder of pictures, move this file somewhere else",
        ) from error


def _read(path: Path) -> np.ndarray:
    from ...runtime import load_image

    return load_image(path).rgb


def _check_labels(sample: Mapping[str, Any], heads: Sequence[HeadConfig], size_hw: tuple[int, int], name: str) -> None:
    if missing := [head.name for head in heads if head.name not in sample or TASK_KINDS.get(head.name) != head.kind]:
        raise MergeError(
            f"expected labels of every task, {name} has none of {', '.join(missing)}",
            hint="take adamerging, which needs no labels",
        )
    if sample["image"].shape[:2] != size_hw:
        raise MergeError(
            f"expected labelled pictures of the network's size {size_hw}, got {sample['image'].shape[:2]} in {name}",
            hint="render rooms of that size, or say rooms:N",
        )
