"""Bundles judged on the files of a data set: every layout, at both sizes, what is refused, and what is written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch")

from slimpath.runtime import Bundle, Engine
from slimpath.runtime.tasks import TaskSpec
from slimpath.tests.runtime import tiny_bundle
from slimpath.tests.training.datasets.conftest import write_list, write_npy, write_picture
from slimpath.training.datasets import open_dataset
from slimpath.training.datasets.folder import PlainFolder
from slimpath.training.errors import DataError, EvaluationError
from slimpath.training.eval_data import FileData, judged_files
from slimpath.training.eval_report import EvalReport
from slimpath.training.evaluate import evaluate_bundle
from slimpath.training.metrics import EdgeF, metric_for
from slimpath.training.tasks import IGNORED_CLASS

SIZE_HW = (32, 48)  # the tiny bundle's first; the pictures are 20 x 28
NYUD = ("semseg", "depth", "normals", "edge")
PASCAL = ("semseg", "human_parts", "normals", "edge", "saliency")
KINDS = {"semseg": "classes", "human_parts": "classes", "depth": "depth", "normals": "normals"}


def build(folder: Path, tasks: tuple[str, ...], classes: dict[str, int]) -> Path:
    """The tiny bundle with other tasks."""
    channels = {"normals": 3, **classes}
    specs = tuple(TaskSpec(t, KINDS.get(t, "probability"), channels.get(t, 1)) for t in tasks)  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_bundle, "TASKS", specs)
        return tiny_bundle.build_tiny_bundle(folder, accuracies=False)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("bundles")
    return {
        "nyud_mt": build(root / "nyud", NYUD, {"semseg": 40}),
        "nyud_v2": root / "nyud",
        "pascal_mt": build(root / "pascal", PASCAL, {"semseg": 21, "human_parts": 7}),
        "mtan": build(root / "mtan", NYUD, {"semseg": 13}),
        "folder": build(root / "own", (*NYUD, "saliency"), {"semseg": 5}),
    }


def judge(bundle: Path, files: FileData, **options: Any) -> EvalReport:
    return evaluate_bundle(bundle, files=files, progress=False, workers=1, **options)


CASES = {
    "nyud_mt": ("nyud_mt", NYUD),
    "nyud_v2": ("nyud_v2", NYUD),
    "pascal_mt": ("pascal", PASCAL),
    "mtan": ("mtan_nyuv2", ("semseg", "depth", "normals")),
    "folder": ("plain", (*NYUD, "saliency")),
}


@pytest.mark.parametrize("layout", CASES)
def test_values_are_the_engines_at_each_pictures_own_size(
    layout: str, bundles: dict[str, Path], request: pytest.FixtureRequest
):
    fixture, tasks = CASES[layout]
    root = request.getfixturevalue(fixture)
    split = "train" if layout == "pascal_mt" else "val"  # of which no picture has people with parts
    report = judge(bundles[layout], FileData(layout, root, split))
    assert report.tasks == [task for task in Bundle.open(bundles[layout]).manifest.task_names if task in tasks]
    samples = open_dataset(layout, root, split, tasks)
    assert report.scenes == len(samples)
    assert report.source.startswith(f"{layout}, split {split}, {len(samples)} pictures")
    with Engine.load(bundles[layout], threads=1) as engine:
        for row in report.rows:
            chosen = row.configuration
            distance = 0.011 if layout.startswith("nyud") else 0.0075
            metric = metric_for(chosen.task, engine.tasks[chosen.task].channels, edge_distance=distance)
            sums = []
            for number in range(len(samples)):
                sample = samples[number]
                budget = f"width={chosen.encoder_width}"
                answer = engine(sample["image"], [chosen.task], budget, output_size="original")[chosen.task]
                sums.append(metric.sums(answer, sample[chosen.task]))
            assert float(metric.value(np.sum(sums, axis=0))) == pytest.approx(row.accuracy.value, rel=1e-4), chosen


def test_at_the_networks_size_padding_counts_for_nothing(bundles: dict[str, Path], plain: Path):
    report = judge(bundles["folder"], FileData("folder", plain, at_network=True), tasks=["depth"])
    assert report.source.endswith("at the network's size")
    samples = open_dataset("folder", plain, "val", ("depth",))
    squares, pixels = 0.0, 0
    with Engine.load(bundles["folder"], threads=1) as engine:
        for number in range(len(samples)):
            sample = samples[number]
            result = engine(sample["image"], ["depth"])
            place = result.placement
            truth = np.zeros(SIZE_HW, np.float32)
            inner = cv2.resize(sample["depth"], (place.width, place.height), interpolation=cv2.INTER_NEAREST_EXACT)
            truth[place.top : place.top + place.height, place.left : place.left + place.width] = inner
            valid = truth > 0
            squares += float(((result["depth"] - truth)[valid].astype(np.float64) ** 2).sum())
            pixels += int(valid.sum())
    (row,) = [row for row in report.rows if row.configuration.encoder_width == 1]
    assert row.accuracy.value == pytest.approx(np.sqrt(squares / pixels), rel=1e-4)


def test_what_has_no_labels_is_left_out_by_name(bundles: dict[str, Path], plain: Path, mtan_cityscapes: Path):
    shutil.rmtree(plain / "normals")
    report = judge(bundles["folder"], FileData("folder", plain))
    assert report.skipped_tasks == ("normals",) and "normals" not in report.tasks
    with pytest.raises(EvaluationError, match="not normals"):
        judge(bundles["folder"], FileData("folder", plain), tasks=["normals"])
    cityscapes = judge(bundles["mtan"], FileData("mtan", mtan_cityscapes), tasks=["depth"])
    assert cityscapes.tasks == ["depth"]


def test_everything_wrong_is_named_before_anything_runs(bundles: dict[str, Path], plain: Path):
    (plain / "edge/hall.png").unlink()
    write_npy(plain / "depth/hall.npy", np.ones((4, 4), np.float32))
    with pytest.raises(DataError, match=r"2 are missing, damaged.*hall\.npy \(4 x 4.*hall\.png \(missing\)"):
        judge(bundles["folder"], FileData("folder", plain))
    with pytest.raises(DataError, match="must be one of pascal_mt"):
        judge(bundles["folder"], FileData("coco", plain))
    with pytest.raises(DataError, match="must be a folder"):
        judge(bundles["nyud_mt"], FileData("nyud_mt", plain / "nowhere"))


def test_other_classes_than_the_bundles_are_refused(bundles: dict[str, Path], plain: Path, nyud_mt: Path):
    with pytest.raises(EvaluationError, match="40 classes of 'semseg', this bundle 5"):
        judge(bundles["folder"], FileData("nyud_mt", nyud_mt))
    assert judge(bundles["folder"], FileData("nyud_mt", nyud_mt), tasks=["depth"]).tasks == ["depth"]
    write_list(plain / "semseg.txt", ["floor", "wall", "a", "b"])
    with pytest.raises(EvaluationError, match="4 classes of 'semseg', this bundle 5"):
        judge(bundles["folder"], FileData("folder", plain))


def test_classes_of_other_names_are_refused(tmp_path: Path, plain: Path):
    bundle = tiny_bundle.build_tiny_bundle(tmp_path / "named")
    write_list(plain / "semseg.txt", ["wall", "floor", "bed", "window", "lamp"])
    with pytest.raises(EvaluationError, match=r"'window' in .*, 'door' in the bundle"):
        judge(bundle, FileData("folder", plain), tasks=["semseg"])


def test_trivial_answers_come_from_the_other_split_where_there_is_one(
    bundles: dict[str, Path], plain: Path, nyud_mt: Path
):
    report = judge(bundles["nyud_mt"], FileData("nyud_mt", nyud_mt), tasks=["depth"])
    assert report.fitted_on == "2 pictures of split train"
    report = judge(bundles["nyud_mt"], FileData("nyud_mt", nyud_mt, fit_split="other"), tasks=["depth"])
    assert report.fitted_on == "the judged pictures themselves"


def test_accuracies_of_files_serve_the_planner(bundles: dict[str, Path], plain: Path, tmp_path: Path):
    out = tmp_path / "measured"
    report = judge(bundles["folder"], FileData("folder", plain), grid=True, write=out)
    points = Bundle.open(out, verify=True).manifest.accuracies
    assert points == report.accuracies() and len(points) == 5 * 2 * 2 * 2
    assert {point.source for point in points} == {"folder, split val, 2 pictures, at the pictures' own size"}
    with Engine.load(out, threads=1) as engine:
        assert engine.plan(["depth"], 0.7).scored_by == "accuracy"


def test_some_pictures_are_spread_over_the_split(bundles: dict[str, Path], plain: Path):
    for number in range(6):
        write_picture(plain / f"images/more{number}.png", np.zeros((20, 28, 3), np.uint8))
        write_npy(plain / f"depth/more{number}.npy", np.full((20, 28), 1.0 + number, np.float32))
    report = judge(bundles["folder"], FileData("folder", plain, samples=4), tasks=["depth"])
    assert report.scenes == 4 and "4 of 8 pictures" in report.source


def test_task_without_a_single_label_is_refused(bundles: dict[str, Path], plain: Path, pascal: Path):
    with pytest.raises(EvaluationError, match="no pixel has a label of 'human_parts'"):
        judge(bundles["pascal_mt"], FileData("pascal_mt", pascal))  # a street without people
    for path in (plain / "depth").iterdir():
        path.unlink()
    for name in ("kitchen", "hall"):
        write_npy(plain / f"depth/{name}.npy", np.zeros((20, 28), np.float32))
    with pytest.raises(EvaluationError, match="no pixel has a label of 'depth'"):
        judge(bundles["folder"], FileData("folder", plain))


@pytest.mark.parametrize("task", ["edge", "saliency"])
def test_probabilities_without_a_single_label_are_refused(
    task: str, bundles: dict[str, Path], plain: Path, monkeypatch: pytest.MonkeyPatch
):
    """Their F-measure of nothing is 0, which no value of nothing may look like."""
    monkeypatch.setattr(PlainFolder, "read_label", lambda *_: np.full((20, 28), IGNORED_CLASS, np.uint8))
    with pytest.raises(EvaluationError, match=f"no pixel has a label of '{task}'"):
        judge(bundles["folder"], FileData("folder", plain), tasks=[task])


def test_chosen_configurations_alone_are_measured(bundles: dict[str, Path], plain: Path):
    at = ["width=0.5,top_k=1,decoder_width=1", "width=1"]
    report = judge(bundles["folder"], FileData("folder", plain), tasks=["depth", "edge"], at=at)
    found = [(r.configuration.task, r.configuration.encoder_width, r.configuration.top_k) for r in report.rows]
    assert found == [("depth", 0.5, 1), ("depth", 1.0, 2), ("edge", 0.5, 1), ("edge", 1.0, 2)]
    columns, lines = report.table()
    assert columns[2:5] == ["width", "top_k", "decoder"] and [line[2:5] for line in lines[:2]] == [
        ["0.5", "1", "1"],
        ["1", "2", "1"],
    ]
    grid = judge(bundles["folder"], FileData("folder", plain), tasks=["depth", "edge"], grid=True)
    values = {row.configuration: row.accuracy.value for row in grid.rows}
    assert all(row.accuracy.value == pytest.approx(values[row.configuration]) for row in report.rows)


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("width=0.3", "asks for width 0.3, this bundle has 0.5, 1"),
        ("top_k=3", "top_k is 1 to 2, decoder_width one of 0.5, 1"),
        ("20ms", "measured, not a budget"),
    ],
)
def test_configuration_that_does_not_exist_is_refused(at: str, expected: str, bundles: dict[str, Path], plain: Path):
    with pytest.raises(Exception, match=expected):
        judge(bundles["folder"], FileData("folder", plain), tasks=["depth"], at=[at])
    with pytest.raises(EvaluationError, match="instead of --grid"):
        judge(bundles["folder"], FileData("folder", plain), at=["width=1"], grid=True)


def test_edges_are_matched_within_the_published_distance(bundles: dict[str, Path], nyud_mt: Path, pascal: Path):
    for layout, root, expected in (("nyud_mt", nyud_mt, 0.011), ("pascal_mt", pascal, 0.0075)):
        manifest = Bundle.open(bundles[layout]).manifest
        metric = judged_files(manifest, FileData(layout, root), SIZE_HW, ["edge"]).metrics["edge"]
        assert isinstance(metric, EdgeF) and metric.max_distance == expected
    truth, answer = np.zeros((100, 100), np.uint8), np.zeros((100, 100), np.float32)
    truth[:, 50], answer[:, 51] = 1, 0.9  # a pixel apart; at 1.41 and at 0.7 pixels of the diagonal
    assert float(EdgeF(0.0141).value(EdgeF(0.0141).sums(answer, truth))) > 0.9
    assert float(EdgeF(0.005).value(EdgeF(0.005).sums(answer, truth))) < 0.1
