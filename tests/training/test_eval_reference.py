"""delta_m of an evaluation against references in files, against a transcription of its definition in numpy."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from slimpath.training.bootstrap import Bootstrap
from slimpath.training.errors import EvaluationError
from slimpath.training.eval_measure import Evidence
from slimpath.training.eval_reference import DeltaReport, against, read_references
from slimpath.training.eval_runner import Configuration
from slimpath.training.evaluate import Evaluation
from slimpath.training.metrics import metric_for

TASKS = ("semseg", "depth", "normals", "saliency", "edge")
LOWER = {"depth", "normals"}
SOURCE, IMAGES = "toys, split val", 12


def evaluation() -> Evaluation:
    rng = np.random.default_rng(0)
    metrics = {task: metric_for(task, 3) for task in TASKS}
    sums: dict[Configuration, np.ndarray] = {}
    for width in (0.5, 1.0):
        for task, metric in metrics.items():
            rows = []
            for _ in range(IMAGES):
                if task == "normals":
                    truth = rng.normal(size=(12, 12, 3)).astype(np.float32)
                    answer = truth + rng.normal(0, 1 - width / 2, truth.shape).astype(np.float32)
                elif task == "depth":
                    truth = rng.uniform(1, 5, (12, 12)).astype(np.float32)
                    answer = (truth * rng.uniform(0.7, 1.5, truth.shape)).astype(np.float32)
                elif task == "semseg":
                    truth = rng.integers(0, 3, (12, 12)).astype(np.uint8)
                    answer = np.where(rng.random(truth.shape) < 0.7, truth, 1).astype(np.uint8)
                else:
                    truth = (rng.random((12, 12)) < 0.3).astype(np.uint8)
                    answer = (0.4 * truth + 0.5 * rng.random(truth.shape)).astype(np.float32)
                rows.append(metric.sums(answer, truth))
            sums[Configuration(task, width, 2, width)] = np.array(rows)
    rows = [SimpleNamespace(configuration=chosen) for chosen in sums]
    report = SimpleNamespace(shown=rows, source=SOURCE)
    evidence = Evidence(metrics, sums, {}, {})
    return cast(Evaluation, SimpleNamespace(report=report, evidence=evidence, bootstrap=Bootstrap(IMAGES)))


def write_reference(path: Path, values: dict[str, float], source: str = SOURCE, **changes: Any) -> Path:
    """As `slimpath eval --json` prints it, as far as it is read."""
    rows = []
    for task, value in values.items():
        metric = metric_for(task, 3)
        row = {"task": task, "metric": metric.name, "encoder_width": 1.0, "top_k": 0, "decoder_width": 1.0}
        # Of saliency the metric itself is wrong on purpose: the published delta_m takes its mIoU.
        row |= {"accuracy": {"value": 99.0 if task == "saliency" else value}, "details": {"mIoU": value}}
        narrow = row | {"encoder_width": 0.25, "accuracy": {"value": 0.001}, "details": {"mIoU": 0.001}}
        rows += [row | changes, narrow | changes]
    path.write_text(json.dumps({"source": source, "rows": rows}))
    return path


def literal(scores: dict[str, float], single: dict[str, float]) -> float:
    """Mean over tasks of (-1)^(lower is better) (M_mtl - M_stl) / M_stl, in percent."""
    m, s = np.array([scores[t] for t in TASKS]), np.array([single[t] for t in TASKS])
    signs = np.array([-1 if t in LOWER else 1 for t in TASKS])
    return float(100 * (signs * (m - s) / s).mean())


def read(found: Evaluation, paths: list[Path]) -> dict[str, tuple[float, ...]]:
    return read_references(paths, SOURCE, {task: metric.name for task, metric in found.evidence.metrics.items()})


def compare(found: Evaluation, paths: list[Path]) -> DeltaReport:
    return against(found, read(found, paths))


def scores_of(found: Evaluation, width: float) -> dict[str, float]:
    metrics, sums = found.evidence.metrics, found.evidence.sums
    return {task: float(metrics[task].compared(sums[Configuration(task, width, 2, width)].sum(0))) for task in TASKS}


SINGLE = (
    {"semseg": 0.6, "depth": 1.0, "normals": 30.0, "saliency": 0.5, "edge": 0.5},
    {"semseg": 0.5, "depth": 1.2, "normals": 28.0, "saliency": 0.6, "edge": 0.7},
    {"semseg": 0.7, "depth": 0.9, "normals": 33.0, "saliency": 0.4, "edge": 0.6},
)


def test_delta_m_of_seeds_is_that_of_the_formula_with_their_spread(tmp_path: Path):
    found = evaluation()
    paths = [write_reference(tmp_path / f"{seed}.json", values) for seed, values in enumerate(SINGLE)]
    report = compare(found, paths)
    assert report.tasks == TASKS and [row.encoder_width for row in report.rows] == [0.5, 1.0]
    means = {task: float(np.mean([values[task] for values in SINGLE])) for task in TASKS}
    for row in report.rows:
        scores = scores_of(found, row.encoder_width)
        assert row.value == pytest.approx(literal(scores, means))
        assert row.runs == pytest.approx([literal(scores, values) for values in SINGLE])
        assert row.deviation == pytest.approx(np.std(row.runs, ddof=1))
        assert row.low < row.value < row.high
        assert np.mean(list(row.gains.values())) == pytest.approx(row.value)
        assert (row.gains["depth"] > 0) == (scores["depth"] < means["depth"])
    columns, lines = report.table()
    assert len(lines) == 2 and len(lines[0]) == len(columns) and "deviation" in lines[0][5]


def test_references_may_be_a_file_per_task(tmp_path: Path):
    found = evaluation()
    paths = [write_reference(tmp_path / f"{task}.json", {task: SINGLE[0][task]}) for task in TASKS]
    (one,) = [row for row in compare(found, paths).rows if row.encoder_width == 1.0]
    assert one.value == pytest.approx(literal(scores_of(found, 1.0), SINGLE[0])) and one.deviation is None


def test_model_against_itself_gains_nothing_and_tasks_without_reference_are_named(tmp_path: Path):
    found = evaluation()
    scores = {task: value for task, value in scores_of(found, 1.0).items() if task != "edge"}
    report = compare(found, [write_reference(tmp_path / "same.json", scores)])
    assert report.left_out == ("edge",) and report.rows[-1].value == pytest.approx(0, abs=1e-9)


def test_references_that_cannot_be_compared_are_refused(tmp_path: Path):
    found = evaluation()
    cases = [
        (write_reference(tmp_path / "other.json", SINGLE[0], source="rooms"), "was measured on rooms"),
        (write_reference(tmp_path / "metric.json", SINGLE[0], metric="mAP"), "has mAP of 'semseg'"),
        (write_reference(tmp_path / "old.json", SINGLE[0], details={}), "lacks the mIoU of 'saliency'"),
        (write_reference(tmp_path / "zero.json", SINGLE[0] | {"edge": 0.0}), "edge is 0"),
    ]
    not_read = "is not what `slimpath eval --json` prints"
    for name, width in (("null", None), ("words", "wide"), ("huge", 10**400)):
        cases.append((write_reference(tmp_path / f"{name}.json", SINGLE[0], encoder_width=width), not_read))
    for name, text in (("broken", "{"), ("list", "[1]"), ("empty", '{"source": "x", "rows": []}')):
        path = tmp_path / f"{name}.json"
        path.write_text(text)
        cases.append((path, not_read))
    for path, message in cases:
        with pytest.raises(EvaluationError, match=message):
            read(found, [path])
    whole = write_reference(tmp_path / "whole.json", SINGLE[0])
    part = write_reference(tmp_path / "part.json", {"depth": 1.0})
    with pytest.raises(EvaluationError, match="2 of depth"):
        read(found, [whole, part])
