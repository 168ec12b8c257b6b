"""The user's pictures: what `--data` names, with labels or without, some of them held out to judge on.

| data | labels | held out |
|---|---|---|
| a folder of pictures | none | a fifth, chosen by their names |
| LAYOUT=DIR, see `datasets` | those of the layout | its split `val`; without one, a fifth by their names |
| rooms:N | SynthRooms' | other rooms, the first that `slimpath eval` uses |
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...models import HeadConfig
from ...runtime.errors import ImageError
from ...runtime.imaging.image_headers import read_header
from ...runtime.imaging.images import load_image
from ..datasets import LAYOUTS, open_dataset
from ..datasets.files import FileDataset
from ..errors import DataError
from ..eval_data import ROOM_TASKS, other_classes
from ..eval_rooms import FIRST_EVALUATION_SEED
from ..merging.pictures import PICTURE_SUFFIXES, picture_files, room_count, rooms
from ..placed import Subset
from ..run_train import room_classes
from ..sources import SampleSource
from ..tasks import TASK_KINDS
from .errors import WITHOUT_LABELS, AdaptError

__all__ = ["AdaptData", "Blank", "open_data"]

FIRST_TRAINING_SEED = 8_000_000
"""Of rooms rendered for an adaptation: neither trainings nor merges nor evaluations use these."""

_HELD_OUT = 5  # one picture in so many
_SHOWN = 5


@dataclass(frozen=True)
class AdaptData:
    """Pictures to train on and to judge on.

    Args:
        labelled: their samples hold the ground truth of every task.
        names_sha256: of the names of the files that are trained and judged on; None where no files are.
    """

    name: str
    trained: SampleSource
    held: SampleSource
    labelled: bool
    names_sha256: str | None = None


class PictureFiles:
    """Picture files without labels, read when they are asked for."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int, /) -> Mapping[str, Any]:
        return {"image": load_image(self.paths[index]).rgb}


class Blank:
    """Pictures with labels that say nothing but where a picture is: what is distilled there has no other truth.

    Args:
        tasks: as the trainer calls them.
    """

    def __init__(self, source: SampleSource, tasks: Sequence[str]) -> None:
        self.source, self.tasks = source, tuple(tasks)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int, /) -> Mapping[str, Any]:
        image = self.source[index]["image"]
        return {"image": image} | {task: _blank(TASK_KINDS[task], image.shape[:2]) for task in self.tasks}


def _blank(kind: str, size_hw: tuple[int, int]) -> Any:
    if kind == "image_classes":
        return 0
    if kind == "normals":
        return np.broadcast_to(np.array([0, 0, 1], np.float32), (*size_hw, 3))
    return np.broadcast_to(np.float32(1) if kind == "depth" else np.uint8(0), size_hw)


def open_data(
    text: str, heads: Sequence[HeadConfig], size_hw: tuple[int, int], *, labels: bool | None = None, held: int = 100
) -> AdaptData:
    """The pictures that `--data` names.

    Args:
        heads: the tasks of the network.
        size_hw: of rooms that are rendered.
        labels: True: there must be some; False: they are left alone; None: taken where the data has any.
        held: rooms to judge on; folders hold out what they have.

    Raises:
        AdaptError: no pictures, pictures that cannot be read, or labels that a task does not have.
        DataError: files of a data set are missing or do not fit together.
    """
    kind, equals, root = text.partition("=")
    if text.startswith("rooms:"):
        data = _rooms(text, heads, size_hw, held, labels is not False)
    elif equals and kind in LAYOUTS:
        data = _dataset(kind, Path(root), heads, labels is not False)
    else:
        data = _folder(Path(text))
    if labels and not data.labelled:
        raise AdaptError(
            f"labels are asked for, {data.name} has none",
            hint=f"give LAYOUT=DIR with a layout of {', '.join(LAYOUTS)}, or leave --labels out",
        )
    return data


def _rooms(text: str, heads: Sequence[HeadConfig], size_hw: tuple[int, int], held: int, labelled: bool) -> AdaptData:
    count = room_count(text, AdaptError, hint="say rooms:600")
    if labelled:
        _check_tasks(heads, ROOM_TASKS, text)
        _check_classes(heads, room_classes(), (), text)
    trained, judged = (
        rooms(many, size_hw, first) for many, first in ((count, FIRST_TRAINING_SEED), (held, FIRST_EVALUATION_SEED))
    )
    return AdaptData(text, trained, judged, labelled)


def _dataset(layout: str, root: Path, heads: Sequence[HeadConfig], labelled: bool) -> AdaptData:
    tasks = [head.name for head in heads] if labelled else []
    name = f"{layout}, {root.resolve().name}/"
    if labelled:
        _check_tasks(heads, LAYOUTS[layout].labelled(root, "train"), name)
    train = open_dataset(layout, root, "train", tasks)
    if labelled:
        _check_classes(heads, train.classes, train.counted, name)
    try:
        judged = open_dataset(layout, root, "val", tasks)
    except DataError as error:
        if "is missing: the layout" not in str(error):
            raise
        judged = train
    names = [item.name for item in train.items]
    pictures = {item.image for item in train.items}  # names may be numbers that begin anew in each split
    if not pictures.isdisjoint(item.image for item in judged.items):
        return _split(name, train, names, labelled)
    if labelled:
        _check_classes(heads, judged.classes, judged.counted, f"{name}, split val,")
    return AdaptData(name, train, judged, labelled, _digest(names, [item.name for item in judged.items]))


def _folder(folder: Path) -> AdaptData:
    if not folder.is_dir():
        raise AdaptError(
            f"expected a folder of pictures, LAYOUT=DIR or rooms:N, got '{folder}'",
            hint=f"layouts are {', '.join(LAYOUTS)}",
        )
    paths = picture_files(folder)
    if not paths:
        raise AdaptError(
            f"{folder} holds no picture", hint=f"files must end with {', '.join(sorted(PICTURE_SUFFIXES))}"
        )
    bad = [f"{path} ({problem})" for path in paths if (problem := _problem(path))]
    if bad:
        more = f" and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        raise AdaptError(
            f"{len(bad)} of {len(paths)} pictures cannot be read: {'; '.join(bad[:_SHOWN])}{more}",
            hint="take them out of the folder",
        )
    return _split(f"{folder.resolve().name}/", PictureFiles(paths), [str(path.relative_to(folder)) for path in paths])


def _problem(path: Path) -> str:
    """What is wrong with a picture, by its header; nothing if it looks whole."""
    try:
        read_header(path.read_bytes())
    except (ImageError, OSError) as error:
        return str(error)
    return ""


def _split(name: str, source: SampleSource | FileDataset, names: Sequence[str], labelled: bool = False) -> AdaptData:
    """A fifth by the names, so that pictures that are added later change nothing for the others; at least one."""
    if len(names) < 2:
        raise AdaptError(f"{name}: {len(names)} pictures are too few to train on some and judge on others")
    places = [int(hashlib.sha256(text.encode()).hexdigest(), 16) / 2**256 for text in names]
    last = max(min(places), 1 / _HELD_OUT) if max(places) > 1 / _HELD_OUT else min(places)
    held = [number for number, place in enumerate(places) if place <= last]
    trained = [number for number, place in enumerate(places) if place > last]
    digest = _digest([names[number] for number in trained], [names[number] for number in held])
    return AdaptData(name, Subset(source, trained), Subset(source, held), labelled, digest)


def _digest(trained: Sequence[str], held: Sequence[str]) -> str:
    """What tells these pictures from others, wherever they lie."""
    return hashlib.sha256(json.dumps([sorted(trained), sorted(held)]).encode()).hexdigest()


def _check_tasks(heads: Sequence[HeadConfig], labelled: Sequence[str], name: str) -> None:
    if missing := [head.name for head in heads if head.name not in labelled or TASK_KINDS.get(head.name) != head.kind]:
        raise AdaptError(
            f"labels are needed for every task, {name} has none for {', '.join(missing)}", hint=WITHOUT_LABELS
        )


def _check_classes(
    heads: Sequence[HeadConfig], classes: Mapping[str, int], counted: Collection[str], name: str
) -> None:
    """Refuse other classes than the network's."""
    for head in heads:
        if (known := other_classes(head.name, head.channels, classes, counted)) is not None:
            raise AdaptError(f"'{head.name}' has {head.channels} classes, {name} labels {known}", hint=WITHOUT_LABELS)
