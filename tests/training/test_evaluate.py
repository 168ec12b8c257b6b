"""A micro bundle with random weights, evaluated from end to end on four tiny rooms."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

pytest.importorskip("onnxscript", reason="exporting needs onnxscript")

from slimpath.export import export_model
from slimpath.models import HeadConfig, build_preset, save_checkpoint
from slimpath.runtime import Bundle, Engine
from slimpath.runtime.bundles.manifest import MANIFEST_FILE, encode_manifest
from slimpath.training import eval_data
from slimpath.training.bootstrap import Interval
from slimpath.training.errors import EvaluationError
from slimpath.training.eval_docs import write_docs_table
from slimpath.training.eval_report import Comparison, EvalReport
from slimpath.training.eval_rooms import FIRST_EVALUATION_SEED, RoomRange, open_rooms
from slimpath.training.eval_runner import Configuration, Runner, configurations
from slimpath.training.eval_write import write_accuracies
from slimpath.training.evaluate import evaluate_bundle
from slimpath.training.metrics import metric_for
from slimpath.training.synthrooms import CLASSES, ROOM_TYPES, VERSIONS

TASKS = (
    HeadConfig("semseg", "classes", len(CLASSES)),
    HeadConfig("depth", "depth", 1),
    HeadConfig("edge", "probability", 1),
    HeadConfig("scene", "image_classes", len(ROOM_TYPES)),
)
WIDTHS, SCENES = (0.5, 1.0), 4


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = build_preset("m3vit_micro", TASKS)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "heads." in name or ".experts." in name or name.startswith("routers."):
                parameter.normal_(std=0.2)  # so that widths and top_k differ
    out = tmp_path_factory.mktemp("bundles") / "micro"
    export_model(model.eval(), {"licence": "Apache-2.0"}, out, widths=list(WIDTHS), check=False, name="micro")
    return out


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rooms")


def measure(bundle: Path, cache: Path, **options: object) -> EvalReport:
    settings = {"scenes": SCENES, "samples_per_pixel": 1, "progress": False, "workers": 1, "baseline_scenes": 3}
    return evaluate_bundle(bundle, cache=cache, **{**settings, **options})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def report(bundle: Path, cache: Path) -> EvalReport:
    return measure(bundle, cache)


def test_every_task_is_measured_at_every_width(report: EvalReport):
    found = [(row.configuration.task, row.configuration.encoder_width) for row in report.rows]
    assert found == [(task.name, width) for task in TASKS for width in WIDTHS]
    for row in report.rows:
        assert row.diagonal and row.configuration.top_k == 2
        assert row.configuration.decoder_width == row.configuration.encoder_width
        assert row.accuracy.low <= row.accuracy.value <= row.accuracy.high
        assert np.isfinite([row.trivial, row.pixel_mean, row.improvement.value]).all()
    by_task = {task.name: [row.gflops for row in report.rows if row.configuration.task == task.name] for task in TASKS}
    assert all(costs == sorted(costs) and costs[0] < costs[-1] for costs in by_task.values())


def test_values_are_those_of_the_engine(report: EvalReport, bundle: Path, cache: Path):
    """The figure in the report is what a user of the engine would measure."""
    rooms_range = RoomRange(FIRST_EVALUATION_SEED, SCENES, (32, 32), 1)
    with open_rooms(rooms_range, cache, workers=1, progress=False) as rooms, Engine.load(bundle, threads=1) as engine:
        samples = [rooms[number] for number in range(len(rooms))]
        for row in report.rows:
            chosen = row.configuration
            metric = metric_for(chosen.task, engine.tasks[chosen.task].channels)
            sums = [
                metric.sums(
                    engine(sample["image"], [chosen.task], f"width={chosen.encoder_width}")[chosen.task],
                    np.asarray(sample[chosen.task]),
                )
                for sample in samples
            ]
            assert float(metric.value(np.sum(sums, axis=0))) == pytest.approx(row.accuracy.value, rel=1e-4), chosen


def test_answers_of_the_grid_are_those_of_the_engine(bundle: Path):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (32, 32, 3), np.uint8) for _ in range(3)]
    opened = Bundle.open(bundle)
    chosen = configurations(opened.manifest, ["depth", "scene"], grid=True)
    assert Configuration("depth", 0.5, 1, 1.0) in chosen and len(chosen) == len(set(chosen))
    assert len([c for c in chosen if c.task == "depth"]) == 2 * 2 * 2
    with Runner(opened, chosen) as runner, Engine.load(opened, threads=1) as engine:
        answers = {answer.configuration: answer.values for answer in runner.answers(images)}
        assert answers.keys() == set(chosen)
        for c in chosen:
            plan = engine.plan([c.task], f"width={c.encoder_width},top_k={c.top_k}")
            plan = dataclasses.replace(plan, decoder_widths={c.task: c.decoder_width})
            for image, value in zip(images, answers[c], strict=True):
                # Batches of other sizes: other orders of the same float32 sums.
                assert value == pytest.approx(engine(image, budget=plan)[c.task], abs=1e-5, rel=1e-4), c


def test_trivial_answers_score_what_the_report_says(report: EvalReport, cache: Path):
    fitted, judged = RoomRange(0, 3, (32, 32), 1), RoomRange(FIRST_EVALUATION_SEED, SCENES, (32, 32), 1)
    with open_rooms(fitted, cache, workers=1, progress=False) as rooms:
        depth = np.concatenate([rooms[number]["depth"].ravel() for number in range(len(rooms))])
    with open_rooms(judged, cache, workers=1, progress=False) as rooms:
        true = np.concatenate([rooms[number]["depth"].ravel() for number in range(len(rooms))])
        edges = np.concatenate([rooms[number]["edge"].ravel() for number in range(len(rooms))])
    rows = {row.configuration.task: row for row in report.rows}
    error = np.sqrt(((true.astype(np.float64) - depth.mean(dtype=np.float64)) ** 2).mean())
    assert rows["depth"].trivial == pytest.approx(error, rel=1e-5)
    assert rows["depth"].improvement.value == pytest.approx(1 - rows["depth"].accuracy.value / error, rel=1e-5)
    density = edges.mean(dtype=np.float64)
    assert rows["edge"].trivial == pytest.approx(2 * density / (1 + density), rel=1e-6)
    assert rows["edge"].improvement.value == pytest.approx(rows["edge"].accuracy.value / rows["edge"].trivial - 1)


def test_scenes_in_the_cache_are_not_rendered_again(
    report: EvalReport, bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("rendered again")

    monkeypatch.setattr("slimpath.training.synthrooms.cache.render_rooms", refuse)
    again = measure(bundle, cache)
    assert again.rows == report.rows and again.comparisons == report.comparisons


def test_written_bundle_verifies_and_has_the_accuracies(bundle: Path, cache: Path, tmp_path: Path):
    before = {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in bundle.iterdir()}
    out = tmp_path / "deep" / "measured"
    grid = measure(bundle, cache, grid=True, write=out)
    assert grid.written == out
    written = Bundle.open(out, verify=True)
    assert written.manifest.accuracies == grid.accuracies()
    assert len(written.manifest.accuracies) == len(grid.rows) == 4 * 8
    point = written.manifest.accuracies[0]
    assert (point.samples, point.source) == (SCENES, "SynthRooms (synthrooms-1), seeds 10000000 to 10000003")
    assert {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in bundle.iterdir()} == before
    assert [path.name for path in out.parent.iterdir()] == ["measured"]
    with Engine.load(out, threads=1) as engine:
        plan = engine.plan(["depth"], 0.7)
        assert plan.scored_by == "accuracy" and plan.accuracies["depth"] is not None
    with pytest.raises(EvaluationError, match="exists"):
        measure(bundle, cache, write=out)


def test_other_backends_are_measured_in_their_precision(report: EvalReport, bundle: Path, cache: Path):
    """torch in bf16 here: it computes on any CPU."""
    rounded = measure(bundle, cache, backend="torch", precision="bf16")
    assert (rounded.backend, rounded.precision) == ("torch-bf16", "bf16")
    assert {accuracy.precision for accuracy in rounded.accuracies()} == {"bf16"}
    assert (report.backend, {accuracy.precision for accuracy in report.accuracies()}) == ("onnxruntime", {"fp32"})
    for mine, theirs in zip(rounded.rows, report.rows, strict=True):
        assert mine.configuration == theirs.configuration
        assert mine.accuracy.value == pytest.approx(theirs.accuracy.value, rel=0.1, abs=0.05)
    assert [row.accuracy.value for row in rounded.rows] != [row.accuracy.value for row in report.rows]


def test_writing_one_precision_keeps_the_accuracies_of_the_others(report: EvalReport, bundle: Path, tmp_path: Path):
    full = write_accuracies(Bundle.open(bundle), report.accuracies(), tmp_path / "full")
    lower = [msgspec.structs.replace(accuracy, precision="bf16", value=0.5) for accuracy in report.accuracies()]
    both = Bundle.open(write_accuracies(Bundle.open(full), lower, tmp_path / "both")).manifest.accuracies
    assert set(both) == {*report.accuracies(), *lower}
    again = Bundle.open(write_accuracies(Bundle.open(tmp_path / "both"), lower[:1], tmp_path / "again"))
    assert set(again.manifest.accuracies) == {*report.accuracies(), lower[0]}


def test_all_precisions_are_measured_on_the_same_scenes_and_written(bundle: Path, cache: Path, tmp_path: Path):
    """The int8 graphs here are the fp32 ones under another name, so that what is lost is known: nothing."""
    manifest = Bundle.open(bundle).manifest
    named = [
        msgspec.structs.replace(graph, file=f"int8-{graph.file}", precision="int8")
        for graph in manifest.graphs
        if graph.kind == "encoder"
    ]
    shutil.copytree(bundle, tmp_path / "int8")
    for graph in named:
        shutil.copy(bundle / graph.file.removeprefix("int8-"), tmp_path / "int8" / graph.file)
    both = msgspec.structs.replace(manifest, graphs=(*manifest.graphs, *named))
    (tmp_path / "int8" / MANIFEST_FILE).write_bytes(encode_manifest(both))
    found = measure(tmp_path / "int8", cache, precision="all", write=tmp_path / "measured")
    points = Bundle.open(tmp_path / "measured").manifest.accuracies
    assert {(point.precision, point.size_hw) for point in points} == {("fp32", (32, 32)), ("int8", (32, 32))}
    assert len(points) == 2 * len(found.diagonal) and {row.configuration.precision for row in found.diagonal} == {
        "fp32"
    }
    _, lines = found.precision_table()
    assert [line[:4] for line in lines] == [
        [row.configuration.task, lines[i][1], f"{row.configuration.encoder_width:g}", "int8"]
        for i, row in enumerate(found.diagonal)
    ]
    for row in found.rows:
        if row.fp32 is not None and row.precision_gain is not None:
            assert row.accuracy.value == pytest.approx(row.fp32.value, rel=1e-3)
            assert row.precision_gain.low <= 1e-3 and row.precision_gain.high >= -1e-3
    alone = measure(tmp_path / "int8", cache, precision="int8")
    assert {point.precision for point in alone.accuracies()} == {"int8"} and not alone.precision_table()[1]
    assert [row.accuracy for row in alone.rows] == [row.accuracy for row in found.rows if row.fp32]


def test_failed_writing_leaves_nothing_behind(
    report: EvalReport, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from slimpath.training import eval_write

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(eval_write, "_link", full)
    with pytest.raises(OSError, match="no space"):
        eval_write.write_accuracies(Bundle.open(bundle), report.accuracies(), tmp_path / "measured")
    assert list(tmp_path.iterdir()) == []


def test_files_are_copied_where_links_are_not_possible(
    report: EvalReport, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from slimpath.training import eval_write

    def refuse(*_: object) -> None:
        raise OSError("other file system")

    monkeypatch.setattr(eval_write.os, "link", refuse)
    out = eval_write.write_accuracies(Bundle.open(bundle), report.accuracies(), tmp_path / "measured")
    assert (out / "weights.safetensors").stat().st_nlink == 1
    assert Bundle.open(out, verify=True).manifest.accuracies == report.accuracies()


def test_report_becomes_json_table_picture_and_page(report: EvalReport, tmp_path: Path):
    import cv2

    document = json.loads(json.dumps(report.to_json()))
    assert document["rows"][0]["task"] == "semseg" and "beats_trivial" in document["rows"][0]
    assert set(document["claims"]) == set(report.claims())
    page = write_docs_table(report, tmp_path / "docs" / "evaluation.md", command="slimpath eval micro").read_text()
    assert "Written by `slimpath eval micro`" in page and "How good `micro` is" in page
    assert "seeds\n10000000 to 10000003" in page and "](evaluation.png)" in page
    for row in report.rows:
        assert f"| {row.configuration.task} | {row.metric} " in page
        assert f"{row.accuracy.value:.4g}" in page
    picture = cv2.imread(str(tmp_path / "docs" / "evaluation.png"))
    assert picture is not None and picture.std() > 5
    assert str(tmp_path) not in page


def test_files_of_a_report_appear_whole_or_not_at_all(
    report: EvalReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "a.png").write_bytes(b"former")
    page = write_docs_table(report, tmp_path / "page.md", command="slimpath eval").with_suffix(".md")
    former = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    renamed: list[str] = []

    def refuse(path: Path, target: Path) -> Path:
        renamed.append(target.name)
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", refuse)
    for write in (
        lambda: report.plot(tmp_path / "a.png"),
        lambda: write_docs_table(dataclasses.replace(report, bundle="other"), page, command="slimpath eval"),
    ):
        with pytest.raises(OSError, match="no space"):
            write()
    monkeypatch.setattr(EvalReport, "plot", lambda _, path: path)
    with pytest.raises(OSError, match="no space"):
        write_docs_table(dataclasses.replace(report, bundle="other"), page, command="slimpath eval")
    assert renamed == ["a.png", "page.png", "page.md"]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == former


def test_further_figures_are_those_of_the_widest_row_wherever_it_stands(report: EvalReport, tmp_path: Path):
    turned = dataclasses.replace(report, rows=tuple(reversed(report.rows)), at=("width=1", "width=0.5"))
    for task in report.tasks:
        assert turned.widest(task).configuration == Configuration(task, 1.0, 2, 1.0)
    page = write_docs_table(turned, tmp_path / "page.md", command="slimpath eval").read_text()
    (row,) = [row for row in report.rows if row.configuration == Configuration("depth", 1.0, 2, 1.0)]
    assert f"| depth | absrel {row.details['absrel']:.3g}, " in page


def test_claims_hold_and_fail_with_their_intervals(report: EvalReport):
    good, doubtful, bad = Interval(0.5, 0.3, 0.7), Interval(0.25, 0.1, 0.4), Interval(-0.2, -0.3, -0.1)
    row = report.rows[0]
    rows = [dataclasses.replace(row, improvement=gain) for gain in (good, doubtful, bad)]
    assert [row.beats_trivial for row in rows] == [True, False, False]
    steps = [Comparison("depth", 0.5, 1.0, gain) for gain in (good, Interval(-0.1, -0.3, 0.1), bad)]
    assert [step.holds for step in steps] == [True, True, False]
    mixed = dataclasses.replace(report, rows=tuple(rows), comparisons=tuple(steps))
    assert list(mixed.claims().values()) == [False, False]
    assert len(mixed.exceptions()) == 3 and "depth: width 1 is worse than 0.5 by 0.2" in mixed.exceptions()[-1]
    fine = dataclasses.replace(report, rows=tuple(rows[:1]), comparisons=tuple(steps[:2]))
    assert all(fine.claims().values()) and not fine.exceptions()


def test_training_seeds_are_refused(bundle: Path, cache: Path):
    with pytest.raises(EvaluationError, match="overlap"):
        measure(bundle, cache, first_seed=2)


def test_other_number_of_classes_is_refused(bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(eval_data, "room_classes", lambda: {"semseg": 99, "scene": 6})
    with pytest.raises(EvaluationError, match="99 classes of 'semseg', this bundle has 15"):
        measure(bundle, cache)


def test_tasks_that_the_rooms_do_not_label_are_left_out_by_name(
    bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(eval_data, "ROOM_TASKS", ("depth",))
    found = measure(bundle, cache)
    assert found.tasks == ["depth"] and found.skipped_tasks == ("semseg", "edge", "scene")
    monkeypatch.setattr(eval_data, "ROOM_TASKS", ("normals",))
    with pytest.raises(EvaluationError, match="only semseg, depth, edge, scene"):
        measure(bundle, cache)


def test_checkpoint_is_measured_as_the_bundle_that_it_becomes(tmp_path: Path, cache: Path):
    torch.manual_seed(1)
    model = build_preset("m3vit_micro", TASKS[1:3])
    save_checkpoint(tmp_path / "model.safetensors", model, {"licence": "Apache-2.0"})
    export_model(model.eval(), {"licence": "Apache-2.0"}, tmp_path / "bundle", check=False)
    exported, direct = measure(tmp_path / "bundle", cache), measure(tmp_path / "model.safetensors", cache)
    assert direct.bundle == "model" and len(direct.rows) == len(exported.rows) > 0
    for mine, theirs in zip(direct.rows, exported.rows, strict=True):
        assert mine.configuration == theirs.configuration
        assert mine.accuracy.value == pytest.approx(theirs.accuracy.value, rel=1e-5)
    larger = measure(tmp_path / "model.safetensors", tmp_path / "rooms", size="48x32", write=tmp_path / "written")
    assert larger.size_hw == (48, 32)
    assert Bundle.open(tmp_path / "written", verify=True).manifest.accuracies == larger.accuracies()


def test_wide_world_is_judged_where_it_has_labels(bundle: Path, cache: Path):
    report = measure(bundle, cache, world="wide", scenes=10, baseline_scenes=6, tasks=["depth", "scene", "edge"])
    assert report.renderer == VERSIONS["wide"] and VERSIONS["wide"] in report.source
    wanted = RoomRange(FIRST_EVALUATION_SEED, 10, (32, 32), 1, "wide")
    with open_rooms(wanted, cache, workers=1, progress=False) as scenes, Engine.load(bundle, threads=1) as engine:
        samples = [scenes[number] for number in range(len(scenes))]
        rooms = [sample for sample in samples if sample["scene"] != 255]
        assert 0 < len(rooms) < len(samples)
        right = [engine(room["image"], ["scene"], "width=1.0")["scene"].argmax() == room["scene"] for room in rooms]
    full = {row.configuration.task: row for row in report.rows if row.configuration.encoder_width == 1.0}
    assert full["scene"].accuracy.value == pytest.approx(np.mean(right))
    assert all(np.isfinite([row.accuracy.value, row.trivial, row.improvement.low]).all() for row in report.rows)


def test_unknown_world_is_refused(bundle: Path):
    with pytest.raises(EvaluationError, match="rooms, wide, got 'moon'"):
        measure(bundle, Path("nowhere"), world="moon")
