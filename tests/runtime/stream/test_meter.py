"""Rates, medians and busy shares, on a simulated clock."""

from __future__ import annotations

import json

import pytest

from slimpath.runtime.stream.meter import Meter


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def test_rate_is_that_of_the_last_two_seconds() -> None:
    clock = Clock()
    meter = Meter(20, clock)
    for _ in range(60):
        clock.now += 0.05
        meter.picture(delay_ms=70)
    assert meter.stats().fps == pytest.approx(20, rel=0.05)
    assert meter.mean_fps() == pytest.approx(20)
    for _ in range(20):
        clock.now += 0.2
        meter.picture(delay_ms=70)
    assert meter.stats().fps == pytest.approx(5, rel=0.1)
    clock.now += 10
    assert meter.stats().fps == 0


def test_young_stream_has_the_rate_of_its_youth() -> None:
    clock = Clock()
    meter = Meter(10, clock)
    clock.now += 3  # until the first picture: the camera starts
    for _ in range(6):
        meter.picture(delay_ms=1)
        clock.now += 0.1
    clock.now -= 0.1
    assert meter.stats().fps == pytest.approx(10)
    assert meter.mean_fps() == pytest.approx(10)


def test_nothing_yet_is_zero_or_none_not_an_error() -> None:
    stats = Meter(15, Clock()).stats()
    assert (stats.fps, stats.pictures, stats.latency_ms, stats.busy) == (0, 0, None, {})
    assert Meter(15, Clock()).mean_fps() == 0
    assert Meter(15, Clock()).busy("draw") == 0


def test_busy_share_and_median_latency_of_each_stage() -> None:
    clock = Clock()
    meter = Meter(10, clock)
    for number in range(40):
        clock.now += 0.1
        meter.worked("infer", 0.03 if number % 10 else 5.0)
        meter.worked("draw", 0.08)
    stats = meter.stats()
    assert stats.latency_ms == pytest.approx(30)
    assert stats.busy["draw"] == pytest.approx(0.8, abs=0.05)
    assert stats.busy["infer"] == 1  # never more than all the time


def test_counts_add_up_and_go_into_json() -> None:
    meter = Meter(10, Clock())
    meter.count("dropped")
    meter.count("dropped", 3)
    meter.count("repeated", 2)
    meter.reconnected(4)
    document = json.loads(json.dumps(meter.stats().to_json()))
    assert (document["dropped"], document["repeated"], document["reconnects"]) == (4, 2, 4)
