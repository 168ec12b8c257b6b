"""`slimpath eval` on files: from the command line to tables, JSON, pictures and exit codes."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="evaluating needs torch")

from slimpath.cli import common
from slimpath.tests.training.datasets.conftest import write_folder

PICTURES = ["accuracy-flops.png", "accuracy-latency.png", *(f"samples-{t}.png" for t in ("semseg", "depth", "edge"))]


@pytest.fixture
def own(tmp_path: Path) -> str:
    return f"folder={write_folder(tmp_path / 'own')}"


def test_data_set_is_measured_drawn_and_written(slimpath: Callable[..., Any], tiny_bundle: Path, own: str):
    done = slimpath(
        "eval", tiny_bundle, "--dataset", own, "--tasks", "semseg,depth,edge", "--pictures", "out", "--write",
        "measured", "--docs", "docs", "--workers", 1, "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["layout"] == "folder" and document["first_seed"] is None
    assert {row["task"] for row in document["rows"]} == {"semseg", "depth", "edge"}
    assert all(row["latency_ms"] > 0 for row in document["rows"])
    assert [Path(path).name for path in document["made"]] == ["measured", *PICTURES, "evaluation.md"]
    for name in PICTURES:
        picture = cv2.imread(f"out/{name}")
        assert picture is not None and picture.std() > 5, name
    page = Path("docs/evaluation.md").read_text()
    assert "--dataset folder=own --split val" in page and "split val, 2 pictures" in page
    assert str(Path.cwd().parent) not in page  # the machine's folders are nobody's business
    written = json.loads(slimpath("inspect", "measured", "--json").stdout)
    assert len([point for point in written["accuracies"] if point["source"].startswith("folder, split val")]) == 6


def test_missing_files_are_named_with_exit_code_2(slimpath: Callable[..., Any], tiny_bundle: Path, own: str):
    (Path(own.partition("=")[2]) / "edge/hall.png").unlink()
    done = slimpath("eval", tiny_bundle, "--dataset", own, "--pictures", "out")
    assert done.exit_code == 2 and "hall.png (missing)" in done.stderr and len(done.stderr.splitlines()) == 1
    assert not Path("out").exists()


def test_claim_that_is_missed_is_exit_code_1_only_where_it_is_required(
    slimpath: Callable[..., Any], tiny_bundle: Path, own: str
):
    """The tiny bundle means nothing: it cannot be better than trivial."""
    options = ["eval", tiny_bundle, "--dataset", own, "--tasks", "depth", "--workers", 1]
    plain, required = slimpath(*options), slimpath(*options, "--require")
    assert plain.exit_code == 0 and "NO   at least 20 % better than trivial" in plain.stdout
    assert required.exit_code == 1
    assert "not held: at least 20 % better than trivial" in required.stderr
    assert "depth" in required.stdout  # what was found is printed all the same


def test_delta_m_against_itself_is_nothing_and_control_is_told(
    slimpath: Callable[..., Any], tiny_bundle: Path, own: str
):
    options = ["eval", tiny_bundle, "--dataset", own, "--tasks", "depth,normals", "--workers", 1]
    Path("single.json").write_text(slimpath(*options, "--json").stdout)
    done = slimpath(*options, "--reference", "single.json", "--control", "0.985,1", "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    widest = document["delta_m"]["rows"][-1]
    assert widest["value"] == pytest.approx(0, abs=1e-9) and widest["low"] <= 0 <= widest["high"]
    assert [row["budget"] for row in document["controllability"]] == [0.985, 1.0]
    assert len(document["rows"]) == 2 * 8  # the grid, which control looks at
    table = slimpath(*options, "--reference", "single.json", "--control", "0.8")
    assert "delta_m against single-task models" in table.stdout and "hypervolume" in table.stdout


def test_options_that_contradict_each_other_are_refused(slimpath: Callable[..., Any], tiny_bundle: Path, own: str):
    for options, expected in (
        (("--dataset", "folder"), "LAYOUT=DIR"),
        (("--dataset", own, "--at", "width=1", "--control", "0.5"), "--control looks at every"),
        (("--dataset", own, "--at", "width=1", "--grid"), "instead of --grid"),
        (("--dataset", own, "--control", "2"), "--control must be"),
        (("--dataset", own, "--tasks", "teeth"), "unknown task 'teeth'"),
        (("--dataset", own, "--reference", "nowhere.json"), "nowhere.json"),
    ):
        done = slimpath("eval", tiny_bundle, "--workers", 1, *options)
        assert done.exit_code == 2 and expected in done.stderr, (options, done.stderr)


def test_what_cannot_be_answered_is_refused_before_anything_is_measured(
    slimpath: Callable[..., Any], tiny_bundle: Path, own: str, monkeypatch: pytest.MonkeyPatch
):
    from slimpath.training import evaluate

    def measured(*_: object) -> None:
        raise AssertionError("measured")

    monkeypatch.setattr(evaluate, "measure", measured)
    monkeypatch.setattr("slimpath.training.eval_data.open_rooms", measured)
    Path("typo.json").write_text("{")
    Path("other.json").write_text('{"source": "moons", "rows": [{"task": "depth"}]}')
    options = ["eval", tiny_bundle, "--workers", 1]
    for data in ([], ["--dataset", own]):
        for more, expected in (
            (("--reference", "typo.json"), "typo.json is not what"),
            (("--reference", "other.json"), "was measured on moons"),
            (("--control", "0.5", "--tasks", "depth"), "preferences need two tasks"),
            (("--plot", "out.xyz"), "a plot is a png, svg, pdf file, got 'out.xyz'"),
        ):
            done = slimpath(*options, *data, *(more if data or "--plot" in more else ("--tasks", "depth", *more)))
            assert done.exit_code == 2 and expected in " ".join(done.stderr.split()), (more, done.stderr)
    assert "measured" in slimpath(*options, "--dataset", own).stderr  # nothing else ended these


def test_library_that_only_a_checkpoint_needs_is_asked_for_before_it_is_read(
    slimpath: Callable[..., Any], tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
):
    found = common.importlib.util.find_spec
    monkeypatch.setattr(common.importlib.util, "find_spec", lambda name: None if name == "onnxscript" else found(name))
    Path("model.safetensors").touch()
    done = slimpath("eval", "model.safetensors")
    assert done.exit_code == 2 and "`slimpath eval` needs onnxscript" in done.stderr
    assert "onnxscript" not in slimpath("eval", tiny_bundle, "--dataset", "nothing").stderr


def test_page_quotes_every_option_that_decides_a_figure(slimpath: Callable[..., Any], tiny_bundle: Path, own: str):
    pytest.importorskip("openvino", reason="the openvino extra is not installed")
    options = [
        "--tasks", "depth, edge", "--fit-split", "other", "--judge-at", "network", "--control", "0.985,1", "--size",
        "32x48", "--backend", "openvino", "--precision", "auto", "--samples-per-pixel", "1", "--scenes", "1",
    ]  # fmt: skip
    done = slimpath("eval", tiny_bundle, "--dataset", own, *options, "--docs", "docs", "--workers", 1, "--json")
    assert done.exit_code == 0, done.output
    page = Path("docs/evaluation.md").read_text()
    command = shlex.split(page.partition("Written by `")[2].partition("`")[0])
    assert command[:7] == ["slimpath", "eval", "moe", "--dataset", "folder=own", "--split", "val"]
    assert command[-2:] == ["--docs", "docs"]
    quoted = dict(zip(command[7:-2:2], command[8:-2:2], strict=True))
    assert quoted == dict(zip(options[::2], options[1::2], strict=True))


def test_progress_is_for_terminals_alone_and_tells_the_time_to_go(
    slimpath: Callable[..., Any], tiny_bundle: Path, own: str, monkeypatch: pytest.MonkeyPatch
):
    options = ["eval", tiny_bundle, "--dataset", own, "--tasks", "depth", "--at", "width=1", "--workers", 1]
    assert slimpath(*options).stderr == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    shown = slimpath(*options).stderr
    assert "evaluate" in shown and "0/2" in shown and "-:--:--" in shown


def test_samples_of_which_nothing_can_be_told_are_not_drawn(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from slimpath.training import eval_pictures
    from slimpath.training.eval_data import FileData
    from slimpath.training.evaluate import Evaluation, run_evaluation

    made: list[list[str]] = []

    def look(found: Evaluation) -> None:
        made.append([path.name for path in eval_pictures.write_pictures(found, tmp_path / "out")])

    files = FileData("folder", write_folder(tmp_path / "own"))
    for order in (eval_pictures.ranked, lambda *_: ([], np.zeros(0))):
        monkeypatch.setattr(eval_pictures, "ranked", order)
        run_evaluation(tiny_bundle, files=files, tasks=["depth"], progress=False, workers=1, looks=[look])
    assert made == [["accuracy-flops.png", "samples-depth.png"], ["accuracy-flops.png"]]
    files_left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert files_left == ["accuracy-flops.png", "samples-depth.png"]


def test_sheet_of_samples_appears_whole_or_not_at_all(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from slimpath.training import eval_pictures
    from slimpath.training.eval_data import FileData
    from slimpath.training.evaluate import Evaluation, run_evaluation

    def refuse(path: Path, target: Path) -> Path:
        raise OSError(f"no space left for {target.name}")

    monkeypatch.setattr(eval_pictures, "plot_report", lambda _, path, **__: path)
    files = FileData("folder", write_folder(tmp_path / "own"))
    found: list[Evaluation] = []
    run_evaluation(tiny_bundle, files=files, tasks=["depth"], progress=False, workers=1, looks=[found.append])
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match=r"samples-depth\.png"):
        eval_pictures.write_pictures(found[0], tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_worst_and_best_are_those_of_the_metric(tiny_bundle: Path, tmp_path: Path):
    from slimpath.training.eval_data import FileData
    from slimpath.training.eval_pictures import ranked
    from slimpath.training.evaluate import run_evaluation

    root = write_folder(tmp_path / "own")
    np.save(root / "depth/hall.npy", np.zeros((20, 28), np.float32))  # no label: has no place in the order
    for number, metres in enumerate((2.0, 400.0, 30.0)):
        cv2.imwrite(str(root / f"images/more{number}.png"), np.full((20, 28, 3), 90, np.uint8))
        np.save(root / f"depth/more{number}.npy", np.full((20, 28), metres, np.float32))
    found = run_evaluation(tiny_bundle, files=FileData("folder", root), tasks=["depth"], progress=False, workers=1)
    order, values = ranked(found, found.report.rows[-1])
    assert len(order) == 4 and 0 not in order  # "hall" is the first by name
    assert [values[number] for number in order] == sorted(values[number] for number in order)
    assert order[-1] == 3 and values[3] > 100  # 400 metres
