"""Traces: seeded, replayable, of the rate and burstiness that were asked for."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimpath.service.loadtest.errors import TraceError
from slimpath.service.loadtest.traces import KINDS, load_trace, make_trace


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_is_the_same_trace(kind: str) -> None:
    assert make_trace(kind, 50, 20, seed=3) == make_trace(kind, 50, 20, seed=3)


def test_another_seed_is_another_trace() -> None:
    assert make_trace("poisson", 50, 20, seed=3).times_s != make_trace("poisson", 50, 20, seed=4).times_s


@pytest.mark.parametrize(("kind", "burstiness", "expected_cv2"), [
    ("poisson", 8.0, 1.0), ("bursty", 4.0, 4.0), ("bursty", 8.0, 8.0), ("steady", 4.0, 0.0),
])  # fmt: skip
def test_rate_and_burstiness_are_those_asked_for(kind: str, burstiness: float, expected_cv2: float) -> None:
    trace = make_trace(kind, 100, 1000, burstiness=burstiness)
    gaps = np.diff(trace.times_s)
    assert len(trace.times_s) / 1000 == pytest.approx(100, rel=0.05)
    assert float(np.var(gaps) / np.mean(gaps) ** 2) == pytest.approx(expected_cv2, rel=0.1, abs=1e-6)


@given(
    kind=st.sampled_from(KINDS), rate=st.floats(0.1, 500), seconds=st.floats(0.01, 30),
    burstiness=st.floats(1, 50), seed=st.integers(0, 10),
)  # fmt: skip
def test_times_rise_and_lie_within_the_trace(
    kind: str, rate: float, seconds: float, burstiness: float, seed: int
) -> None:
    times = make_trace(kind, rate, seconds, seed=seed, burstiness=burstiness).times_s
    assert all(earlier <= later for earlier, later in pairwise(times))
    assert all(0 <= time <= seconds for time in times)


def test_a_saved_trace_is_sent_again_as_it_was(tmp_path: Path) -> None:
    trace = make_trace("bursty", 30, 20, seed=7)
    trace.save(tmp_path / "t.json")
    again = load_trace(tmp_path / "t.json")
    assert again.times_s == pytest.approx(trace.times_s, abs=1e-6)
    assert (again.kind, again.rate_per_s, again.seconds, again.seed) == ("bursty", 30, 20, 7)
    assert list(tmp_path.iterdir()) == [tmp_path / "t.json"]


@pytest.mark.parametrize("change", [
    lambda text: text[: len(text) // 2],
    lambda text: b"\xff\xfe" + text,
    lambda text: text.replace(b"slimpath-trace-1", b"slimpath-trace-9"),
    lambda text: text.replace(b'"seed"', b'"sead"'),
    lambda text: b"[" * 100_000,
])  # fmt: skip
def test_a_file_that_is_no_trace_is_refused(tmp_path: Path, change: object) -> None:
    path = tmp_path / "t.json"
    make_trace("poisson", 5, 5).save(path)
    path.write_bytes(change(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(TraceError):
        load_trace(path)


@pytest.mark.parametrize("times", ["[2,1]", "[-1]", "[1,99]"])
def test_times_that_make_no_trace_are_refused(tmp_path: Path, times: str) -> None:
    path = tmp_path / "t.json"
    path.write_text(
        '{"format":"slimpath-trace-1","kind":"x","rate_per_s":1,"seconds":10,"seed":0,"burstiness":1,'
        f'"times_s":{times}}}'
    )
    with pytest.raises(TraceError):
        load_trace(path)


@pytest.mark.parametrize(("kind", "rate", "seconds", "burstiness"), [
    ("square", 1, 1, 4), ("poisson", 0, 1, 4), ("poisson", 1, -1, 4), ("poisson", float("nan"), 1, 4),
    ("poisson", 1e9, 1e9, 4), ("bursty", 1, 1, 0.5), ("bursty", 1, 1, float("inf")),
])  # fmt: skip
def test_numbers_that_make_no_trace_are_refused(kind: str, rate: float, seconds: float, burstiness: float) -> None:
    with pytest.raises(TraceError):
        make_trace(kind, rate, seconds, burstiness=burstiness)
