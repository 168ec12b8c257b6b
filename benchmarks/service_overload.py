"""The overload part of service_load.py: bursts at multiples of the full plan's capacity, three ways to meet them."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from method import table
from page import Section
from service_process import Served

from slimpath.runtime.cpus import usable_cpus
from slimpath.service.loadtest.client import read_target
from slimpath.service.loadtest.picture import made_up_photograph
from slimpath.service.loadtest.run import Closed, Outcome, run_load
from slimpath.service.loadtest.sending import Load
from slimpath.service.loadtest.traces import Trace, make_trace

IN_FLIGHT = 8
ATTAINMENT_TARGET, PINNED_TARGET, PEAK_TARGET = 0.95, 1.7, 0.9
DEADLINE_FACTOR = 3.0
ANSWER = {"format": "npy", "response": "zip"}  # arrays as they are: what is measured is not PNG
IDEAL = (
    "Ideal: the same trace where every request gets the narrowest plan, a call takes what the narrowest capacity says, "
    "always the same, and only who can be in time is taken."
)
ATTEMPTS: dict[str, tuple[str, ...]] = {
    "as it is": (),
    "a runner per core": ("--runners", str(usable_cpus())),
    "a runner per core, each with all threads": ("--runners", str(usable_cpus()), "--threads", str(usable_cpus())),
    "all of the time is planned for": ("--utilisation", "1.0"),
    "one thread decodes and encodes": ("--pool-threads", "1"),
}


@dataclass(frozen=True)
class Effort:
    """How long everything is measured."""

    rounds: int
    seconds: float
    overload_s: float
    peak_s: float
    turns: int


def closed_loop(url: str, seconds: float, options: dict[str, str], in_flight: int = IN_FLIGHT) -> Outcome:
    """So many requests in flight at any time."""
    load = Load([made_up_photograph()], content_type="image/jpeg", options=options)
    return asyncio.run(run_load(read_target(url), load, Closed(in_flight, seconds), warm=3))


@dataclass(frozen=True)
class Overload:
    """One server under one trace."""

    name: str
    times: float
    trace: Trace
    outcome: Outcome
    memory_mb: tuple[float, float]
    generator_share: float

    @property
    def unanswered(self) -> int:
        counts = self.outcome.report.counts
        return counts["timeout"] + counts["lost"]


def _offer(server: Served, name: str, times: float, found: Capacities, seconds: float,
           arguments: argparse.Namespace) -> Overload:  # fmt: skip
    """A bursty trace at a multiple of the capacity."""
    rate_per_s = times * found.full
    trace = make_trace("bursty", rate_per_s, seconds, seed=int(times * 10), burstiness=arguments.burstiness)
    load = Load([made_up_photograph()], content_type="image/jpeg", options=ANSWER, deadline_s=found.deadline_s)
    before_mb = server.memory_mb()
    cpu_s, started = time.process_time(), time.perf_counter()
    outcome = asyncio.run(run_load(read_target(server.url), load, trace, warm=2, connections=250))
    share = (time.process_time() - cpu_s) / (time.perf_counter() - started)
    result = Overload(name, times, trace, outcome, (before_mb, server.memory_mb()), share)
    print(_overload_row(result), file=sys.stderr, flush=True)
    return result


def overload(effort: Effort, arguments: argparse.Namespace, runners: int) -> Section:
    """The three servers, one after the other, each in a process of its own."""
    cores = _server_cores(arguments)
    flags = [] if runners == 1 else ["--runners", str(runners)]
    with Served(*flags, cores=cores) as server:
        found = capacities(server, effort.peak_s)
        several = (1.0, 1.5, 3.0, 5.0)
        runs = [_offer(server, "narrows", times, found, effort.peak_s, arguments) for times in several]
        runs += [_offer(server, "narrows", times, found, effort.overload_s, arguments) for times in (2.0, 10.0)]
    for name, flag in (("pinned to full width", "--pinned-full-width"), ("first in, first out", "--fifo")):
        with Served(*flags, flag, cores=cores) as server:
            runs.append(_offer(server, name, 2.0, found, effort.overload_s, arguments))
    head = ["server", "offered", "in time", "goodput/s", "quality", "quality x goodput/s", "p99, ms", "unanswered",
            "memory, MB", "generator"]  # fmt: skip
    text = (
        f"Capacity at full width {found.full:.2f}/s, at the narrowest {found.narrowest:.2f}/s ({IN_FLIGHT} in flight); "
        f"full plan alone {found.p50_s * 1e3:.0f} ms, deadline {found.deadline_s * 1e3:.0f} ms; gaps of a gamma "
        f"distribution, CV² {arguments.burstiness:g}; JPEG of {len(made_up_photograph()) / 1e3:.0f} kB up, arrays of "
        f"all tasks down. Generator {_where(arguments)}.\n\n"
        + table(head, [_overload_row(run) for run in sorted(runs, key=lambda run: (run.name, run.times))])
        + "\n" + "\n".join(f"- {line}" for line in _verdicts(runs, found, runners)) + "\n"
    )  # fmt: skip
    figures = [
        {"server": run.name, "times": run.times, "memory_mb": run.memory_mb, "generator": run.generator_share,
         **run.outcome.report.to_json()}
        for run in runs
    ]  # fmt: skip
    title = "Overload in bursts" if runners == 1 else "Overload in bursts, a runner per core"
    return title, text, figures


def attempts(effort: Effort, arguments: argparse.Namespace) -> Section:
    """Other settings at twice their own capacity: what answers most in time?"""
    rows, figures = [], []
    for name, flags in ATTEMPTS.items():
        with Served(*flags) as server:
            found = capacities(server, effort.seconds)
            run = _offer(server, name, 2.0, found, effort.overload_s / 2, arguments)
        report = run.outcome.report
        runners = int(flags[1]) if flags[:1] == ("--runners",) else 1
        ideal = ideal_share(run.trace.times_s, found.narrowest, runners, found.deadline_s)
        rows.append([
            name, f"{found.full:.1f}", f"{found.narrowest:.1f}", f"{report.offered_per_s:.1f}",
            f"{100 * report.attainment:.1f} %", f"{100 * ideal:.1f} %", f"{report.goodput_per_s:.1f}",
            "" if report.quality is None else f"{100 * report.quality:.1f} %",
        ])  # fmt: skip
        figures.append({"name": name, "flags": flags, "ideal": ideal, **report.to_json()})
    head = ["settings", "full/s", "narrowest/s", "offered/s", "in time", "ideal", "goodput/s", "quality"]
    text = (
        f"{table(head, rows)}\nTwice each one's own capacity at full width for {effort.overload_s / 2:g} s, deadlines "
        f"of {DEADLINE_FACTOR:g} times its full plan alone. {IDEAL}\n"
    )
    return "What was tried at twice the capacity", text, figures


@dataclass(frozen=True)
class Capacities:
    """Answers per second with 8 in flight, and what a lone request takes."""

    full: float
    narrowest: float
    p50_s: float

    @property
    def deadline_s(self) -> float:
        return DEADLINE_FACTOR * self.p50_s


def capacities(server: Served, seconds: float) -> Capacities:
    """Of a server that nobody else uses, each measured for so long."""
    return Capacities(
        closed_loop(server.url, seconds, ANSWER).report.throughput_per_s,
        closed_loop(server.url, seconds, {**ANSWER, "budget": "min"}).report.throughput_per_s,
        closed_loop(server.url, seconds, ANSWER, 1).report.latency_ms["p50"] / 1e3,
    )


def ideal_share(times_s: Sequence[float], capacity_per_s: float, runners: int, deadline_s: float) -> float:
    """What share of a trace can be in time where every call takes the narrowest plan, and always the same.

    Taking whoever can still be in time is then the best there is: requests have equal calls and equal deadlines.
    """
    free_s = [0.0] * runners
    call_s = runners / capacity_per_s
    answered = 0
    for arrived_s in times_s:
        runner = free_s.index(min(free_s))
        finish_s = max(free_s[runner], arrived_s) + call_s
        if finish_s <= arrived_s + deadline_s:
            free_s[runner] = finish_s
            answered += 1
    return answered / len(times_s)


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


def _verdicts(runs: list[Overload], found: Capacities, runners: int) -> list[str]:
    def goodput(name: str, times: float) -> float:
        return next(r.outcome.report.goodput_per_s for r in runs if (r.name, r.times) == (name, times))

    twice = next(run for run in runs if (run.name, run.times) == ("narrows", 2.0))
    report = twice.outcome.report
    wanted = min(ATTAINMENT_TARGET, 0.95 * found.narrowest / report.offered_per_s)
    ideal = ideal_share(twice.trace.times_s, found.narrowest, runners, found.deadline_s)
    pinned = goodput("pinned to full width", 2.0)
    peak = max(run.outcome.report.goodput_per_s for run in runs if run.name == "narrows")
    unanswered = sum(run.unanswered for run in runs if run.name != "first in, first out")
    return [
        f"{_verdict('in time at 2 x', report.attainment, wanted)}; ideal {ideal:.3f}. {IDEAL}",
        _verdict("goodput at 2 x over that of the pinned one", report.goodput_per_s / max(pinned, 1e-9), PINNED_TARGET),
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
