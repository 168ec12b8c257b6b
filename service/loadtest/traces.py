"""When requests are sent. A trace is made from a seed, or read from a file: the same one can be sent again.

Bursty gaps follow a gamma distribution whose squared coefficient of variation is given: 1 is Poisson, 4 and 8 are what
serving systems are usually tried with; the mean rate stays the same, but requests come in bunches with pauses between.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np

from .errors import TraceError

KINDS = ("poisson", "bursty", "steady")
MAX_REQUESTS = 5_000_000
FORMAT = "slimpath-trace-1"


class _File(msgspec.Struct, forbid_unknown_fields=True):
    """A trace on disk."""

    format: str
    kind: str
    rate_per_s: float
    seconds: float
    seed: int
    burstiness: float
    times_s: list[float]


@dataclass(frozen=True)
class Trace:
    """When each request is sent, in seconds from the start, rising; all below `seconds`.

    Args:
        rate_per_s: that was asked for; what a random trace holds differs a little.
        burstiness: squared coefficient of variation of the gaps.
    """

    kind: str
    rate_per_s: float
    seconds: float
    seed: int
    burstiness: float
    times_s: tuple[float, ...]

    def save(self, path: Path) -> None:
        """As JSON; whole or not at all.

        Raises:
            OSError: the file cannot be written.
        """
        data = _File(
            FORMAT, self.kind, self.rate_per_s, self.seconds, self.seed, self.burstiness,
            [round(time, 6) for time in self.times_s],
        )  # fmt: skip
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(msgspec.json.encode(data) + b"\n")
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise


def make_trace(kind: str, rate_per_s: float, seconds: float, *, seed: int = 0, burstiness: float = 4.0) -> Trace:
    """A trace of that mean rate.

    Args:
        kind: of KINDS.
        burstiness: of "bursty" alone: squared coefficient of variation of the gaps, from 1 up.

    Raises:
        TraceError: no such kind, or numbers that make no trace.
    """
    if kind not in KINDS:
        raise TraceError(f"there is no trace {kind!r}", hint=f"there are {', '.join(KINDS)}, or the name of a file")
    if not (rate_per_s > 0 and seconds > 0 and rate_per_s * seconds <= MAX_REQUESTS):
        raise TraceError(
            f"{rate_per_s:g} requests a second for {seconds:g} s make no trace",
            hint=f"both above 0, and at most {MAX_REQUESTS:,} requests",
        )
    if not 1 <= burstiness <= 100:
        raise TraceError(f"burstiness must be from 1 (Poisson) to 100, got {burstiness:g}")
    cv2 = {"poisson": 1.0, "bursty": burstiness, "steady": 0.0}[kind]
    return Trace(kind, rate_per_s, seconds, seed, cv2, _times(rate_per_s, seconds, seed, cv2))


def _times(rate_per_s: float, seconds: float, seed: int, cv2: float) -> tuple[float, ...]:
    if cv2 == 0:
        return tuple(number / rate_per_s for number in range(int(rate_per_s * seconds)))
    rng = np.random.default_rng(seed)
    times: list[float] = []
    last_s = 0.0
    while True:  # in pieces: how many there are until the end is not known before
        gaps = rng.gamma(1 / cv2, cv2 / rate_per_s, 4096)
        for time in last_s + np.cumsum(gaps):
            if time >= seconds:
                return tuple(times)
            times.append(float(time))
        last_s = times[-1] if times else last_s + float(gaps.sum())


def load_trace(path: Path) -> Trace:
    """Read what `Trace.save` wrote.

    Raises:
        TraceError: it is no trace.
        OSError: it cannot be read.
    """
    try:
        data = msgspec.json.decode(path.read_bytes(), type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TraceError(f"{path} is not a trace: {error}", hint="write one with --save-trace") from None
    if data.format != FORMAT:
        raise TraceError(f"{path} is a trace of the form {data.format!r}, this version reads {FORMAT!r}")
    times = data.times_s
    if any(later < earlier for earlier, later in pairwise(times)) or (times and times[0] < 0):
        raise TraceError(f"{path}: the times of a trace must rise from 0")
    if times and times[-1] >= data.seconds:
        raise TraceError(f"{path}: a request at {times[-1]:g} s is beyond the trace's {data.seconds:g} s")
    return Trace(data.kind, data.rate_per_s, data.seconds, data.seed, data.burstiness, tuple(times))
