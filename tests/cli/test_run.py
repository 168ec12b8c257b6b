"""`slimpath run`: pictures and arrays of many images, some of them bad."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from slimpath.runtime import Engine

TASKS = ("semseg", "depth", "normals", "edge", "scene")


def test_every_image_gets_a_picture_per_task_and_a_panel(slimpath: Callable[..., Any], tiny_bundle: Path, photos: Path):
    done = slimpath("run", photos, "--bundle", tiny_bundle, "--out", "out")
    assert done.exit_code == 0, done.output
    expected = {f"out/{stem}.{kind}.png" for stem in ("a", "below/b") for kind in (*TASKS, "panel")}
    found = {path.as_posix() for path in Path("out").rglob("*") if path.is_file()}
    assert found == expected  # and no temporary file
    assert all(cv2.imread(name) is not None for name in found)
    assert "2 of 2 images" in done.stdout


def test_tasks_and_no_panel_write_just_that(slimpath: Callable[..., Any], tiny_bundle: Path, photos: Path):
    done = slimpath("run", photos / "a.png", "--bundle", tiny_bundle, "--tasks", "depth", "--no-panel", "--out", "out")
    assert done.exit_code == 0, done.output
    assert [path.name for path in Path("out").iterdir()] == ["a.depth.png"]


@pytest.mark.parametrize(("output_size", "shape"), [("network", (32, 48)), ("original", (40, 60))])
def test_raw_arrays_are_those_of_the_engine(
    slimpath: Callable[..., Any], tiny_bundle: Path, photos: Path, output_size: Any, shape: tuple[int, int]
):
    image = photos / "a.png"
    options = ["--raw", "npz", "--output-size", output_size, "--budget", "width=0.5", "--out", "out"]
    assert slimpath("run", image, "--bundle", tiny_bundle, *options).exit_code == 0
    with Engine.load(tiny_bundle, threads=1) as engine:
        result = engine(image, budget="width=0.5", output_size=output_size)
    with np.load("out/a.npz") as stored:
        assert set(stored.files) == set(TASKS)
        assert stored["depth"].shape == shape
        for name in stored.files:
            # The same graphs on the same input; threads may sum in another order.
            np.testing.assert_allclose(stored[name], result[name], rtol=1e-5, atol=1e-6)


def test_bad_image_is_reported_and_the_others_go_on(slimpath: Callable[..., Any], tiny_bundle: Path, photos: Path):
    (photos / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    done = slimpath("run", photos, photos / "gone.png", "--bundle", tiny_bundle, "--out", "out")
    assert done.exit_code == 2
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == [
        str(photos / n) for n in ("bad.jpg", "gone.png")
    ]
    assert "2 of 4 images" in done.stdout
    assert not list(Path("out").glob("bad*"))
    assert Path("out/below/b.panel.png").is_file()


def test_json_tells_of_good_and_bad_images(slimpath: Callable[..., Any], tiny_bundle: Path, photos: Path):
    done = slimpath("run", photos / "a.png", photos / "gone.png", "--bundle", tiny_bundle, "--out", "out", "--json")
    document = json.loads(done.stdout)
    good, bad = document["images"]
    assert done.exit_code == 2
    assert document["failed"] == 1
    assert document["plan"]["encoder_width"] == 1.0
    assert good["size_hw"] == [40, 60]
    assert good["labels"]["scene"]["label"] in ("kitchen", "bedroom", "office")
    assert all(Path(name).is_file() for name in good["files"])
    assert "there is no such file" in bad["error"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--tasks", "flying"], "flying"),
        (["--budget", "lots"], "lots"),
        (["--budget", "0.001", "--strict"], "smallest feasible budget"),
        (["--budget", "20ms"], "profile"),
    ],
)
def test_bad_request_is_refused_before_anything_is_written(
    slimpath: Callable[..., Any], tiny_bundle: Path, photos: Path, options: list[str], says: str
):
    done = slimpath("run", photos, "--bundle", tiny_bundle, "--out", "out", *options)
    assert done.exit_code == 2
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not Path("out").exists()


def test_place_that_cannot_be_written_is_reported(slimpath: Callable[..., Any], tiny_bundle: Path, photos: Path):
    Path("taken").write_text("a file")
    done = slimpath("run", photos / "a.png", "--bundle", tiny_bundle, "--out", "taken")
    assert done.exit_code == 2
    assert "taken" in done.stderr
    assert Path("taken").read_text() == "a file"
