"""Batches: the same for the same step, every task in turn, made ahead."""

from __future__ import annotations

from collections import Counter
from contextlib import closing

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpath.tests.training.conftest import PLAIN_VIEWS, ToyRooms
from slimpath.training.augment import AugmentConfig
from slimpath.training.data import BatchMaker, prefetch, stratified_tasks
from slimpath.training.errors import DataError

TASKS = ("semseg", "depth", "normals", "edge", "saliency", "scene")


@given(seed=st.integers(0, 999), count=st.integers(1, 6), rows=st.integers(1, 40), share=st.sampled_from([2, 3]))
@settings(max_examples=100, deadline=None)
def test_tasks_come_equally_often_and_never_twice_on_one_image(seed: int, count: int, rows: int, share: int):
    tasks = stratified_tasks(np.random.default_rng(seed), TASKS[:count], rows)
    counts = Counter(tasks)
    assert len(tasks) == rows
    assert max(counts.values()) - min(counts[task] for task in TASKS[:count]) <= 1
    if share <= count:
        groups = [tasks[first : first + share] for first in range(0, rows, share)]
        assert all(len(set(group)) == len(group) for group in groups)


def test_batch_depends_on_step_and_samples_seen_only():
    makers = [BatchMaker(ToyRooms(), TASKS, seed=3, augment=AugmentConfig(), rows_per_image=2) for _ in range(2)]
    makers[1](0, 0, 12, (32, 32))  # having made others must not matter
    first, second = (maker(5, 30, 12, (32, 32)) for maker in makers)
    assert torch.equal(first.image_I3HW, second.image_I3HW)
    assert first.task_of_row == second.task_of_row and first.samples == second.samples
    assert all(torch.equal(first.targets[task], second.targets[task]) for task in TASKS)
    assert not torch.equal(first.image_I3HW, makers[0](6, 36, 12, (32, 32)).image_I3HW)


def test_targets_belong_to_the_rows_of_their_task():
    rooms = ToyRooms()
    maker = BatchMaker(rooms, TASKS, seed=0, augment=PLAIN_VIEWS, rows_per_image=3)
    batch = maker(0, 0, 12, (32, 32))
    assert batch.image_I3HW.shape == (4, 3, 32, 32) and batch.rows == 12
    assert batch.image_index_B.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    rows = [row for row, task in enumerate(batch.task_of_row) if task == "depth"]
    for place, row in enumerate(rows):
        truth = rooms[batch.samples[int(batch.image_index_B[row])]]["depth"]
        assert np.array_equal(batch.targets["depth"][place, 0].numpy(), truth)
    assert batch.targets["normals"].shape[1] == 3 and batch.targets["semseg"].dtype == torch.int64


def test_every_epoch_shows_every_sample_once_in_its_own_order():
    maker = BatchMaker(ToyRooms(7), TASKS, seed=0, augment=AugmentConfig())
    epochs = [[maker.sample_number(seen) for seen in range(first, first + 7)] for first in (0, 7)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(7))] * 2
    assert epochs[0] != epochs[1]


def test_samples_that_lack_a_task_are_refused():
    with pytest.raises(DataError, match="human_parts"):
        BatchMaker(ToyRooms(), ("depth", "human_parts"), seed=0, augment=AugmentConfig())
    with pytest.raises(DataError, match="empty"):
        BatchMaker(ToyRooms(0), ("depth",), seed=0, augment=AugmentConfig())


def test_prefetching_keeps_order_and_hands_on_errors():
    maker = BatchMaker(ToyRooms(), TASKS, seed=0, augment=AugmentConfig())

    def make(step: int):
        if step == 3:
            raise OSError("disk gone")
        return maker(step, step, 6, (32, 32))

    with closing(prefetch(make, range(5), depth=2)) as batches:
        seen = [next(batches).samples for _ in range(3)]
        with pytest.raises(OSError, match="disk gone"):
            next(batches)
    assert seen == [maker(step, step, 6, (32, 32)).samples for step in range(3)]


def test_prefetching_that_is_given_up_early_stops_its_thread():
    import threading

    maker = BatchMaker(ToyRooms(), TASKS, seed=0, augment=AugmentConfig())
    with closing(prefetch(lambda step: maker(step, step, 6, (32, 32)), range(10_000), depth=2)) as batches:
        next(batches)
    assert not [thread for thread in threading.enumerate() if thread.name == "slimpath-batches"]
