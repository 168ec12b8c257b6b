"""`slimpath add-task`, from a folder of labelled pictures to a pack that `run` answers with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest

pytest.importorskip("torch", reason="training a pack needs torch")
pytest.importorskip("onnxscript", reason="exporting needs onnxscript")

from slimpath.export import export_model
from slimpath.tests.export.conftest import TASKS, random_model
from slimpath.tests.training.packs.conftest import ToyBlobs

Slimpath = Callable[..., Any]


@pytest.fixture(scope="module")
def micro(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundles") / "micro"
    export_model(random_model("m3vit_micro", TASKS[:1], image_hw=(64, 64)), {}, out, widths=[1.0])
    return out


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled pictures, as a user has them."""
    folder, source = tmp_path_factory.mktemp("blobs"), ToyBlobs(0, 16)
    for part in ("images", "labels"):
        (folder / part).mkdir()
    for number in range(16):
        sample = source[number]
        assert cv2.imwrite(str(folder / "images" / f"blob{number}.png"), sample["image"])
        assert cv2.imwrite(str(folder / "labels" / f"blob{number}.png"), sample["semseg"])
    return folder


def test_a_folder_becomes_a_pack_that_run_answers_with(
    slimpath: Slimpath, micro: Path, blobs: Path, photos: Path
) -> None:
    quick = ("--steps", 4, "--batch", 2, "--precision", "fp32")
    found = slimpath("add-task", micro, "--data", blobs, "--task", "blobs", "--classes", "ground,blob",
                     "--out", "blobs.pack", "--json", *quick)  # fmt: skip
    assert found.exit_code == 0, found.stderr
    document = json.loads(found.stdout)
    parameters = document["parameters"]
    assert document["began_from"] == "semseg" and document["bytes"] > 4 * parameters["head"]
    assert 0 < parameters["share_in_encoder"] < parameters["share"]
    assert document["configurations"][0]["metric"] == "mIoU"
    ran = slimpath("run", photos / "a.png", "--bundle", micro, "--pack", "blobs.pack", "--tasks", "blobs", "--out", "o")
    assert ran.exit_code == 0, ran.stderr
    assert Path("o/a.blobs.png").is_file()


def test_the_table_says_how_good_it_is_and_what_it_weighs(slimpath: Slimpath, micro: Path, blobs: Path) -> None:
    found = slimpath("add-task", micro, "--data", blobs, "--task", "blobs", "--classes", "ground,blob",
                     "--out", "blobs.pack", "--steps", 2, "--batch", 2, "--precision", "fp32")  # fmt: skip
    assert found.exit_code == 0, found.stderr
    assert "mIoU" in found.stdout and "of the model" in found.stdout and "blobs.pack" in found.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--out", "p"), "no --task"),
        (("--task", "layout"), "no --out"),
        (("--task", "mood", "--out", "p"), "SynthRooms labels the new tasks layout, height"),
        (("--task", "x", "--out", "p", "--data", "nowhere", "--classes", "a,b"), "a folder 'images'"),
        (("--task", "x", "--out", "p", "--data", "."), "needs 2 to 255 classes"),
        (("--task", "x", "--out", "p", "--data", ".", "--kind", "poetry"), "kind must be one of"),
        (("--task", "semseg", "--out", "p", "--data", "{blobs}", "--classes", "a,b"), "a task 'semseg' already"),
        (("--task", "x", "--out", "p", "--data", "{blobs}", "--classes", "a,b", "--like", "y"), "no task 'y'"),
        (("--task", "x", "--out", "here", "--data", "{blobs}", "--classes", "a,b"), "here exists"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    slimpath: Slimpath, micro: Path, blobs: Path, arguments: tuple[str, ...], said: str
) -> None:
    Path("here").mkdir()
    found = slimpath("add-task", micro, *(argument.format(blobs=blobs) for argument in arguments))
    assert found.exit_code == 2, found.stdout
    assert said in found.stderr and len(found.stderr.splitlines()) == 1
    assert not Path("p").exists()
