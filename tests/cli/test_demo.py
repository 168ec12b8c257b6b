"""`slimpath demo`: one sheet per photograph, one of a room beside its ground truth, one of everything."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from slimpath.cli import demo
from slimpath.cli.demo_sheets import Subject, knob_rows
from slimpath.cli.errors import InputError
from slimpath.runtime import Engine

pytest.importorskip("skimage", reason="the photographs are scikit-image's")


@pytest.fixture(autouse=True)
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A room as it is stored: half precision, booleans, the scene as a number."""
    y, x = np.mgrid[0:40, 0:48].astype(np.float32)
    normals = np.zeros((40, 48, 3), np.float16)
    normals[..., 2] = 1
    path = tmp_path / "room.npz"
    np.savez_compressed(
        path,
        image=np.stack([x * 5, y * 5, x + y], axis=-1).astype(np.uint8),
        depth=(1 + y / 10).astype(np.float16),
        normals=normals,
        semseg=(x // 20).astype(np.uint8),
        edge=x == 20,
        saliency=y > 30,
        scene=np.int64(1),
    )
    monkeypatch.setattr(demo.load_room, "__defaults__", (path,))
    return path


def test_demo_draws_every_subject_at_every_width(
    slimpath: Callable[..., Any], tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(demo, "PHOTOGRAPHS", ("coffee", "no-such-photograph"))
    done = slimpath("demo", "--bundle", tiny_bundle, "--widths", "1,0.5", "--out", "out", "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert [report["name"] for report in document["photographs"]] == ["coffee", "synthrooms"]
    for report in document["photographs"]:
        assert cv2.imread(report["picture"]) is not None
        assert [run["width"] for run in report["runs"]] == [1.0, 0.5]
        assert report["runs"][0]["flops"] > report["runs"][1]["flops"]
        assert all(run["ms"] > 0 for run in report["runs"])
    assert {path.name for path in Path("out").iterdir()} == {"coffee.png", "synthrooms.png", "contact-sheet.png"}


def test_ground_truth_is_the_first_row_and_sets_the_range_of_depth(tiny_bundle: Path):
    subject = demo.load_room()
    with Engine.load(tiny_bundle, threads=1) as engine:
        result = demo.run_timed(engine, subject.image_HWC, 0.5)
    specs = {name: spec for name, spec in result.specs.items() if spec.kind != "image_classes"}
    truth, predicted = knob_rows(subject, [result], specs)
    assert (truth.heading, truth.lines) == ("ground truth", ("bedroom",))
    assert predicted.heading == "width 0.5"
    assert any("FLOPs" in line for line in predicted.lines) and any("ms" in line for line in predicted.lines)
    depth = list(specs).index("depth")
    bars = [row.cells[depth].bar for row in (truth, predicted)]
    assert bars[0] is not None and bars[1] is not None
    assert (bars[0].low, bars[0].high) == (bars[1].low, bars[1].high)
    assert bars[0].low == pytest.approx(1.0, abs=0.05) and bars[0].high == pytest.approx(4.9, abs=0.05)


def test_photograph_has_no_row_of_ground_truth(tiny_bundle: Path):
    subject = Subject("plain", demo.load_room().image_HWC, {})
    with Engine.load(tiny_bundle, threads=1) as engine:
        results = [demo.run_timed(engine, subject.image_HWC, width) for width in (1.0, 0.5)]
    rows = knob_rows(subject, results, {"depth": results[0].specs["depth"]})
    assert [row.heading for row in rows] == ["width 1", "width 0.5"]


def test_photographs_come_without_a_network(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("socket.socket", None)
    subjects = demo.load_subjects()
    assert [subject.name for subject in subjects] == [*demo.PHOTOGRAPHS, "synthrooms"]
    assert all(subject.image_HWC.dtype == np.uint8 and subject.image_HWC.shape[2] == 3 for subject in subjects)


def test_damaged_room_is_refused(tmp_path: Path):
    (tmp_path / "bad.npz").write_bytes(b"no room")
    with pytest.raises(InputError, match="not a rendered room"):
        demo.load_room(tmp_path / "bad.npz")


@pytest.mark.parametrize("widths", ["2", "x", "0.3"])
def test_widths_that_there_are_not_are_refused(slimpath: Callable[..., Any], tiny_bundle: Path, widths: str):
    done = slimpath("demo", "--bundle", tiny_bundle, "--widths", widths, "--out", "out")
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1
    assert not Path("out").exists()


def test_demo_without_scikit_image_says_what_to_install(slimpath: Callable[..., Any], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = slimpath("demo")
    assert done.exit_code == 2
    assert 'pip install "slimpath[demo]"' in done.stderr
