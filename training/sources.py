"""Where samples come from: rooms rendered now, rooms rendered before, files of a data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .config import DataConfig, TrainConfig
from .errors import DataError
from .journal import counting_bar
from .tasks import IGNORED_CLASS

if TYPE_CHECKING:
    from .synthrooms.packed import Room

__all__ = ["RenderedRooms", "SampleSource", "class_frequencies", "open_source"]


class SampleSource(Protocol):
    """Labelled pictures by number: `source[i]` has an "image", uint8 [H,W,3], and the ground truth of each task."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Mapping[str, Any]: ...


class RenderedRooms:
    """Rooms rendered when they are first asked for, `block` at a time, and kept in memory, packed, after that."""

    def __init__(self, config: DataConfig, device: str = "cpu", block: int = 16) -> None:
        self.config = config
        self.device = device
        self.block = block
        self._blocks: dict[int, dict[str, np.ndarray]] = {}

    def __len__(self) -> int:
        return self.config.scenes

    def __getitem__(self, index: int, /) -> Room:
        from .synthrooms.packed import unpack

        number, place = divmod(index, self.block)
        if number not in self._blocks:
            first = number * self.block
            seeds = range(first, min(first + self.block, self.config.scenes))
            self._blocks[number] = self._render([self.config.first_seed + seed for seed in seeds])
        return unpack(self._blocks[number], place)

    def _render(self, seeds: list[int]) -> dict[str, np.ndarray]:
        from .synthrooms import render_rooms
        from .synthrooms.packed import pack

        config = self.config
        return pack(
            render_rooms(
                seeds,
                config.render_hw,
                device=self.device,
                samples_per_pixel=config.samples_per_pixel,
                world=config.world,
            )
        )


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
    from .synthrooms import VERSIONS
    from .synthrooms.cache import RoomShards

    rooms = RoomShards(folder)
    if rooms.config.renderer != VERSIONS[config.data.world]:
        raise DataError(
            f"expected rooms of data.world={config.data.world} in {folder}, got those of {rooms.config.renderer}",
            hint=f"give another data.world, or render some with --world {config.data.world}",
        )
    return rooms


def class_frequencies(
    source: SampleSource, task: str, classes: int, samples: int = 64, *, progress: bool = False
) -> np.ndarray:
    """Share of each class among the labelled pixels (or images) of samples spread over the source.

    Args:
        progress: show a bar: rooms are rendered for this, some minutes at full size.
    """
    counts = np.zeros(classes, np.float64)
    chosen = np.linspace(0, len(source) - 1, min(samples, len(source))).astype(int)
    with counting_bar(f"counting classes of {task}", len(chosen), progress) as done:
        for index in chosen:
            labels = np.asarray(source[int(index)][task]).reshape(-1).astype(np.int64)
            counts += np.bincount(labels[labels != IGNORED_CLASS], minlength=classes)[:classes]
            done(1)
    return counts / max(1.0, counts.sum())
