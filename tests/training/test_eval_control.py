"""Controllability: what the planner's answers to many preferences dominate."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import msgspec
import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch")

from slimpath.runtime import Bundle
from slimpath.runtime.bundles.accuracy import Accuracy
from slimpath.runtime.bundles.manifest import Manifest
from slimpath.runtime.planning.planner import Planner
from slimpath.tests.runtime.tiny_bundle import build_tiny_bundle
from slimpath.training.errors import EvaluationError
from slimpath.training.eval_control import (
    check_control,
    control_table,
    controllability,
    mixtures,
    quality,
    with_report,
)
from slimpath.training.eval_report import EvalReport
from slimpath.training.eval_runner import Configuration, configurations
from slimpath.training.hypervolume import hypervolume

TASKS = ("semseg", "depth", "edge")
TRIVIAL = {"semseg": 0.1, "depth": 2.0, "edge": 0.2}
IDEAL = {"semseg": 1.0, "depth": 0.0, "edge": 1.0}
BUDGET = 0.985  # of the tiny bundle most FLOPs are the same in all configurations


def point(chosen: Configuration, share: float) -> Accuracy:
    """An accuracy of that quality."""
    value = TRIVIAL[chosen.task] + share * (IDEAL[chosen.task] - TRIVIAL[chosen.task])
    return Accuracy(
        chosen.task, chosen.encoder_width, chosen.top_k, chosen.decoder_width, "metric", IDEAL[chosen.task] == 1, value,
        None, None, TRIVIAL[chosen.task], 5, "toys",
    )  # fmt: skip


def share(width: float, top_k: int, decoder_width: float) -> float:
    """Every part of a configuration helps its task, the decoder most."""
    return 0.1 * width + 0.05 * top_k + 0.6 * decoder_width


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    found = Bundle.open(build_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny", accuracies=False)).manifest
    points = [
        point(chosen, share(chosen.encoder_width, chosen.top_k, chosen.decoder_width))
        for chosen in configurations(found, TASKS, grid=True)
    ]
    return msgspec.structs.replace(found, accuracies=tuple(points))


def test_mixtures_are_even_and_include_every_single_task():
    for tasks in (2, 3, 6):
        found = list(mixtures(tasks))
        assert len(found) == len(set(found)) <= 150
        assert all(sum(mixture) == pytest.approx(1) and min(mixture) >= 0 for mixture in found)
        assert {tuple(float(i == task) for i in range(tasks)) for task in range(tasks)} <= set(found)


@pytest.mark.parametrize("task", TASKS)
def test_quality_is_zero_for_the_trivial_answer_and_one_for_a_perfect_one(task: str):
    for expected in (0.0, 0.25, 1.0):
        assert quality(point(Configuration(task, 1.0, 1, 1.0), expected)) == pytest.approx(expected)
    assert quality(point(Configuration(task, 1.0, 1, 1.0), -0.5)) == 0


def test_volume_is_that_of_the_plans_that_the_planner_makes(manifest: Manifest):
    """Transcribed: plans for every mixture, their qualities, the volume that these dominate."""
    planner = Planner(manifest)
    (found,) = controllability(manifest, [BUDGET])
    points = []
    for mixture in [(1.0,) * len(TASKS), *mixtures(len(TASKS))]:
        plan = planner.plan(dict(zip(TASKS, mixture, strict=True)), BUDGET)
        assert plan.scored_by == "accuracy" and plan.share <= BUDGET
        points.append([share(plan.encoder_width, plan.top_k, plan.decoder_widths[task]) for task in TASKS])
    assert found.plans == len(np.unique(np.round(points, 9), axis=0)) > 1
    assert found.hypervolume == pytest.approx(hypervolume(np.array(points), np.zeros(3)))
    assert found.side == pytest.approx(found.hypervolume ** (1 / 3)) and found.side > found.even
    assert found.reached["depth"][0] < found.reached["depth"][1] == pytest.approx(max(p[1] for p in points))


def test_more_budget_never_means_less_and_too_little_fits_nothing(manifest: Manifest):
    rows = controllability(manifest, [0.01, BUDGET, 1.0])
    assert (rows[0].plans, rows[0].hypervolume) == (0, 0.0)
    assert rows[1].hypervolume < rows[2].hypervolume == pytest.approx(0.8**3)  # everything at its widest
    columns, lines = control_table(rows)
    assert lines[0][1] == "none fits" and all(len(line) == len(columns) for line in lines)


def test_one_task_or_a_budget_that_is_no_share_is_refused(manifest: Manifest):
    with pytest.raises(EvaluationError, match="at most 1, got 2"):
        controllability(manifest, [2.0])
    alone = tuple(accuracy for accuracy in manifest.accuracies if accuracy.task == "depth")
    with pytest.raises(EvaluationError, match="two tasks that were measured, got depth"):
        controllability(msgspec.structs.replace(manifest, accuracies=alone), [1.0])


def test_plans_find_what_a_backend_computed_in_another_precision(manifest: Manifest):
    """The precision of a backend (bf16) is no precision of graphs, which is what plans name."""
    accuracies = [msgspec.structs.replace(accuracy, precision="bf16") for accuracy in manifest.accuracies]
    rows = [SimpleNamespace(configuration=chosen) for chosen in configurations(manifest, TASKS, grid=True)]
    report = cast(EvalReport, SimpleNamespace(accuracies=lambda: accuracies, rows=rows))
    assert controllability(with_report(manifest, report), [1.0]) == controllability(manifest, [1.0])


def test_another_size_is_planned_by_its_own_accuracies(manifest: Manifest):
    """The first size's are not needed; where some are missing the planner would choose by FLOPs, which is refused."""
    second_hw = manifest.sizes[1]
    at_second = [msgspec.structs.replace(accuracy, size_hw=second_hw) for accuracy in manifest.accuracies]
    chosen = configurations(manifest, TASKS, grid=True)
    rows = [SimpleNamespace(configuration=one) for one in chosen]
    report = cast(EvalReport, SimpleNamespace(accuracies=lambda: at_second, rows=rows))
    measured = with_report(manifest, report)
    assert {accuracy.size_hw for accuracy in measured.accuracies} == {second_hw}
    assert controllability(measured, [1.0], second_hw)[0].hypervolume == pytest.approx(0.8**3)
    assert controllability(measured, [BUDGET], second_hw)[0].plans > 1
    full = [accuracy for accuracy in at_second if (accuracy.encoder_width, accuracy.top_k) == (1.0, 2)]
    part = msgspec.structs.replace(manifest, accuracies=tuple(set(at_second) - set(full)))
    with pytest.raises(EvaluationError, match="had to choose by FLOPs"):
        controllability(part, [BUDGET], second_hw)


def test_control_of_one_task_or_without_fp32_is_refused_before_it_is_measured():
    with pytest.raises(EvaluationError, match="two tasks that were measured, got depth"):
        check_control(["depth"], ["fp32"])
    with pytest.raises(EvaluationError, match="fp32 graphs, of which --precision int8 measures none"):
        check_control(TASKS, ["int8"])
    check_control(TASKS, ["fp32", "int8"])
