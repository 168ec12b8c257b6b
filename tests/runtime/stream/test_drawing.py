"""One picture of constant size for every frame: camera, tasks, figures, knob."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from slimpath.runtime.planning.plan import Plan
from slimpath.runtime.stream.drawing import BAR_PX, Drawer, columns_for
from slimpath.tests.runtime.stream.conftest import SPECS, make_result, numbered

TASKS = tuple(SPECS)


def test_size_stays_and_is_even_whatever_the_frames_are(make_plan: Callable[..., Plan]) -> None:
    drawer = Drawer(cell_px=161)
    sizes = set()
    for seed, size_hw in enumerate([(48, 64), (48, 64), (100, 30), (1, 1)]):
        frame = numbered(90, size_hw)
        picture = drawer.draw(frame, make_result(make_plan(), frame, TASKS, seed), f"line {seed}", 0.5)
        assert picture.dtype == np.uint8
        sizes.add(picture.shape)
    assert len(sizes) == 1
    height, width, channels = sizes.pop()
    assert height % 2 == width % 2 == 0 and channels == 3


def test_every_dense_task_has_a_cell_and_the_label_is_on_the_photograph(make_plan: Callable[..., Plan]) -> None:
    frame = numbered(128)
    picture = Drawer(cell_px=160).draw(frame, make_result(make_plan(), frame, TASKS), "", 1.0)
    # Photograph, semseg, depth, normals, edge: three to a row, one place stays empty.
    cell_h, cell_w = 120, 160
    cells = [
        picture[4 + r * 124 : 4 + r * 124 + cell_h, 4 + c * 164 : 4 + c * 164 + cell_w]
        for r in (0, 1)
        for c in range(3)
    ]
    assert picture.shape[1] == 3 * 164 + 4
    assert (cells[0][:60] == 128).all() and not (cells[0][80:] == 128).all()  # the chip with the label
    assert all(cell.std() > 5 for cell in cells[:5])
    assert (cells[5] == cells[5][0, 0]).all()
    assert len({cell.tobytes() for cell in cells}) == 6


def test_figures_and_knob_are_drawn_below(make_plan: Callable[..., Plan]) -> None:
    frame, drawer = numbered(128), Drawer(cell_px=480)
    result = make_result(make_plan(), frame)
    bars = [
        drawer.draw(frame, result, line, share)[-BAR_PX:]
        for line, share in (("", 0.0), ("15 fps", 0.0), ("15 fps", 1.0))
    ]
    left, right = slice(0, 400), slice(-200, None)
    assert not np.array_equal(bars[0][:, left], bars[1][:, left])
    assert np.array_equal(bars[1][:, left], bars[2][:, left])
    assert not np.array_equal(bars[1][:, right], bars[2][:, right])


def test_colours_of_depth_do_not_flicker(make_plan: Callable[..., Plan]) -> None:
    """One frame with a far outlier in its corner leaves the colours of the rest nearly as they were."""
    frame, drawer = numbered(128), Drawer(cell_px=160)
    calm = make_result(make_plan(), frame)
    calm["depth"][:] = np.linspace(1, 3, 48, dtype=np.float32)
    before = drawer.draw(frame, calm, "", 1.0)
    calm["depth"][:, 40:] = 30
    after = drawer.draw(frame, calm, "", 1.0)
    third = slice(168, 168 + 50)  # of the depth cell
    change = np.abs(before[4:100, third].astype(int) - after[4:100, third]).mean()
    fresh = Drawer(cell_px=160).draw(frame, calm, "", 1.0)
    assert change < 0.4 * np.abs(before[4:100, third].astype(int) - fresh[4:100, third]).mean()


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (2, 2), (3, 3), (4, 2), (5, 3), (6, 3), (7, 4), (8, 4)])
def test_columns_come_close_to_a_screen_with_few_holes(count: int, columns: int) -> None:
    assert columns_for(count, (480, 640)) == columns


def test_result_is_not_changed_by_drawing(make_plan: Callable[..., Plan]) -> None:
    frame = numbered(100)
    result = make_result(make_plan(), frame, TASKS)
    before = {task: values.copy() for task, values in result.items()}
    Drawer().draw(frame, result, "line", 1.0)
    assert (frame == 100).all()
    assert all(np.array_equal(values, before[task]) for task, values in result.items())
