"""`slimpath train`, `export` and `eval`, one after the other, as small as they get."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest

pytest.importorskip("torch", reason="training and exporting need torch")
pytest.importorskip("onnxscript", reason="exporting needs onnxscript")

SETTINGS = [
    "stages=32x32:8:1",
    "steps=2",
    "warmup_steps=1",
    "data.scenes=4",
    "data.render_hw=32x32",
    "model=m3vit_micro",
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained through the command line for two steps."""
    from typer.testing import CliRunner

    from slimpath.cli.app import app

    out = tmp_path_factory.mktemp("run")
    done = CliRunner().invoke(app, ["train", "smoke", *SETTINGS, "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["finished"] and document["step"] == 2
    return Path(document["checkpoint"])


def test_setting_that_does_not_exist_is_refused(slimpath: Callable[..., Any]):
    done = slimpath("train", "smoke", "no_such=1", "--out", "run")
    assert done.exit_code == 2
    assert "no_such" in done.stderr
    assert not Path("run").exists()


def test_trained_checkpoint_becomes_a_bundle_that_inspects_and_runs(
    slimpath: Callable[..., Any], checkpoint: Path, photos: Path
):
    done = slimpath("export", checkpoint, "--out", "bundle", "--widths", "1")
    assert done.exit_code == 0, done.output
    last = done.stdout.splitlines()[-1]
    assert last.startswith("bundle: ") and "MB" in last and "largest difference from the network" in last
    assert slimpath("inspect", "bundle", "--verify").exit_code == 0
    assert slimpath("run", photos, "--bundle", "bundle", "--out", "out").exit_code == 0
    again = slimpath("export", checkpoint, "--out", "bundle", "--widths", "1")
    assert again.exit_code == 2
    assert "exists" in again.stderr


def test_options_of_one_target_are_refused_for_the_other(slimpath: Callable[..., Any], checkpoint: Path):
    bundle = slimpath("export", checkpoint, "--out", "made", "--width", "0.5")
    assert (bundle.exit_code, "add --to standalone" in bundle.stderr) == (2, True)
    alone = slimpath("export", checkpoint, "--out", "made", "--to", "standalone", "--widths", "1,0.5")
    assert (alone.exit_code, "use --width" in alone.stderr) == (2, True)
    assert not Path("made").exists()


def test_width_out_of_range_is_refused(slimpath: Callable[..., Any], checkpoint: Path):
    done = slimpath("export", checkpoint, "--out", "made", "--widths", "2")
    assert done.exit_code == 2
    assert "--widths must be numbers above 0, at most 1" in done.stderr
    assert not Path("made").exists()


def test_difference_above_the_tolerance_is_exit_code_2(
    slimpath: Callable[..., Any], checkpoint: Path, monkeypatch: pytest.MonkeyPatch
):
    from slimpath import export

    report = export.ExportReport(Path("made"), 1_000_000, 900_000, 3, 0.5, False)
    monkeypatch.setattr(export, "export_bundle", lambda *_, **__: report)
    done = slimpath("export", checkpoint, "--out", "made", "--json")
    assert done.exit_code == 2
    assert json.loads(done.stdout)["passed"] is False
    assert "above the tolerance" in done.stderr


def test_evaluation_measures_writes_and_draws(
    slimpath: Callable[..., Any], checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from functools import partial

    from slimpath.training import evaluate

    assert slimpath("export", checkpoint, "--out", "bundle", "--widths", "1", "--no-check").exit_code == 0
    monkeypatch.setattr(evaluate, "run_evaluation", partial(evaluate.run_evaluation, baseline_scenes=2, workers=1))
    options = ["--scenes", "2", "--write", "measured", "--plot", "eval.png", "--cache", "rooms", "--json"]
    done = slimpath("eval", "bundle", *options)
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["scenes"] == 2
    assert {row["task"] for row in document["rows"]} == {"semseg", "depth", "normals", "edge", "saliency", "scene"}
    assert cv2.imread("eval.png") is not None
    written = json.loads(slimpath("inspect", "measured", "--json").stdout)
    assert len(written["accuracies"]) == len(document["rows"])
    taken = slimpath("eval", "bundle", "--scenes", "2", "--write", "measured")
    assert (taken.exit_code, "exists" in taken.stderr) == (2, True)


def test_methods_and_data_set_are_chosen_by_options(slimpath: Callable[..., Any], tmp_path: Path):
    from slimpath.tests.training.datasets.conftest import write_folder

    root = write_folder(tmp_path / "own,data")
    chosen = ["--sharpness", "flat", "--aggregate", "pcgrad", "--weighting", "uncertainty", "--ci-kd", "0.5"]
    settings = [*SETTINGS, "steps=1", "stages=32x32:4:1", "tasks=depth,edge"]
    done = slimpath(
        "train", "smoke", *settings, *chosen, "--rep-mtl", "1", "--dataset", f"folder={root}", "--out", "run"
    )
    assert done.exit_code == 0, done.output
    config = json.loads(Path("run/config.json").read_text())
    methods = {"sharpness": "flat", "aggregate": "pcgrad", "weighting": "uncertainty", "ci_kd": 0.5, "rep_tsr": 1.0}
    assert methods.items() <= config["methods"].items()
    assert (config["data"]["dataset"], config["data"]["root"]) == ("folder", str(root))


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        (("--dataset", "folder"), "LAYOUT=DIR"),
        (("--dataset", "coco=."), "pascal_mt"),
        (("--sharpness", "sam"), "none, samo, flat"),
        (("--ci-kd", "-1"), "0 (off) or more"),
        (("device=gpu",), "'cpu', 'cuda' or 'cuda:NUMBER', got 'gpu'"),
        (("tasks=depth",), "give data.rows_per_image=1"),
    ],
)
def test_option_that_cannot_work_is_refused_in_one_line(
    slimpath: Callable[..., Any], option: tuple[str, str], expected: str
):
    done = slimpath("train", "smoke", *SETTINGS, *option, "--out", "run")
    assert done.exit_code == 2 and expected in done.stderr and len(done.stderr.splitlines()) == 1
    assert not Path("run").exists()
