"""Some samples as the averaged weights answer them, drawn whenever the training has seen the source once more.

Axes: I images.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..models import MultiTaskModel
from ..runtime.imaging.pictures import jpeg_bytes
from ..runtime.imaging.pictures_layout import Row, sheet, table
from .config import TrainConfig
from .data import normalise
from .describe import PREPROCESSING, task_specs
from .files import write_whole
from .network_answers import network_answers
from .placed import Placed, spread
from .sample_cells import in_words, sample_cells
from .sources import SampleSource
from .tasks import TrainTask
from .weights import WeightAverage

__all__ = ["EpochPictures"]

SAMPLES = 4
"""Always the same ones, spread over the source."""
_WIDTHS_PX = (200, 150)  # of a cell, and of what is written beside a row


class EpochPictures:
    """Writes `samples-epochN.jpg` once N times as many images have been seen as the source has.

    An epoch that ends within the same step as another leaves no picture of its own.
    """

    def __init__(
        self, config: TrainConfig, source: SampleSource, tasks: Sequence[TrainTask], out: Path, seen: int
    ) -> None:
        """Reads the samples at once: later on, batches are read from the source in another thread.

        Args:
            seen: how many images the training has seen so far.
        """
        names = getattr(source, "class_names", {})
        self.specs = task_specs(tasks, rooms=config.data.dataset is None, class_names=names)
        self.images, self.out = len(source), out
        self.numbers = spread(self.images, SAMPLES)
        self._samples = [source[number] for number in self.numbers]
        self._epoch = seen // self.images

    def after_step(self, seen: int, step: int, model: MultiTaskModel, average: WeightAverage) -> Path | None:
        """Draw, if an epoch has just ended; the random state stays as it is."""
        epoch, self._epoch = self._epoch, seen // self.images
        if self._epoch == epoch:
            return None
        path = self.out / f"samples-epoch{self._epoch}.jpg"
        write_whole(path, jpeg_bytes(self._draw(average.applied(model).cpu(), f"epoch {self._epoch}, step {step}")))
        return path

    def _draw(self, model: MultiTaskModel, title: str) -> np.ndarray:
        placed = Placed(self._samples, [spec.name for spec in self.specs], model.config.image_hw, PREPROCESSING)
        samples = [placed[place] for place in range(len(self._samples))]
        image_I3HW = normalise(np.stack([sample["image"] for sample in samples]))
        answers = {head.name: values for head, values in network_answers(model, image_I3HW)}
        rows = []
        for place, (number, sample) in enumerate(zip(self.numbers, samples, strict=True)):
            cells, words = [], []
            for spec in self.specs:
                truth, answer = sample[spec.name], answers[spec.name][place]
                picture, *pair = sample_cells(spec, sample["image"], truth, answer)
                cells += pair if cells else [picture, *pair]
                words += in_words(spec, truth, answer)
            rows.append(Row(f"sample {number}", tuple(words), tuple(cells)))
        dense = [spec.name for spec in self.specs if spec.kind != "image_classes"]
        titles = ["picture", *(title for name in dense for title in (name, "answer"))]
        return sheet(table(rows, titles, *_WIDTHS_PX), title, "averaged weights at full width, beside the ground truth")
