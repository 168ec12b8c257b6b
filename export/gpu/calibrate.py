"""What graphs are run on before they become int8: calibration pictures, and the tokens that heads get of them."""

from collections.abc import Iterator, Mapping
from functools import cached_property

import numpy as np
import torch

from ...models import MultiTaskModel
from ...runtime.bundles import graph_names as names
from ...runtime.bundles.preprocessing import Preprocessing
from ...runtime.imaging.preprocess import preprocess
from .. import parity
from ..coverage import Calibration
from .check import Pictures, batches
from .trace import Job

MOST_PICTURES = 8  # ranges hardly grow beyond


class Calibrator:
    """Inputs for the graphs of one size."""

    def __init__(
        self, model: MultiTaskModel, calibration: Calibration, preprocessing: Preprocessing, size_hw: tuple[int, int]
    ) -> None:
        count = min(len(calibration.images), MOST_PICTURES)
        planes = [preprocess(calibration.images[number], size_hw, preprocessing)[0] for number in range(count)]
        self._model, self._pictures = model, Pictures(np.stack(planes))
        parameters: Mapping[str, torch.Tensor] = dict(model.named_parameters())
        self.full = {name: value.detach().numpy() for name, value in parameters.items()}

    def feeds(self, job: Job) -> Iterator[dict[str, np.ndarray]]:
        """Inputs of a graph, batch by batch."""
        if job.task is None:
            pairs = self._pictures.pairs(self._model.config.task_names)
            yield from (feeds for _, feeds in batches(self._model, self._pictures, pairs, job))
            return
        read = parity.head_case(self._model, job.task, self._case)
        rows = [row for row, task in enumerate(self._case.tasks) if task == job.task]
        for first in range(0, len(rows), job.rows):
            chosen = [rows[min(first + row, len(rows) - 1)] for row in range(job.rows)]
            yield {name: value[chosen].numpy() for name, value in read.items()}

    @cached_property
    def _case(self) -> parity.EncoderCase:
        """Every task on every picture at full width."""
        model, pairs = self._model, self._pictures.pairs(self._model.config.task_names)
        index, tasks = torch.tensor([picture for picture, _ in pairs]), [task for _, task in pairs]
        top_k_J = torch.full((len(pairs),), model.config.top_k) if model.config.moe_blocks else None
        with torch.no_grad():
            features = model.encode(torch.from_numpy(self._pictures.planes_P3HW), index, tasks, top_k_J)
        return parity.EncoderCase({names.IMAGE_INDEX: index}, features, tuple(tasks), 0, None)
