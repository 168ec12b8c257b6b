"""Pictures to learn coefficients on: which ones a step sees, and where they come from."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpath.export.describe import preprocessing
from slimpath.models import HeadConfig
from slimpath.runtime.imaging.preprocess import preprocess
from slimpath.tests.training.conftest import ToyRooms
from slimpath.tests.training.merging.families import HEADS
from slimpath.training.merging import MergeError
from slimpath.training.merging.pictures import LabelledPictures, draws, open_pictures, rooms

SPEC = preprocessing({})
TASKS = (HEADS["semseg"], HEADS["depth"])


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 20), st.integers(1, 25), st.integers(1, 12), st.integers(0, 5))
def test_every_picture_is_seen_equally_often(count: int, images: int, steps: int, seed: int):
    batches = list(draws(count, images, steps, seed))
    assert len(batches) == steps and all(len(batch) == min(images, count) for batch in batches)
    seen = Counter(number for batch in batches for number in batch)
    assert set(seen) <= set(range(count))
    times = [seen[number] for number in range(count)]
    assert max(times) - min(times) <= 1
    assert batches == list(draws(count, images, steps, seed))


def test_pictures_of_a_folder_are_prepared_as_for_the_network(tmp_path: Path):
    drawn = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    (tmp_path / "below").mkdir()
    assert cv2.imwrite(str(tmp_path / "below" / "a.PNG"), drawn[..., ::-1])
    (tmp_path / "notes.txt").write_text("no picture")
    pictures = open_pictures(str(tmp_path), TASKS, (32, 32), SPEC, labelled=False)
    assert pictures.count == 1
    expected = torch.from_numpy(preprocess(drawn, (32, 32), SPEC)[0])
    torch.testing.assert_close(next(pictures.batches(4, 1, 0)), expected[None])


def test_rendered_rooms_bring_labels_that_losses_take():
    pictures = open_pictures("rooms:2", (HeadConfig("semseg", "classes", 15),), (32, 32), SPEC, labelled=True)
    assert isinstance(pictures, LabelledPictures)
    images, targets = next(pictures.labelled_batches(2, 1, 0))
    assert images.shape == (2, 3, 32, 32) and targets["semseg"].shape == (2, 32, 32)
    assert pictures.class_weights()["semseg"].shape == (15,)


def test_rooms_with_other_classes_are_refused():
    with pytest.raises(MergeError, match=r"'semseg' has 3 classes, rooms:2 labels 15; take adamerging"):
        open_pictures("rooms:2", TASKS, (32, 32), SPEC, labelled=True)


def test_folder_with_a_strange_config_is_refused(tmp_path: Path):
    for text in ("{}", "no json", "[1]", '{"first_seed": 0}'):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(MergeError, match="is not that of rendered rooms"):
            open_pictures(str(tmp_path), TASKS, (32, 32), SPEC, labelled=False)


def test_labelled_batches_are_the_samples_of_the_pictures():
    source = ToyRooms(3)
    pictures = LabelledPictures(source, TASKS, (32, 32), SPEC, "toys")
    (numbers,) = draws(3, 2, 1, 4)
    images, targets = next(pictures.labelled_batches(2, 1, 4))
    for place, number in enumerate(numbers):
        sample = source[number]
        torch.testing.assert_close(images[place], torch.from_numpy(preprocess(sample["image"], (32, 32), SPEC)[0]))
        assert np.array_equal(targets["semseg"][place].numpy(), sample["semseg"])
        assert np.array_equal(targets["depth"][place, 0].numpy(), sample["depth"])


def test_rooms_of_a_merge_are_no_ones_else():
    from slimpath.cli.calibration import FIRST_SEED as CALIBRATION
    from slimpath.training.eval_rooms import FIRST_EVALUATION_SEED
    from slimpath.training.merging.pictures import FIRST_SEED

    assert CALIBRATION + 1_000_000 < FIRST_SEED < FIRST_SEED + 1_000_000 < FIRST_EVALUATION_SEED
    assert len(rooms(5, (32, 32))) == 5


@pytest.mark.parametrize("text", ["rooms:", "rooms:0", "rooms:many", "rooms:-3", "nowhere", ""])
def test_what_names_no_pictures_is_refused(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MergeError, match=r"rooms:64|none in"):
        open_pictures(text, TASKS, (32, 32), SPEC, labelled=False)


def test_folder_without_pictures_or_without_labels_is_refused(tmp_path: Path):
    with pytest.raises(MergeError, match="at least one picture, got none"):
        open_pictures(str(tmp_path), TASKS, (32, 32), SPEC, labelled=False)
    with pytest.raises(MergeError, match="labelled pictures, got the plain folder"):
        open_pictures(str(tmp_path), TASKS, (32, 32), SPEC, labelled=True)


@pytest.mark.parametrize(
    ("heads", "size_hw", "message"),
    [
        ((HeadConfig("human_parts", "classes", 3),), (32, 32), "has none of human_parts"),
        ((HeadConfig("semseg", "probability", 1),), (32, 32), "has none of semseg"),
        (TASKS, (48, 48), r"network's size \(48, 48\), got \(32, 32\)"),
    ],
)
def test_labels_that_do_not_fit_the_network_are_refused(heads: tuple[HeadConfig, ...], size_hw, message: str):
    with pytest.raises(MergeError, match=message):
        LabelledPictures(ToyRooms(2), heads, size_hw, SPEC, "toys")
