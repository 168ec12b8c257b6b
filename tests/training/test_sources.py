"""Sources: rooms rendered once, folders that are named when missing, classes counted where there are labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from slimpath.tests.training.conftest import TOY_CLASSES, ToyRooms, toy_config
from slimpath.training import sources
from slimpath.training.config import DataConfig, TrainConfig
from slimpath.training.errors import DataError
from slimpath.training.sources import RenderedRooms, class_frequencies, open_source
from slimpath.training.synthrooms.cache import RoomShards, render_to_shards
from slimpath.training.trainer import Trainer


def test_class_frequencies_count_labelled_pixels_only():
    class Halves(ToyRooms):
        def __getitem__(self, index: int, /):
            semseg = np.full((4, 4), 255, np.uint8)
            semseg[:1], semseg[1:2, :2] = 0, 2
            return {"semseg": semseg}

    assert class_frequencies(Halves(3), "semseg", 4).tolist() == pytest.approx([4 / 6, 0, 2 / 6, 0])


def test_rooms_are_rendered_once_on_demand_and_kept_as_small_as_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    rooms = RenderedRooms(DataConfig(first_seed=40, scenes=3, render_hw=(16, 20)), block=2)
    first = rooms[2]
    monkeypatch.setattr(RenderedRooms, "_render", None)  # not called any more
    again = rooms[2]
    render_to_shards(tmp_path, 42, 1, (16, 20), progress=False)
    stored = RoomShards(tmp_path)[0]
    assert len(rooms) == 3 and set(first) == {"image", "semseg", "depth", "normals", "edge", "saliency", "scene"}
    for name in stored:
        for room in (first, again):
            assert np.array_equal(room[name], stored[name]), name
    kept = sum(array.nbytes for array in rooms._blocks[1].values())
    assert kept == sum(np.load(file).nbytes for file in tmp_path.rglob("*.npy")) == 9 * 16 * 20 + 8
    assert again["depth"].dtype == again["normals"].dtype == np.float32
    again["image"][:] = 0  # augmentation writes into its picture: what is kept must not change
    assert np.array_equal(rooms[2]["image"], stored["image"])


def test_counting_classes_shows_that_it_goes_on(monkeypatch: pytest.MonkeyPatch):
    told: list[tuple[str, int, bool]] = []

    @contextmanager
    def bar(what: str, total: int, shown: bool) -> Iterator[Callable[[int], None]]:
        counted: list[int] = []
        yield counted.append
        told.append((what, total - sum(counted), shown))

    monkeypatch.setattr(sources, "counting_bar", bar)
    class_frequencies(ToyRooms(5), "semseg", 3, samples=4, progress=True)
    assert told == [("counting classes of semseg", 0, True)]
    Trainer(toy_config(), ToyRooms(), TOY_CLASSES, Path("unused"), progress=True)
    Trainer(toy_config(), ToyRooms(), TOY_CLASSES, Path("unused"))
    assert [shown for _, _, shown in told[1:]] == [True, False]


def test_missing_folder_of_shards_is_named():
    with pytest.raises(DataError, match="nowhere"):
        open_source(TrainConfig(data=DataConfig(shards="nowhere")))
