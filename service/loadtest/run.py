"""A whole load test: connect, warm up, send, sum up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from .client import Client, Target
from .errors import TargetError
from .report import Report, make_report
from .samples import Sample
from .sending import Load, Progress, Sender, run_closed, run_trace, warm_up
from .traces import Trace


@dataclass(frozen=True)
class Outcome:
    """The figures, the samples that they are of, and the median latency of the requests before the test."""

    report: Report
    samples: Sequence[Sample]
    warm_ms: float | None


@dataclass(frozen=True)
class Closed:
    """Keep so many requests in flight."""

    concurrency: int
    seconds: float


async def run_load(
    target: Target,
    load: Load,
    shape: Trace | Closed,
    *,
    warm: int = 5,
    deadline_factor: float | None = None,
    connections: int = 128,
    progress: Progress | None = None,
) -> Outcome:
    """Run a load test.

    Args:
        shape: a trace (open loop), or a number in flight (closed loop).
        warm: requests before it, one after the other, without a deadline and not counted.
        deadline_factor: the deadline as a multiple of their median latency.

    Raises:
        TargetError: nobody answers there.
    """
    client = Client(target, connections=connections)
    try:
        warmed = await warm_up(Sender(client, replace(load, deadline_s=None)), warm)
        latencies = [sample.latency_s for sample in warmed if sample.kind == "answered"]
        if deadline_factor is not None:
            if not latencies:
                raise TargetError("no request before the test was answered, so there is no deadline to be told")
            load = replace(load, deadline_s=deadline_factor * median(latencies))
        sender = Sender(client, load)
        if isinstance(shape, Trace):
            samples = await run_trace(sender, shape, progress)
        else:
            samples = await run_closed(sender, shape.concurrency, shape.seconds, progress)
    finally:
        client.close()
        await asyncio.sleep(0)  # so that the connections are really closed
    seconds = shape.seconds if isinstance(shape, Trace) else max((s.done_s for s in samples), default=shape.seconds)
    report = make_report(samples, seconds, load.deadline_s)
    return Outcome(report, samples, median(latencies) * 1e3 if latencies else None)
