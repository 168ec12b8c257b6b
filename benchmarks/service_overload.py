"""The overload part of service_load.py: bursts at multiples of the full plan's capacity, three ways to meet them."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from dataclasses import dataclass

from method import table
from page import Section
from service_process import Served

from slimpath.service.loadtest.client import read_target
from slimpath.service.loadtest.picture import made_up_photograph
from slimpath.service.loadtest.run import Closed, Outcome, run_load
from slimpath.service.loadtest.sending import Load
from slimpath.service.loadtest.traces import Trace, make_trace

IN_FLIGHT = 8
ATTAINMENT_TARGET, PINNED_TARGET, PEAK_TARGET = 0.95, 1.7, 0.9
DEADLINE_FACTOR = 3.0
ANSWER = {"format": "npy", "response": "zip"}  # arrays as they are: what is measured is not PNG


@dataclass(frozen=True)
class Effort:
    """How long everything is measured."""

    rounds: int
    seconds: float
    overload_s: float
    peak_s: float
    calls: int


def closed_loop(url: str, seconds: float, options: dict[str, str], in_flight: int = IN_FLIGHT) -> Outcome:
    """So many requests in flight at any time."""
    load = Load([made_up_photograph()], content_type="image/jpeg", options=options)
    return asyncio.run(run_load(read_target(url), load, Closed(in_flight, seconds), warm=3))


@dataclass(frozen=True)
class Overload:
    """One server under one trace."""

    name: str
    times: float
    outcome: Outcome
    memory_mb: tuple[float, float]
    generator_share: float

    @property
    def unanswered(self) -> int:
        counts = self.outcome.report.counts
        return counts["timeout"] + counts["lost"]


def offer(server: Served, name: str, times: float, capacity: float, deadline_s: float, seconds: float,
          burstiness: float) -> Overload:  # fmt: skip
    """A bursty trace at a multiple of the capacity."""
    trace: Trace = make_trace("bursty", times * capacity, seconds, seed=int(times * 10), burstiness=burstiness)
    load = Load([made_up_photograph()], content_type="image/jpeg", options=ANSWER, deadline_s=deadline_s)
    before_mb = server.memory_mb()
    cpu_s, started = time.process_time(), time.perf_counter()
    outcome = asyncio.run(run_load(read_target(server.url), load, trace, warm=2, connections=250))
    share = (time.process_time() - cpu_s) / (time.perf_counter() - started)
    result = Overload(name, times, outcome, (before_mb, server.memory_mb()), share)
    print(_overload_row(result), file=sys.stderr, flush=True)
    return result


def overload(effort: Effort, arguments: argparse.Namespace, flags: list[str]) -> Section:
    """The three servers, one after the other, each in a process of its own."""
    cores = _server_cores(arguments)
    with Served(*flags, cores=cores) as server:
        full = closed_loop(server.url, effort.peak_s, ANSWER).report.throughput_per_s
        narrowest = closed_loop(server.url, effort.peak_s, {**ANSWER, "budget": "min"}).report.throughput_per_s
        p50_s = _full_p50_s(server, effort)
        deadline_s = DEADLINE_FACTOR * p50_s
        several = (1.0, 1.5, 3.0, 5.0)
        runs = [
            offer(server, "narrows", times, full, deadline_s, effort.peak_s, arguments.burstiness) for times in several
        ]
        runs += [
            offer(server, "narrows", times, full, deadline_s, effort.overload_s, arguments.burstiness)
            for times in (2.0, 10.0)
        ]
    for name, flag in (("pinned to full width", "--pinned-full-width"), ("first in, first out", "--fifo")):
        with Served(*flags, flag, cores=cores) as server:
            runs.append(offer(server, name, 2.0, full, deadline_s, effort.overload_s, arguments.burstiness))
    head = ["server", "offered", "in time", "goodput/s", "quality", "quality x goodput/s", "p99, ms", "unanswered",
            "memory, MB", "generator"]  # fmt: skip
    text = (
        f"Capacity at full width {full:.2f}/s, at the narrowest {narrowest:.2f}/s (8 in flight); full plan alone "
        f"{p50_s * 1e3:.0f} ms, deadline {deadline_s * 1e3:.0f} ms; gaps of a gamma distribution, CV² "
        f"{arguments.burstiness:g}; JPEG of {len(made_up_photograph()) / 1e3:.0f} kB up, arrays of all tasks down. "
        f"Generator {_where(arguments)}.\n\n"
        + table(head, [_overload_row(run) for run in sorted(runs, key=lambda run: (run.name, run.times))])
        + "\n" + "\n".join(f"- {line}" for line in _verdicts(runs, full, narrowest)) + "\n"
    )  # fmt: skip
    figures = [
        {"server": run.name, "times": run.times, "memory_mb": run.memory_mb, "generator": run.generator_share,
         **run.outcome.report.to_json()}
        for run in runs
    ]  # fmt: skip
    return "Overload in bursts", text, figures


def _full_p50_s(server: Served, effort: Effort) -> float:
    load = Load([made_up_photograph()], content_type="image/jpeg", options=ANSWER)
    alone = asyncio.run(run_load(read_target(server.url), load, Closed(1, effort.peak_s), warm=5))
    return alone.report.latency_ms["p50"] / 1e3


def _overload_row(run: Overload) -> list[str]:
    report = run.outcome.report
    quality = "" if report.quality is None else f"{100 * report.quality:.1f} %"
    weighted = report.quality_weighted_goodput_per_s
    return [
        run.name, f"{run.times:g} x, {report.offered_per_s:.1f}/s", f"{100 * report.attainment:.1f} %",
        f"{report.goodput_per_s:.2f}", quality, "" if weighted is None else f"{weighted:.2f}",
        f"{report.latency_ms.get('p99', float('nan')):.0f}", str(run.unanswered),
        f"{run.memory_mb[0]:.0f} to {run.memory_mb[1]:.0f}", f"{100 * run.generator_share:.0f} % of a core",
    ]  # fmt: skip


def _verdicts(runs: list[Overload], full: float, narrowest: float) -> list[str]:
    def goodput(name: str, times: float) -> float:
        return next(r.outcome.report.goodput_per_s for r in runs if (r.name, r.times) == (name, times))

    twice = next(run for run in runs if (run.name, run.times) == ("narrows", 2.0)).outcome.report
    wanted = min(ATTAINMENT_TARGET, 0.95 * narrowest / twice.offered_per_s)
    pinned = goodput("pinned to full width", 2.0)
    peak = max(run.outcome.report.goodput_per_s for run in runs if run.name == "narrows")
    unanswered = sum(run.unanswered for run in runs if run.name != "first in, first out")
    return [
        _verdict("in time at 2 x", twice.attainment, wanted),
        _verdict("goodput at 2 x over that of the pinned one", twice.goodput_per_s / max(pinned, 1e-9), PINNED_TARGET),
        _verdict("goodput at 10 x over its peak", goodput("narrows", 10.0) / peak, PEAK_TARGET),
        f"unanswered: {unanswered}, target 0: {'met' if unanswered == 0 else 'missed'}",
    ]


def _verdict(what: str, value: float, target: float) -> str:
    return f"{what}: {value:.3f}, target {target:.3g}: {'met' if value >= target else 'missed'}"


def _server_cores(arguments: argparse.Namespace) -> set[int] | None:
    if arguments.generator_core is None or not hasattr(os, "sched_getaffinity"):
        return None
    return os.sched_getaffinity(0) - {arguments.generator_core} or None


def _where(arguments: argparse.Namespace) -> str:
    core = arguments.generator_core
    return "on the cores of the server" if core is None else f"on core {core}, the server on the others"
