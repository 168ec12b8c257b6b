"""The two ways to give tasks to samples, by the names that papers have for them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from slimpath.tests.training.conftest import PLAIN_VIEWS, TOY_CLASSES, ToyRooms, toy_config
from slimpath.training.config import DataConfig, Stage
from slimpath.training.data import Batch, BatchMaker
from slimpath.training.presets import preset
from slimpath.training.trainer import Trainer

TASKS = ("semseg", "depth", "normals", "edge", "saliency", "scene")


def batch(rows_per_image: int, step: int = 0) -> Batch:
    maker = BatchMaker(ToyRooms(), TASKS, seed=0, augment=PLAIN_VIEWS, rows_per_image=rows_per_image)
    return maker(step, 0, 12, (32, 32))


def tasks_of_images(found: Batch) -> list[list[str]]:
    """Which tasks each image is asked for."""
    of_image: list[list[str]] = [[] for _ in range(len(found.image_I3HW))]
    for image, task in zip(found.image_index_B.tolist(), found.task_of_row):
        of_image[image].append(task)
    return of_image


def test_random_task_per_sample_is_one_row_per_image():
    steps = [tasks_of_images(batch(1, step)) for step in range(8)]
    assert all(len(images) == 12 and {len(tasks) for tasks in images} == {1} for images in steps)
    # Drawn at random, and still every task as often as any other.
    assert all(set(Counter(task for (task,) in images).values()) == {2} for images in steps)
    assert len({tuple(task for (task,) in images) for images in steps}) == 8


def test_all_tasks_per_sample_is_a_row_per_task_of_every_image():
    for step in range(4):
        images = tasks_of_images(batch(len(TASKS), step))
        assert len(images) == 2 and all(sorted(tasks) == sorted(TASKS) for tasks in images)


@pytest.mark.parametrize("rows_per_image", [1, len(TASKS)], ids=["random task per sample", "all tasks per sample"])
def test_network_learns_either_way(rows_per_image: int, tmp_path: Path):
    config = toy_config(
        data=DataConfig(scenes=4, rows_per_image=rows_per_image), stages=(Stage((32, 32), 12, 1.0),), random_widths=0
    )
    trainer = Trainer(config, ToyRooms(), TOY_CLASSES, tmp_path)
    made = trainer.maker(0, 0, 12, (32, 32))
    shown = trainer.train_step(made)
    assert {f"{task}_widest" for task in TASKS} <= shown.keys()
    assert all(bool(torch.isfinite(value)) for value in shown.values())
    assert trainer.seen == 12 // rows_per_image  # the rows are what a step has, whichever images they are of


def test_micro_preset_asks_every_picture_for_all_tasks():
    config = preset("micro")
    assert config.model == "m3vit_micro" and config.data.rows_per_image == len(config.tasks) == 3
