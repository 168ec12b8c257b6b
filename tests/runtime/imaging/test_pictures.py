"""Pictures of results: the colours say what the arrays say."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from slimpath.runtime.engine import Engine
from slimpath.runtime.errors import ImageError
from slimpath.runtime.imaging.pictures import image_part, jpeg_bytes, panel, png_bytes, single, task_cell, task_cells
from slimpath.runtime.imaging.pictures_colour import (
    class_colours,
    default_palette,
    depth_colours,
    depth_ramp,
    depth_range_m,
    ink_drawing,
    normals_colours,
    spotlight,
    upscale_classes,
)
from slimpath.runtime.imaging.pictures_layout import Cell, Row, fit_inside, table
from slimpath.runtime.imaging.pictures_text import LegendEntry, blank, draw_text, legend_block, shorten, text_width
from slimpath.runtime.tasks import TaskSpec

PALETTE = ((10, 20, 30), (200, 0, 0), (0, 200, 0))
NAMES = ("wall", "bed_frame", "lamp")


def luminance(colours: np.ndarray) -> np.ndarray:
    return colours.astype(float) @ (0.299, 0.587, 0.114)


def test_classes_have_their_palette_and_only_those_present_a_legend():
    ids = np.array([[0, 0, 0], [0, 2, 2]], np.uint8)
    picture, legend = class_colours(ids, NAMES, PALETTE)
    assert picture[0, 0].tolist() == [10, 20, 30]
    assert picture[1, 2].tolist() == [0, 200, 0]
    assert [(entry.label, entry.colour) for entry in legend] == [("wall", (10, 20, 30)), ("lamp", (0, 200, 0))]
    assert [entry.share for entry in legend] == pytest.approx([4 / 6, 2 / 6])


def test_class_outside_the_palette_is_white_and_called_by_its_number():
    picture, legend = class_colours(np.full((2, 2), 7, np.uint8), NAMES, PALETTE)
    assert (picture == 255).all()
    assert legend[0].label == "class 7"


def test_default_palette_tells_classes_apart():
    colours = np.array(default_palette(24), float)
    apart = np.abs(colours[:, None] - colours[None]).max(axis=-1) + 1000 * np.eye(24)
    assert apart.min() >= 20


def test_upscaled_classes_keep_areas_and_invent_none():
    ids = np.zeros((8, 8), np.uint8)
    ids[2:6, 2:6] = 5
    large = upscale_classes(ids, (80, 80))
    assert set(np.unique(large)) == {0, 5}
    assert (large == 5).mean() == pytest.approx(16 / 64, rel=0.1)  # corners are rounded off
    assert upscale_classes(ids, (8, 8)) is ids


def test_near_is_bright_all_along_the_ramp():
    assert (np.diff(luminance(depth_ramp())) < 1).all()
    assert luminance(depth_ramp()[0]) > 240
    assert luminance(depth_ramp()[-1]) < 5


def test_depth_uses_the_given_range_and_survives_what_is_not_finite():
    depth = np.array([[1.0, 3.0], [np.nan, np.inf]], np.float32)
    picture, bar = depth_colours(depth, (1.0, 3.0))
    assert (bar.low, bar.high, bar.unit) == (1.0, 3.0, "m")
    assert picture[0, 0].tolist() == depth_ramp()[0].tolist()
    assert picture[0, 1].tolist() == picture[1, 0].tolist() == picture[1, 1].tolist() == depth_ramp()[-1].tolist()
    assert depth_range_m(np.full((3, 3), 2.0)) == (2.0, pytest.approx(2.01))
    assert depth_range_m(np.full((3, 3), np.nan)) == (0.0, 1.0)


def test_normals_have_the_usual_colours():
    normals = np.array([[[0, 0, 1], [1, 0, 0], [0, -1, 0]]], np.float32)
    assert normals_colours(normals)[0].tolist() == [[128, 128, 255], [255, 128, 128], [128, 0, 128]]


def test_edges_are_ink_on_paper():
    assert ink_drawing(np.array([[0.0, 1.0]]))[0, :, 0].tolist() == [255, 0]


def test_spotlight_leaves_the_subject_and_dims_the_rest():
    image = np.full((40, 40, 3), (200, 100, 50), np.uint8)
    probability = np.zeros((40, 40), np.float32)
    probability[10:30, 10:30] = 1
    lit = spotlight(image, probability)
    assert lit[20, 20].tolist() == [200, 100, 50]
    assert luminance(lit[2, 2]) < 0.6 * luminance(image[2, 2])


def test_specks_get_no_outline():
    image = np.zeros((100, 100, 3), np.uint8)
    speck, region = np.zeros((2, 100, 100), np.float32)
    speck[50:53, 50:53] = 1
    region[20:60, 20:60] = 1
    assert not (spotlight(image, speck)[..., 0] > 200).any()  # the line is orange
    assert (spotlight(image, region)[..., 0] > 200).any()


def test_kind_and_name_decide_how_a_task_is_drawn():
    image = np.full((30, 40, 3), 90, np.uint8)
    ones = np.ones((15, 20), np.float32)
    assert (task_cell(TaskSpec("edge", "probability", 1), ones, image).picture_HWC == 0).all()
    assert task_cell(TaskSpec("saliency", "probability", 1), ones, image).picture_HWC[15, 20].tolist() == [90, 90, 90]
    assert task_cell(TaskSpec("depth", "depth", 1), 2 * ones, image, range_m=(1, 3)).bar is not None
    scene = task_cell(TaskSpec("scene", "image_classes", 2, ("living_room", "hall")), np.array([0.9, 0.1]), image)
    assert scene.note == "living room 90%"
    parts = task_cell(TaskSpec("parts", "classes", 3, NAMES, PALETTE), np.ones((15, 20), np.uint8), image)
    assert [entry.label for entry in parts.legend] == ["bed frame"]


def test_pictures_of_a_result_show_what_the_photograph_shows(engine: Engine):
    image = np.random.default_rng(0).integers(0, 255, (90, 60, 3), np.uint8)  # upright into a wide plane: padded
    result = engine(image)
    inside = image_part(result["depth"], result)
    assert inside.shape == (result.placement.height, result.placement.width)
    assert inside.shape[1] < result["depth"].shape[1]
    cells = task_cells(result, image, longest_px=180)
    assert set(cells) == set(result)
    assert {cell.picture_HWC.shape for cell in cells.values()} == {(180, 120, 3)}
    original = engine(image, output_size="original")
    assert image_part(original["depth"], original).shape == (90, 60)


def test_panel_and_single_pictures_survive_a_round_trip_as_png(engine: Engine):
    image = np.random.default_rng(0).integers(0, 255, (50, 80, 3), np.uint8)
    result = engine(image)
    for picture in (
        panel(result, image, title="a.png"),
        *(single(cell) for cell in task_cells(result, image).values()),
    ):
        assert picture.dtype == np.uint8
        read = cv2.imdecode(np.frombuffer(png_bytes(picture), np.uint8), cv2.IMREAD_COLOR)
        assert read is not None
        np.testing.assert_array_equal(read[..., ::-1], picture)


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 300), (300, 1), (2000, 3)])
def test_odd_pictures_are_drawn(engine: Engine, size_hw: tuple[int, int]):
    image = np.full((*size_hw, 3), 77, np.uint8)
    result = engine(image)
    assert panel(result, image).shape[2] == 3
    assert all(single(cell).size for cell in task_cells(result, image).values())


def test_image_level_task_is_a_chip_and_no_cell(engine: Engine):
    image = np.full((50, 80, 3), 200, np.uint8)
    with_scene, without = panel(engine(image), image), panel(engine(image, "semseg,depth,normals,edge"), image)
    assert with_scene.shape[1] == without.shape[1]
    assert abs(with_scene.shape[0] - without.shape[0]) <= 60  # a legend may take a line more, a row of cells no


def test_text_stays_inside_its_width_and_canvas():
    assert text_width("wide text") > text_width("wide")
    for width in (10, 40, 90):
        assert text_width(shorten("a rather long label", width)) <= max(width, text_width(".."))
    canvas = blank(10, 20)
    draw_text(canvas, "far too long for this", -5, 30)
    draw_text(canvas, "käfer 日本", 0, 9)  # letters that the face does not have
    assert canvas.shape == (10, 20, 3)
    assert (canvas < 128).any()


def test_legend_shows_every_entry_or_counts_the_rest():
    entries = tuple(LegendEntry(f"class number {index}", (index, 0, 0), 0.1) for index in range(1, 30))
    few = legend_block(entries[:2], 400)
    assert all((few == np.array(entry.colour)).all(axis=-1).any() for entry in entries[:2])
    many = legend_block(entries, 300, max_rows=2)
    assert many.shape[0] == 2 * legend_block(entries[:1], 300).shape[0]
    assert many.shape[1] == 300


def test_fit_inside_keeps_the_aspect_ratio():
    assert fit_inside((100, 200), (50, 50)) == (25, 50)
    assert fit_inside((1, 5000), (50, 50)) == (1, 50)


def test_table_has_its_columns_where_the_titles_are():
    red = Cell(np.full((20, 20, 3), (255, 0, 0), np.uint8))
    drawn = table([Row("one", ("two",), (red, red))], ["a", "b"], cell_width=40, gutter=60)
    columns = np.flatnonzero((drawn == (255, 0, 0)).all(axis=-1).any(axis=0))
    assert columns.min() == 60 + 12 + 1  # gutter, gap, hairline
    assert drawn.shape[1] == 60 + 2 * (12 + 40)


def test_importing_the_runtime_draws_nothing_in(tmp_path: Path):
    import subprocess
    import sys

    loaded = "'cv2' in sys.modules or 'slimpath.runtime.imaging.pictures' in sys.modules"
    code = f"import sys, slimpath.runtime; print({loaded})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"


def test_jpeg_shows_the_same_colours_and_one_too_wide_for_it_is_refused():
    v, u = np.mgrid[:40, :60]
    picture = np.stack([4 * u, 5 * v, 255 - 4 * u], -1).astype(np.uint8)
    data = jpeg_bytes(picture)
    read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert read is not None
    assert data[:2] == b"\xff\xd8" and np.abs(read[..., ::-1].astype(int) - picture).mean() < 4
    with pytest.raises(ImageError, match="cannot be written as JPEG"):
        jpeg_bytes(np.zeros((1, 70_000, 3), np.uint8))
