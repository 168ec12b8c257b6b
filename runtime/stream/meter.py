"""Counts what a stream does, from several threads: frames, drops, latencies, how busy each stage is."""

from __future__ import annotations

import statistics
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from time import monotonic
from typing import Any

WINDOW_S = 2.0  # of the rates and latencies that are shown


@dataclass(frozen=True)
class StreamStats:
    """A moment of a stream.

    Args:
        fps: pictures that came out, over the last 2 s (since the start while it is younger).
        asked_fps: what the stream holds, at most what the source gives.
        latency_ms: median of the answers of the last 2 s: wall time of one engine call. None before the first.
        delay_ms: median from frame to finished picture.
        pictures: that came out.
        dropped: frames that were due and were never shown: replaced by a newer one, or read too late.
        repeated: pictures of a video shown once more in their place, so that it keeps its time.
        reconnects: of a network source.
        busy: stage ("read", "infer", "draw") -> share of the last 2 s that it worked.
    """

    seconds: float
    fps: float
    asked_fps: float
    latency_ms: float | None
    delay_ms: float | None
    pictures: int
    dropped: int
    repeated: int
    reconnects: int
    busy: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Numbers rounded to what is worth reading."""
        rounded = {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(self).items()}
        return {**rounded, "busy": {stage: round(share, 3) for stage, share in self.busy.items()}}


class Meter:
    """One per stream."""

    def __init__(self, asked_fps: float, clock: Callable[[], float] = monotonic) -> None:
        self._asked_fps = asked_fps
        self._clock = clock
        self._lock = threading.Lock()
        self._started_s = clock()
        self._first_s: float | None = None
        self._last_s = self._started_s
        self._pictures: deque[tuple[float, float]] = deque()  # when, delay
        self._latencies: deque[tuple[float, float]] = deque()
        self._work: dict[str, deque[tuple[float, float]]] = {}
        self._counts = {"pictures": 0, "dropped": 0, "repeated": 0, "reconnects": 0}

    def count(self, what: str, number: int = 1) -> None:
        """Add to "dropped" or "repeated"."""
        with self._lock:
            self._counts[what] += number

    def reconnected(self, times: int) -> None:
        """How often the source was connected anew, so far."""
        with self._lock:
            self._counts["reconnects"] = times

    def picture(self, delay_ms: float) -> None:
        """A picture came out."""
        with self._lock:
            now = self._clock()
            self._first_s = now if self._first_s is None else self._first_s
            self._last_s = now
            self._counts["pictures"] += 1
            self._pictures.append((now, delay_ms))
            _forget(self._pictures, now)

    def worked(self, stage: str, seconds: float) -> None:
        """A stage has just worked for so long."""
        with self._lock:
            now = self._clock()
            entries = self._work.setdefault(stage, deque())
            entries.append((now, seconds))
            _forget(entries, now)
            if stage == "infer":
                self._latencies.append((now, seconds * 1e3))
                _forget(self._latencies, now)

    def busy(self, stage: str) -> float:
        """Share of the last 2 s that a stage worked."""
        with self._lock:
            return self._busy(stage, self._clock())

    def stats(self) -> StreamStats:
        """Where the stream stands."""
        with self._lock:
            now = self._clock()
            _forget(self._pictures, now)
            _forget(self._latencies, now)
            return StreamStats(
                seconds=now - self._started_s,
                fps=self._rate(now),
                asked_fps=self._asked_fps,
                latency_ms=_median(self._latencies),
                delay_ms=_median(self._pictures),
                busy={stage: self._busy(stage, now) for stage in self._work},
                **self._counts,
            )

    def mean_fps(self) -> float:
        """Pictures a second from the first to the last one."""
        with self._lock:
            span = self._last_s - (self._first_s or self._last_s)
            return (self._counts["pictures"] - 1) / span if span > 0 else 0.0

    def _rate(self, now: float) -> float:
        if self._first_s is None:
            return 0.0
        span = min(WINDOW_S, now - self._first_s)
        inside = sum(at >= now - span for at, _ in self._pictures)
        if span < WINDOW_S:  # the first picture starts the clock: it is not one of those that came since
            inside -= 1
        return inside / span if span > 0 else 0.0

    def _busy(self, stage: str, now: float) -> float:
        entries = self._work.get(stage, deque())
        _forget(entries, now)
        span = min(WINDOW_S, now - self._started_s)
        return min(sum(seconds for _, seconds in entries) / span, 1.0) if span > 0 else 0.0


def _forget(entries: deque[tuple[float, float]], now: float) -> None:
    while entries and entries[0][0] < now - WINDOW_S:
        entries.popleft()


def _median(entries: deque[tuple[float, float]]) -> float | None:
    return statistics.median(value for _, value in entries) if entries else None
