"""Qualities on one scale, and what is taken for noise."""

from __future__ import annotations

import msgspec
import pytest

from slimpath.runtime.bundles.accuracy import Accuracy
from slimpath.runtime.bundles.manifest_parts import Cost
from slimpath.runtime.planning.planner import Planner
from slimpath.runtime.planning.worth import Accuracies, keeps_floor, quality
from slimpath.tests.runtime.plan_cases import SIZE, accuracy, make_manifest

ENCODERS = {0.5: Cost(100), 1.0: Cost(200)}


def planner_of(values: dict[tuple[float, float], float], half: float | None, **more: object) -> Planner:
    """One task, by (encoder width, decoder width), each value known to +- `half`."""
    points = []
    for (width, decoder), value in values.items():
        interval = {} if half is None else {"ci_low": value - half, "ci_high": value + half}
        points.append(accuracy("a", width, 0, decoder, value, **interval, **more))
    return Planner(make_manifest(ENCODERS, {"a": {0.5: 10, 1.0: 50}}, 0, points))


def test_quality_is_1_for_full_and_0_for_trivial_either_way():
    up = accuracy("a", 1.0, 0, 1.0, 0.8, trivial=0.2)
    assert [quality(msgspec.structs.replace(up, value=v), up) for v in (0.8, 0.2, 0.5)] == pytest.approx([1, 0, 0.5])
    down = accuracy("a", 1.0, 0, 1.0, 0.8, trivial=1.2, higher_is_better=False)
    assert [quality(msgspec.structs.replace(down, value=v), down) for v in (0.8, 1.2, 1.0)] == pytest.approx(
        [1, 0, 0.5]
    )


def test_task_that_the_full_model_cannot_do_has_nothing_to_lose():
    full = accuracy("a", 1.0, 0, 1.0, 0.1, trivial=0.3)
    assert quality(msgspec.structs.replace(full, value=0.2), full) == 0.0


def test_floor_is_kept_by_what_is_as_good_as_full_even_where_full_is_no_good():
    full = accuracy("a", 1.0, 0, 1.0, 0.1, trivial=0.3)
    assert keeps_floor(full, full, 1.0)
    assert not keeps_floor(msgspec.structs.replace(full, value=0.05), full, 0.5)


def test_wider_one_that_measures_worse_within_its_interval_is_as_good():
    values = {(0.5, 0.5): 0.70, (0.5, 1.0): 0.72, (1.0, 0.5): 0.71, (1.0, 1.0): 0.715}
    assert planner_of(values, None).plan("a", 1.0).flops == 150  # errors unknown: taken at its word
    assert planner_of(values, 0.05).plan("a", 1.0).flops == 250  # the budget allows it, and nothing speaks against it
    assert planner_of(values, 0.001).plan("a", 1.0).flops == 150  # measured worse for certain


def test_lower_is_better_is_credited_the_other_way_round():
    values = {(0.5, 0.5): 0.70, (0.5, 1.0): 0.72, (1.0, 0.5): 0.71, (1.0, 1.0): 0.715}
    planner = planner_of(values, 0.05, higher_is_better=False, trivial=2.0)
    assert planner.plan("a", 1.0).flops == 250
    assert planner_of(values, None, higher_is_better=False, trivial=2.0).plan("a", 1.0).flops == 110


def test_credit_reports_no_accuracy_that_was_not_measured():
    values = {(0.5, 0.5): 0.70, (0.5, 1.0): 0.72, (1.0, 0.5): 0.71, (1.0, 1.0): 0.715}
    assert planner_of(values, 0.05).plan("a", 1.0).accuracies == {"a": 0.715}


def test_narrower_one_is_never_credited_with_what_a_wider_one_measured():
    values = {(0.5, 0.5): 0.70, (0.5, 1.0): 0.72, (1.0, 0.5): 0.71, (1.0, 1.0): 0.73}
    found = Accuracies(planner_of(values, 0.05).manifest).qualities("a", SIZE, "fp32", SIZE)
    assert {(width, decoder): q for (width, _, decoder), q in found.items()} == {
        place: pytest.approx(value / 0.73) for place, value in values.items()
    }


def test_where_all_measure_alike_the_budget_is_spent():
    values = dict.fromkeys([(0.5, 0.5), (0.5, 1.0), (1.0, 0.5), (1.0, 1.0)], 0.7)
    planner = planner_of(values, None)
    assert [planner.plan("a", f"{flops}FLOPs").flops for flops in (110, 150, 210, 250)] == [110, 150, 210, 250]
    assert planner.plan("a>=1", "min").flops == 110  # and who wants it cheap says so


def test_task_without_a_say_gets_the_smallest_decoder_that_is_alike():
    points = [accuracy(t, w, 0, d, 0.7) for t in "ab" for w in ENCODERS for d in (0.5, 1.0)]
    planner = Planner(make_manifest(ENCODERS, {t: {0.5: 10, 1.0: 50} for t in "ab"}, 0, points))
    assert planner.plan("a=1,b=0", 1.0).decoder_widths == {"a": 1.0, "b": 0.5}


def test_accuracies_without_a_size_are_of_the_first_size():
    other: tuple[int, int] = (64, 64)
    found: Accuracy = accuracy("a", 1.0, 0, 1.0, 0.5)
    manifest = make_manifest({1.0: Cost(1)}, {"a": {1.0: 1}}, 0, [found])
    table = Accuracies(manifest)
    assert table.full("a", SIZE) == found and table.measured("a", other) == {}
