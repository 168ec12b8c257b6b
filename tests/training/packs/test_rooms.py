"""Labels of new tasks agree with what the renderer knows."""

from __future__ import annotations

import numpy as np
import pytest

from slimpath.training.errors import ConfigError
from slimpath.training.packs.rooms import NewRooms, height, layout, room_task
from slimpath.training.synthrooms import CLASSES, render_rooms
from slimpath.training.synthrooms.sampling import sample_scene

SIZE_HW = (48, 64)
SEEDS = range(5_000, 5_006)


@pytest.fixture(scope="module")
def rooms() -> list[tuple[object, np.ndarray, np.ndarray]]:
    """Scene, depth and classes of some rooms."""
    batch = render_rooms(list(SEEDS), SIZE_HW)
    depth, semseg = batch.depth_BHW.numpy(), batch.semseg_BHW.numpy()
    return [(sample_scene(seed), depth[number], semseg[number]) for number, seed in enumerate(SEEDS)]


def test_the_layout_is_the_shell_where_the_shell_is_seen(rooms: list) -> None:
    names = ("floor", "wall", "ceiling")
    for scene, depth, semseg in rooms:
        found = layout(scene, depth)
        for number, name in enumerate(names):
            seen = semseg == CLASSES.index(name)
            assert (found[seen] == number).mean() > 0.999 if seen.any() else True
        assert set(np.unique(found)) <= {0, 1, 2}


def test_the_layout_goes_on_behind_things(rooms: list) -> None:
    """Furniture covers a part of the picture, and has a label of its own in none of it."""
    things = sum(int((semseg > CLASSES.index("door")).sum()) for _, _, semseg in rooms)
    assert things > 500
    assert all(layout(scene, depth).shape == SIZE_HW for scene, depth, _ in rooms)


def test_heights_are_those_of_floor_and_ceiling(rooms: list) -> None:
    for scene, depth, semseg in rooms:
        found = height(scene, depth)
        assert found.min() >= 0.05 - 1e-6
        assert found.max() <= scene.size_m[1] + 1e-2
        floor, ceiling = semseg == CLASSES.index("floor"), semseg == CLASSES.index("ceiling")
        assert not floor.any() or found[floor].max() < 0.06
        assert not ceiling.any() or np.abs(found[ceiling] - scene.size_m[1]).max() < 0.02


def test_rooms_are_rendered_once_and_the_same_for_a_seed() -> None:
    source = NewRooms(room_task("layout"), 7, 2, SIZE_HW)
    first = source[1]
    assert source[1] is first
    again = NewRooms(room_task("layout"), 8, 1, SIZE_HW)[0]
    assert np.array_equal(first["image"], again["image"]) and np.array_equal(first["semseg"], again["semseg"])
    assert first["image"].dtype == np.uint8 and len(source) == 2
    with pytest.raises(IndexError):
        source[2]


def test_a_task_that_rooms_cannot_label_is_refused() -> None:
    with pytest.raises(ConfigError, match="layout, height, got 'mood'"):
        room_task("mood")
