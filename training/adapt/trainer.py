"""The trainer of `slimpath train`, told to make a network slimmable: it starts from a checkpoint with its units in
order, the full-width original teaches every pass, and tasks may have no labels."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...models import MultiTaskModel
from ...runtime.bundles.preprocessing import Preprocessing
from ...runtime.imaging.preprocess import preprocess
from ..data import Batch, BatchMaker, change_of_units
from ..sources import SampleSource
from ..start import Origin
from ..trainer import Trainer
from .config import AdaptConfig
from .importance import fisher, magnitude
from .network import Original, hold_statistics, quiet, renamed, slimmable
from .pictures import AdaptData, Blank
from .units import reorder_, unit_groups

__all__ = ["AdaptTrainer", "in_order"]

_CALIBRATION_BATCH = 4

Advance = Callable[[int], None]


class AdaptTrainer(Trainer):
    """Trains a copy of `original` on `data`; tasks have the names that the trainer knows until `result`."""

    def __init__(
        self,
        original: Original,
        config: AdaptConfig,
        data: AdaptData,
        preprocessing: Preprocessing,
        out: Path,
        calibrated: Advance = lambda images: None,
    ) -> None:
        self.adapted, self.adapting, self.data, self.preprocessing = original, config, data, preprocessing
        self._calibrated = calibrated
        names, old = original.known_as, original.model.config
        tasks = tuple(names.values())
        source = data.trained if data.labelled else Blank(data.trained, tasks)
        if preprocessing.fit == "stretch":  # there is no padding that the network should know
            config = replace(config, augment=replace(config.augment, letterbox=0))
        network = f"checkpoint {original.sha256[:16]}"
        training = config.training(network, tasks, old.image_hw, labelled=data.labelled)
        classes = {names[head.name]: head.channels for head in old.tasks}
        super().__init__(training, source, classes, out)
        self.maker = _OtherUnits(self.maker, preprocessing)  # type: ignore[assignment]

    def build_network(self) -> MultiTaskModel:
        """The copy, its units in order; the original becomes the teacher."""
        original, names = self.adapted, self.adapted.known_as
        self.origin = Origin(original.sha256, {})
        teacher = renamed(copy.deepcopy(original.model), names).eval().requires_grad_(False)
        self.original = teacher.to(self.config.device)
        start = original.model
        if not self.state_file.exists():  # else `resume` brings the weights, ordered as they are
            start = in_order(start, self.adapting, self.data.trained, self.preprocessing, self._calibrated)
        return renamed(slimmable(start, self.adapting), names, **quiet(start.config))

    def _adopt(self, model: MultiTaskModel) -> None:
        super()._adopt(model)
        hold_statistics(model)

    def save_checkpoint(self) -> None:
        """Nothing: a network that is half adapted answers badly when narrow. `result` has the finished one."""

    def result(self) -> MultiTaskModel:
        """The averaged weights as a network with the tasks' own names, on the CPU, in evaluation mode."""
        back = {known: own for own, known in self.adapted.known_as.items()}
        noise = {name: getattr(self.adapted.model.config, name) for name in quiet(self.model.config)}
        return renamed(self.average.applied(self.model).cpu(), back, **noise).eval()


class _OtherUnits:
    """Batches in the terms in which the checkpoint takes pictures."""

    def __init__(self, maker: BatchMaker, preprocessing: Preprocessing) -> None:
        self.maker = maker
        self.scale, self.shift = change_of_units(preprocessing)

    def __call__(self, step: int, seen: int, rows: int, image_hw: tuple[int, int]) -> Batch:
        batch = self.maker(step, seen, rows, image_hw)
        batch.image_I3HW = batch.image_I3HW * self.scale + self.shift
        return batch


def in_order(
    model: MultiTaskModel,
    config: AdaptConfig,
    source: SampleSource,
    preprocessing: Preprocessing,
    advance: Advance = lambda images: None,
) -> MultiTaskModel:
    """A copy whose most important units come first; at full width it computes what `model` does.

    Args:
        source: pictures to measure importance on; some are taken, spread over it.
        advance: told how many more of these are done.
    """
    ordered = copy.deepcopy(model).requires_grad_(True)
    groups = unit_groups(ordered)
    if config.importance == "magnitude":
        reorder_(groups, magnitude(groups))
    elif config.importance == "fisher":
        pictures = _pictures(source, model.config.image_hw, preprocessing, config.calibration)
        reorder_(groups, fisher(ordered, groups, pictures, seed=config.seed, advance=advance))
    return ordered


def _pictures(
    source: SampleSource, size_hw: tuple[int, int], preprocessing: Preprocessing, most: int
) -> Iterator[Tensor]:
    numbers = np.linspace(0, len(source) - 1, min(most, len(source))).astype(int).tolist()
    for first in range(0, len(numbers), _CALIBRATION_BATCH):
        part = numbers[first : first + _CALIBRATION_BATCH]
        planes = [preprocess(source[number]["image"], size_hw, preprocessing)[0] for number in part]
        yield torch.from_numpy(np.stack(planes))
