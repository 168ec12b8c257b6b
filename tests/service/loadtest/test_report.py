"""The figures, on samples whose figures are known."""

from __future__ import annotations

from pathlib import Path

import pytest

from slimpath.service.loadtest.plots import plot_samples
from slimpath.service.loadtest.report import lines_of, make_report, percentiles
from slimpath.service.loadtest.samples import Sample


def sample(latency_s: float, kind: str = "answered", **more: object) -> Sample:
    return Sample(1.0, 1.0, 1.0 + latency_s, 200 if kind == "answered" else 503, kind, **more)  # type: ignore[arg-type]


SAMPLES = [
    *[sample(0.1, quality=1.0, degraded=False, width=1.0, share=1.0) for _ in range(6)],
    *[sample(0.2, quality=0.8, degraded=True, width=0.25, share=0.3) for _ in range(2)],
    sample(0.5, quality=1.0, degraded=False, width=1.0, share=1.0),
    sample(0.001, "refused"),
    sample(0.3, "late"),
    sample(9.0, "timeout"),
]


def test_goodput_counts_answers_within_the_deadline_over_all_that_was_offered() -> None:
    report = make_report(SAMPLES, 2.0, 0.25)
    assert (report.offered, report.offered_per_s) == (12, 6.0)
    assert report.throughput_per_s == 4.5
    assert report.goodput_per_s == 4.0
    assert report.attainment == pytest.approx(8 / 12)
    assert report.counts["refused"] == report.counts["late"] == report.counts["timeout"] == 1
    assert sum(report.counts.values()) == report.offered


def test_quality_is_that_of_the_good_answers() -> None:
    report = make_report(SAMPLES, 2.0, 0.25)
    assert report.quality == pytest.approx((6 * 1.0 + 2 * 0.8) / 8)
    assert report.quality_weighted_goodput_per_s == pytest.approx((6 * 1.0 + 2 * 0.8) / 2.0)
    assert report.degraded == pytest.approx(2 / 9)
    assert report.widths == {"0.25": 2, "1": 7}


def test_a_quality_that_only_some_answers_tell_is_none() -> None:
    report = make_report([*SAMPLES, sample(0.1)], 2.0, 0.25)
    assert report.quality is None
    assert report.quality_weighted_goodput_per_s is None


def test_without_a_deadline_every_answer_is_good() -> None:
    report = make_report(SAMPLES, 2.0, None)
    assert report.goodput_per_s == report.throughput_per_s


def test_percentiles_are_of_raw_samples_and_never_too_low() -> None:
    found = percentiles([number / 1000 for number in range(1, 1001)])
    assert found["p50"] == pytest.approx(501)
    assert found["p99"] == pytest.approx(991)
    assert found["p99.9"] == pytest.approx(1000)
    assert found["max"] == pytest.approx(1000)


def test_latency_is_that_of_answers_alone() -> None:
    report = make_report(SAMPLES, 2.0, 0.25)
    assert report.latency_ms["max"] == pytest.approx(500)
    assert report.refused_ms["max"] == pytest.approx(1)


def test_nothing_offered_is_a_report_of_nothing() -> None:
    report = make_report([], 2.0, 0.25)
    assert (report.attainment, report.latency_ms, report.quality, report.widths) == (0.0, {}, None, {})
    assert dict(lines_of(report))["became"] == "nothing"


def test_people_are_told_what_machines_are() -> None:
    lines = dict(lines_of(make_report(SAMPLES, 2.0, 0.25)))
    assert lines["goodput"] == "4.0/s within 250.0 ms"
    assert lines["attainment"] == "66.7 % of what was offered"
    assert lines["became"] == "9 answered, 1 refused, 1 late, 1 timeout"
    assert lines["encoder widths"] == "0.25: 2, 1: 7"


def test_a_plot_is_drawn_even_of_nothing(tmp_path: Path) -> None:
    for name, samples in (("some.png", SAMPLES), ("none.png", [])):
        path = plot_samples(samples, 2.0, 0.25, tmp_path / name, "title")
        assert path.read_bytes().startswith(b"\x89PNG")
