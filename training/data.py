"""Samples become batches: the same ones for the same (config, step), made ahead in a background thread.

A sample source is anything with a length and `source[i] -> {"image": uint8 HxWx3, task: ground truth, ...}`.
Nothing here has a state of its own: batch `step` is a function of (seed, step, samples seen), which is all that a
resumed training has to remember.

Axes: I images, B rows (one task each), H height, W width.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from ..runtime.bundles.manifest import Preprocessing
from .augment import IMAGE_MEAN, IMAGE_STD, AugmentConfig, augment, draw_view, photometric
from .config import DataConfig, TrainConfig
from .errors import DataError
from .tasks import IGNORED_CLASS, TASK_KINDS

__all__ = [
    "Batch",
    "BatchMaker",
    "SampleSource",
    "change_of_units",
    "normalise",
    "open_source",
    "prefetch",
    "stratified_tasks",
]


class SampleSource(Protocol):
    """Labelled pictures by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Mapping[str, Any]: ...


@dataclass
class Batch:
    """Pictures, the task of each row, and the rows' targets.

    `targets[task]` stacks the targets of that task's rows in row order: class ids int64 [R,H,W] (255: none);
    depth float32 [R,1,H,W] (0: none); normals float32 [R,3,H,W] (zero: none); probability uint8 [R,1,H,W] (255:
    none); image classes int64 [R]. `image_labels[task]` holds an image-level task's label of every image, int64 [I].
    """

    image_I3HW: Tensor
    image_index_B: Tensor
    task_of_row: list[str]
    targets: dict[str, Tensor]
    samples: list[int]
    image_labels: dict[str, Tensor] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Number of rows, over all tasks."""
        return len(self.task_of_row)

    def present_tasks(self) -> set[str]:
        """The tasks that have a target here."""
        return set(self.targets) | set(self.image_labels)

    def to(self, device: str) -> Batch:
        """The same batch on `device`."""
        if device == "cpu":
            return self
        targets = {task: target.to(device, non_blocking=True) for task, target in self.targets.items()}
        image, index = self.image_I3HW.to(device), self.image_index_B.to(device)
        labels = {task: label.to(device) for task, label in self.image_labels.items()}
        return Batch(image, index, self.task_of_row, targets, self.samples, labels)


def stratified_tasks(rng: np.random.Generator, tasks: Sequence[str], rows: int) -> list[str]:
    """One task per row: all tasks equally often (to within one), neighbours different, in random order.

    Because the order repeats, any `len(tasks)` rows in a row hold every task once: rows that share an image never
    share their task.
    """
    order = rng.permutation(len(tasks))
    return [tasks[int(order[row % len(tasks)])] for row in range(rows)]


def normalise(image_IHW3: np.ndarray) -> Tensor:
    """uint8 pictures as the network takes them: float32 [I,3,H,W], mean and deviation of ImageNet."""
    scale = torch.tensor([1 / (255 * deviation) for deviation in IMAGE_STD])
    shift = torch.tensor([mean / deviation for mean, deviation in zip(IMAGE_MEAN, IMAGE_STD, strict=True)])
    image = torch.from_numpy(image_IHW3).to(torch.float32) * scale - shift
    return image.permute(0, 3, 1, 2).contiguous()


def change_of_units(preprocessing: Preprocessing) -> tuple[Tensor, Tensor]:
    """Scale and shift, [3, 1, 1] each, that turn a picture of `normalise` into the same one in other terms."""
    mean, std = torch.tensor(preprocessing.mean), torch.tensor(preprocessing.std)
    scale = torch.tensor(IMAGE_STD) / std
    shift = (torch.tensor(IMAGE_MEAN) - mean) / std
    return scale.reshape(3, 1, 1), shift.reshape(3, 1, 1)


class BatchMaker:
    """Makes batch number `step`."""

    def __init__(
        self, source: SampleSource, tasks: Sequence[str], *, seed: int, augment: AugmentConfig, rows_per_image: int = 1
    ) -> None:
        if len(source) == 0:
            raise DataError("expected at least one sample, got an empty source")
        if missing := [task for task in tasks if task not in source[0]]:
            raise DataError(f"samples hold {sorted(source[0])}, but the tasks need {missing}; take them off `tasks`")
        self.source = source
        self.tasks = tuple(tasks)
        self.seed = seed
        self.config = augment
        self.rows_per_image = rows_per_image
        self._order: tuple[int, np.ndarray] | None = None

    def sample_number(self, seen: int) -> int:
        """Which sample comes after `seen` others: every epoch is its own shuffle of the source."""
        epoch, place = divmod(seen, len(self.source))
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, np.random.default_rng([self.seed, 1, epoch]).permutation(len(self.source))
        return int(self._order[1][place])

    def __call__(self, step: int, seen: int, rows: int, image_hw: tuple[int, int]) -> Batch:
        """Batch `step`, whose first image is number `seen` of the whole training."""
        task_of_row = stratified_tasks(np.random.default_rng([self.seed, 2, step]), self.tasks, rows)
        images, samples = [], []
        targets: dict[str, list[np.ndarray]] = {task: [] for task in self.tasks}
        for number in range(rows // self.rows_per_image):
            wanted = task_of_row[number * self.rows_per_image : (number + 1) * self.rows_per_image]
            index = self.sample_number(seen + number)
            rng = np.random.default_rng([self.seed, 3, seen + number])
            sample = self.source[index]
            view = draw_view(rng, sample["image"].shape[:2], image_hw, self.config)
            image, truth = augment(sample, wanted, view)
            (top, left), (height, width) = view.offset_hw, view.box_hw
            # Only the picture, not its padding: the runtime pads with this colour, whatever the picture looks like.
            box = image[top : top + height, left : left + width]
            box[...] = photometric(rng, np.ascontiguousarray(box), self.config)
            images.append(image)
            samples.append(index)
            for task in wanted:
                targets[task].append(truth[task])
        index_B = torch.arange(len(images)).repeat_interleave(self.rows_per_image)
        stacked = {task: stack_targets(task, arrays) for task, arrays in targets.items() if arrays}
        labels = {
            task: torch.tensor([int(self.source[index][task]) for index in samples])
            for task in self.tasks
            if TASK_KINDS[task] == "image_classes"
        }
        return Batch(normalise(np.stack(images)), index_B, task_of_row, stacked, samples, labels)


def stack_targets(task: str, arrays: Sequence[np.ndarray]) -> Tensor:
    """Targets of one task's rows, in the form that `losses` takes (see `Batch`)."""
    stacked = torch.from_numpy(np.stack(arrays))
    kind = TASK_KINDS[task]
    if kind == "normals":
        return stacked.permute(0, 3, 1, 2).contiguous()
    if kind in ("depth", "probability"):
        return stacked[:, None]
    return stacked.to(torch.int64)


def prefetch(make: Callable[[int], Batch], steps: range, depth: int) -> Generator[Batch, None, None]:
    """Yield `make(step)` for each step, made up to `depth` batches ahead in a thread.

    A thread and not a process: OpenCV, numpy and torch release the interpreter lock while they work, and nothing has
    to be copied. An exception of `make` is raised here, in its turn. Close the iterator to stop the thread.
    """
    ready: queue.Queue[Batch | BaseException | None] = queue.Queue(max(1, depth))
    stop = threading.Event()

    def put(item: Batch | BaseException | None) -> None:
        while not stop.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        cv2.setNumThreads(1)  # its own pool would fight the training for the cores
        try:
            for step in steps:
                if stop.is_set():
                    return
                put(make(step))
            put(None)
        except BaseException as error:  # handed to the consumer, whatever it is
            put(error)

    thread = threading.Thread(target=work, name="slimpath-batches", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()


class RenderedRooms:
    """Rooms rendered when they are first asked for, `block` at a time, and kept in memory after that."""

    def __init__(self, config: DataConfig, device: str = "cpu", block: int = 16) -> None:
        self.config = config
        self.device = device
        self.block = block
        self._blocks: dict[int, list[dict[str, np.ndarray]]] = {}

    def __len__(self) -> int:
        return self.config.scenes

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        number, place = divmod(index, self.block)
        if number not in self._blocks:
            first = number * self.block
            seeds = range(first, min(first + self.block, self.config.scenes))
            self._blocks[number] = self._render([self.config.first_seed + seed for seed in seeds])
        return self._blocks[number][place]

    def _render(self, seeds: list[int]) -> list[dict[str, np.ndarray]]:
        from .synthrooms import render_rooms

        rooms = render_rooms(
            seeds, self.config.render_hw, device=self.device, samples_per_pixel=self.config.samples_per_pixel
        )
        fields = ("image", "depth", "normals", "semseg", "edge", "saliency", "scene")
        arrays = {}
        for name in fields:
            value = next(getattr(rooms, key) for key in vars(rooms) if key == name or key.startswith(f"{name}_"))
            arrays[name] = value.cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
        return [{name: array[i] for name, array in arrays.items()} for i in range(len(seeds))]


def open_source(config: TrainConfig) -> SampleSource:
    """The samples that `config.data` names.

    Raises:
        DataError: a folder does not exist, or files of the data set are missing or do not fit together.
    """
    if config.data.dataset is not None:
        from .datasets import open_dataset

        if config.data.root is None:
            raise DataError(f"data.dataset={config.data.dataset} needs data.root, the folder where it lies")
        return open_dataset(config.data.dataset, Path(config.data.root), config.data.split, config.tasks)
    if config.data.shards is None:
        return RenderedRooms(config.data, config.device)
    folder = Path(config.data.shards)
    if not folder.is_dir():
        raise DataError(f"data.shards must be a folder of rendered rooms, got {folder}; leave it out to render now")
    from .synthrooms.cache import RoomShards

    return RoomShards(folder)


def class_frequencies(source: SampleSource, task: str, classes: int, samples: int = 64) -> np.ndarray:
    """Share of each class among the labelled pixels (or images) of samples spread over the source."""
    counts = np.zeros(classes, np.float64)
    for index in np.linspace(0, len(source) - 1, min(samples, len(source))).astype(int):
        labels = np.asarray(source[int(index)][task]).reshape(-1).astype(np.int64)
        counts += np.bincount(labels[labels != IGNORED_CLASS], minlength=classes)[:classes]
    return counts / max(1.0, counts.sum())
