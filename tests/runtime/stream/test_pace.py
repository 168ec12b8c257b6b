"""Which frames are due when."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimpath.runtime.stream.pace import FilePace, LivePace, effective_fps

RATES = st.floats(1, 120)


@pytest.mark.parametrize(
    ("asked", "source", "held"),
    [(15, 30, 15), (15, 10, 10), (15, None, 15), (15, 0, 15), (15, 90000, 15), (15, math.nan, 15)],
)
def test_no_source_gives_more_than_it_has(asked: float, source: float | None, held: float) -> None:
    assert effective_fps(asked, source) == held


@given(asked=RATES, source=RATES)
def test_file_plays_in_real_time(asked: float, source: float) -> None:
    pace = FilePace(effective_fps(asked, source), source, start_s=100.0)
    for tick in range(200):
        shown_s, due_s = pace.frame_of(tick) / source, pace.due_s(tick) - 100.0
        assert due_s - 1 / source - 1e-6 <= shown_s <= due_s + 1e-6
        assert pace.frame_of(tick + 1) > pace.frame_of(tick)  # no frame twice


def test_file_that_is_read_too_slowly_leaves_ticks_out() -> None:
    pace = FilePace(10, 30, start_s=0.0)
    assert pace.next_tick(0, 0.01) == 1
    assert pace.next_tick(0, 0.19) == 1
    assert pace.next_tick(0, 0.55) == 5


def test_without_a_start_every_tick_comes_at_once() -> None:
    pace = FilePace(10, 30, start_s=None)
    assert [pace.next_tick(tick, 1e9) for tick in range(3)] == [1, 2, 3]
    assert pace.due_s(7) == -math.inf


@given(asked=st.floats(5, 30), factor=st.floats(1.0, 4), jitter=st.floats(0, 0.15), seed=st.integers(0, 999))
def test_live_source_is_thinned_to_the_asked_rate(asked: float, factor: float, jitter: float, seed: int) -> None:
    source, rng, pace = asked * factor, np.random.default_rng(seed), LivePace(asked)
    count = int(source * 10)
    times = np.arange(count) / source + rng.uniform(-jitter, jitter, count) / source
    ticks = [tick for now in np.sort(times) if (tick := pace.tick_of(float(now))) is not None]
    assert ticks == sorted(set(ticks))
    assert len(ticks) == pytest.approx(10 * asked, rel=0.05)
    assert ticks[-1] == pytest.approx(10 * asked, rel=0.05)  # the video keeps real time


def test_pause_of_a_live_source_stays_a_pause() -> None:
    pace = LivePace(10)
    assert [pace.tick_of(at) for at in (5.0, 5.1, 8.0, 8.02, 8.1)] == [0, 1, 30, None, 31]
