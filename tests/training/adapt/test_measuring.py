"""Every width of both networks is measured on the same pictures, by labels or by the original's answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from slimpath.models import HeadConfig
from slimpath.models.heads import answer
from slimpath.runtime.bundles.preprocessing import Preprocessing
from slimpath.tests.training.adapt.conftest import TASKS, full_width
from slimpath.tests.training.conftest import ToyRooms
from slimpath.training.adapt.errors import AdaptError
from slimpath.training.adapt.measuring import as_truth, check_judged, measure
from slimpath.training.metrics import metric_for

LETTERBOX = Preprocessing("letterbox", (0.5,) * 3, (0.5,) * 3, pad_rgb=(0, 0, 0))  # type: ignore[arg-type]
STRETCH = Preprocessing("stretch", (0.5,) * 3, (0.5,) * 3)  # type: ignore[arg-type]
NAMES = {task.name: task.name for task in TASKS}


def test_labels_are_judged_where_the_picture_lies() -> None:
    """A wide picture: its padding has no label, or the figure by hand would be another."""
    model, held = full_width("vit_micro", TASKS[1:2]), ToyRooms(3, (16, 32))
    rows = measure(model, model, held, LETTERBOX, (0.5, 1.0), NAMES, labelled=True)
    errors = []
    for number in range(3):
        plane = np.zeros((32, 32, 3), np.uint8)
        plane[8:24] = held[number]["image"]
        image = torch.from_numpy(plane).permute(2, 0, 1)[None].float() / 127.5 - 1
        with torch.no_grad():
            found = answer(model.config.task("depth"), model(image, ["depth"], width=0.5).raw["depth"])[0, 0, 8:24]
        errors.append((found.numpy() - held[number]["depth"]) ** 2)
    assert rows[0].width == 0.5 and rows[0].before == rows[0].after
    assert rows[0].before.value == pytest.approx(float(np.sqrt(np.mean(errors))), rel=1e-4)


def test_without_labels_the_original_at_full_width_is_the_truth() -> None:
    heads = (TASKS[0], TASKS[1], HeadConfig("normals", "normals", 3))
    model, other = full_width("m3vit_micro", heads), full_width("m3vit_micro", heads, seed=1)
    names = {head.name: head.name for head in heads}
    done: list[int] = []
    rows = measure(model, other, ToyRooms(9), STRETCH, (0.5, 1.0), names, labelled=False, advance=done.append)
    assert sum(done) == 9
    for row in rows:
        perfect = 1.0 if row.higher_is_better else 0.0
        whole = row.before.value == pytest.approx(perfect, abs=1e-4)
        assert whole == (row.width == 1), row
        worse = row.after.value < perfect if row.higher_is_better else row.after.value > perfect
        assert worse and (row.width < 1 or row.gain.value < 0), row


def test_foreign_names_are_judged_as_their_kind() -> None:
    model = full_width("vit_micro", (HeadConfig("animal", "image_classes", 3), HeadConfig("far", "depth", 1)))
    rows = measure(model, model, ToyRooms(2), STRETCH, (1.0,), {"animal": "scene", "far": "depth"}, labelled=False)
    assert [(row.task, row.metric) for row in rows] == [("animal", metric_for("scene", 3).name), ("far", "RMSE")]


def test_decoders_that_were_swapped_are_judged_by_the_published_ones() -> None:
    linear = HeadConfig("scene", "image_classes", 2, decoder="linear")
    old = full_width("vit_micro", (linear,))
    new = full_width("vit_micro", (replace(linear, decoder="native"),), seed=3)
    rows = measure(old, new, ToyRooms(8), STRETCH, (1.0,), NAMES, labelled=False)
    assert rows[0].before.value == 1


class LabelledFrom(ToyRooms):
    """Four rooms of which only those from a number on have a label of `task`."""

    def __init__(self, task: str, first: int) -> None:
        super().__init__(4)
        self.task, self.first = task, first

    def __getitem__(self, index: int, /) -> dict[str, Any]:
        sample = super().__getitem__(index)
        if index < self.first:
            sample[self.task] = np.full_like(sample[self.task], 0 if self.task == "depth" else 255)
        return sample


@pytest.mark.parametrize("task", ["semseg", "depth", "edge"])
def test_a_task_without_any_label_is_refused(task: str) -> None:
    check_judged(LabelledFrom(task, 3), TASKS, (32, 32), LETTERBOX)
    with pytest.raises(AdaptError, match=f"no pixel of the 4 held-out pictures has a label of {task}; say --no-labels"):
        check_judged(LabelledFrom(task, 4), TASKS, (32, 32), LETTERBOX)


def test_answers_take_the_form_of_labels() -> None:
    assert as_truth("image_classes", np.array([0.1, 0.7, 0.2])) == 1
    assert as_truth("probability", np.array([[0.2, 0.8]])).tolist() == [[0, 1]]
    depth = np.ones((2, 2), np.float32)
    assert as_truth("depth", depth) is depth
