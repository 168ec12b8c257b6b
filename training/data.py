"""Samples become batches: the same ones for the same (config, step), made ahead in a background thread.

Nothing here has a state of its own: batch `step` is a function of (seed, step, samples seen), which is all that a
resumed training has to remember.

Axes: I images, B rows (one task each), H height, W width.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from torch import Tensor

from ..runtime.bundles.preprocessing import Preprocessing
from .augment import IMAGE_MEAN, IMAGE_STD, AugmentConfig, augment, draw_view, photometric
from .errors import DataError
from .sources import SampleSource
from .tasks import TASK_KINDS

__all__ = ["Batch", "BatchMaker", "change_of_units", "normalise", "prefetch", "stack_targets", "stratified_tasks"]


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
            samples.append(self.sample_number(seen + number))
            image, truth = self._view(samples[-1], seen + number, wanted, image_hw)
            images.append(image)
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

    def _view(
        self, index: int, place: int, wanted: Sequence[str], image_hw: tuple[int, int]
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Sample `index` as the training sees it when it is number `place`: uint8 [H,W,3], and its wanted targets."""
        rng = np.random.default_rng([self.seed, 3, place])
        sample = self.source[index]
        view = draw_view(rng, sample["image"].shape[:2], image_hw, self.config)
        image, truth = augment(sample, wanted, view)
        (top, left), (height, width) = view.offset_hw, view.box_hw
        # Only the picture, not its padding: the runtime pads with this colour, whatever the picture looks like.
        box = image[top : top + height, left : left + width]
        box[...] = photometric(rng, np.ascontiguousarray(box), self.config)
        return image, truth


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
