"""`slimpath adapt` from the command line: a report, a document, and one line for what it refuses."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="adapting needs torch")

QUICK = ("--steps", "2", "--images", "1", "--precision", "fp32", "--calibration", "2")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from slimpath.models import HeadConfig, save_checkpoint
    from slimpath.tests.training.adapt.conftest import full_width

    tasks = (HeadConfig("depth", "depth", 1), HeadConfig("label", "image_classes", 3, decoder="linear"))
    model = full_width("vit_micro", tasks)
    return save_checkpoint(tmp_path_factory.mktemp("files") / "converted.safetensors", model, {"licence": "unknown"})


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Ten, of which names choose two to be held out."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(10):
        assert cv2.imwrite(str(folder / f"{number}.png"), rng.integers(0, 255, (40, 48, 3), np.uint8))
    return folder


def test_report_has_every_task_and_width_before_and_after(
    slimpath: Callable[..., Any], checkpoint: Path, pictures: Path
) -> None:
    done = slimpath("adapt", checkpoint, "--data", pictures, "--widths", "0.5,1", *QUICK)
    assert done.exit_code == 0, done.output
    assert "judged by the original's answers at full width" in done.stdout
    for word in ("depth", "label", "RMSE ↓", "accuracy ↑", "before", "after", "better by"):
        assert word in done.stdout
    assert done.stdout.splitlines()[-1].startswith("runs/adapt/model.safetensors: ")
    assert "widths 0.5, 1" in done.stdout.splitlines()[-1]
    assert {path.name for path in Path("runs/adapt").iterdir()} >= {
        "model.safetensors", "report.json", "adapt.json", "config.json", "log.csv", "state.pt"
    }  # fmt: skip


def test_json_is_one_document_and_nothing_else(slimpath: Callable[..., Any], checkpoint: Path, pictures: Path) -> None:
    done = slimpath("adapt", checkpoint, "--data", pictures, "--out", "made", *QUICK, "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert (document["checkpoint"], document["finished"]) == ("made/model.safetensors", True)
    assert [(row["task"], row["width"]) for row in document["rows"][:4]] == [
        ("depth", width) for width in (0.25, 0.5, 0.75, 1.0)
    ]
    assert document["trained"] + document["held"] == 10 and document["labelled"] is False
    assert done.stderr == ""


def test_interrupted_adaptation_says_how_to_go_on_and_leaves_no_checkpoint(
    slimpath: Callable[..., Any], checkpoint: Path, pictures: Path
) -> None:
    arguments = ["adapt", checkpoint, "--data", pictures, "--out", "made", *QUICK]
    first = slimpath(*arguments, "--minutes", "0")
    assert first.exit_code == 0 and "step 1 of 2" in first.stdout and "goes on" in first.stdout, first.output
    assert not Path("made/model.safetensors").exists()
    assert slimpath(*arguments).exit_code == 0 and Path("made/model.safetensors").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "nowhere"], "expected a folder of pictures, LAYOUT=DIR or rooms:N, got 'nowhere'"),
        (["--data", "empty"], "empty holds no picture"),
        (["--data", "torn"], "1 of 2 pictures cannot be read: torn/a.jpg"),
        (["--data", "whole"], "too few to train on some and judge on others"),
        (["--data", "whole", "--labels"], "labels are asked for, pictures/ has none"),
        (["--data", "rooms:4"], "labels are needed for every task, rooms:4 has none for label"),
        (["--data", "rooms:x"], "rooms:N needs a number"),
        (["--data", "folder=whole"], "has none for depth, label"),
        (["--data", "nyud_mt=gone", "--no-labels"], "must be a folder in the layout 'nyud_mt'"),
        (["--data", "whole", "--widths", "1"], "widths must be at least one below 1"),
        (["--data", "whole", "--widths", "0.5,2"], "--widths must be numbers above 0, at most 1"),
        (["--data", "whole", "--lr", "0"], "lr above 0"),
        (["--data", "whole", "--precision", "fp64"], "precision must be 'bf16' or 'fp32'"),
    ],
)
def test_bad_input_is_one_line_exit_code_2_and_leaves_nothing(
    slimpath: Callable[..., Any], checkpoint: Path, pictures: Path, options: list[str], message: str
) -> None:
    for name, files in (("empty", ()), ("torn", ("0.png",)), ("whole", ("0.png",))):
        Path(name).mkdir()
        for file in files:
            (Path(name) / file).write_bytes((pictures / file).read_bytes())
    Path("torn/a.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    if {"--precision", "--labels"} & set(options):  # it takes more than one picture to get that far
        options = [str(pictures) if text == "whole" else text for text in options]
    done = slimpath("adapt", checkpoint, *options, "--out", "made", "--steps", "1", "--images", "1")
    assert (done.exit_code, done.stdout) == (2, ""), done.output
    assert message in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert not Path("made").exists()


def test_other_files_than_a_checkpoint_at_full_width_are_refused(
    slimpath: Callable[..., Any], pictures: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    from slimpath.models import save_checkpoint
    from slimpath.tests.export.conftest import random_model

    slimmable = save_checkpoint(tmp_path / "trained.safetensors", random_model("vit_micro"))
    for file, message in (
        (tiny_bundle, "expected a checkpoint, a .safetensors file, got a bundle"),
        (tmp_path, "got a folder"),
        (tmp_path / "nowhere.safetensors", "no checkpoint at"),
        (tiny_bundle / "weights.safetensors", "is no slimpath checkpoint"),
        (pictures / "0.png", "is not a whole safetensors file"),
        (slimmable, "offers the widths 0.25, 0.5, 0.75, 1 already"),
    ):
        done = slimpath("adapt", file, "--data", pictures, "--out", "made")
        assert (done.exit_code, message in done.stderr) == (2, True), done.output
        assert len(done.stderr.splitlines()) == 1 and not Path("made").exists()


@pytest.mark.parametrize("library", ["onnx", "onnx_ir", "onnxscript", "tqdm"])
def test_a_library_that_is_missing_is_named_before_anything_is_read(
    slimpath: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == library else find(name, *more))
    done = slimpath("adapt", "nowhere.safetensors", "--data", "nowhere")
    assert done.exit_code == 2 and len(done.stderr.splitlines()) == 1
    assert f'needs {library}; pip install "slimpath[train]"' in done.stderr


def test_taken_places_are_refused_and_left_alone(
    slimpath: Callable[..., Any], checkpoint: Path, pictures: Path
) -> None:
    Path("made").mkdir()
    Path("made/notes.txt").write_text("mine")
    done = slimpath("adapt", checkpoint, "--data", pictures, "--out", "made", *QUICK)
    assert done.exit_code == 2 and "made is taken" in done.stderr
    assert [path.name for path in Path("made").iterdir()] == ["notes.txt"]


def test_help_says_what_teaches_and_gives_examples(slimpath: Callable[..., Any]) -> None:
    shown = slimpath("adapt", "--help").stdout
    for word in ("fisher", "--native-decoders", "--no-labels", "Examples:", "slimpath export"):
        assert word in shown
