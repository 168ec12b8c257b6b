"""The throughput part of service_load.py: the server at full width, its ceiling in this process, other servers."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Mapping
from functools import partial

import numpy as np
from method import interval, table, with_interval
from page import Section
from service_overload import ANSWER, IN_FLIGHT, Effort, closed_loop
from service_process import Served

from slimpath.runtime import Engine
from slimpath.runtime.cpus import usable_cpus
from slimpath.runtime.imaging.images import load_image
from slimpath.runtime.request import Request
from slimpath.service.loadtest.picture import made_up_photograph
from slimpath.service.loadtest.report import Report

CEILING_TARGET, RIVAL_TARGET, RIVAL_HOPE = 0.92, 1.0, 1.3
PLAIN = "slimpath serve"
OURS = f"{PLAIN}, a runner per core"  # which a benchmark of throughput would set, as the rivals' settings are
ALONE_S = 2.0
Ratio = tuple[float, float, float]  # median, and its 95 % interval


def engine_throughput(engine: Engine, runners: int, seconds: float) -> float:
    """Images per second of so many threads that call the engine with a decoded picture."""
    picture = load_image(made_up_photograph()).rgb
    plan = engine.plan(None)
    engine.run_batch([Request(picture, None, plan)])
    counts = [0] * runners
    started = time.perf_counter()

    def work(number: int) -> None:
        while time.perf_counter() < started + seconds:
            engine.run_batch([Request(picture, None, plan)])
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(runners)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - started)


def throughput(effort: Effort, plain: Served, per_core: Served, rivals: Mapping[str, str], notes: str = "") -> Section:
    """Servers, ceilings and rivals in turn.

    Args:
        plain, per_core: as `slimpath serve` is without settings, and with as many runners as cores.
        rivals: name -> address of a server that takes the same body and answers with the same arrays.
        notes: what has to be said about them.
    """
    cpus = usable_cpus()
    engines = {threads: Engine.load(threads=threads, tier="packed") for threads in {cpus, 1}}
    ceilings = {
        f"engine, 1 call of {cpus} threads": lambda: engine_throughput(engines[cpus], 1, effort.seconds),
        f"engine, {cpus} calls of 1 thread": lambda: engine_throughput(engines[1], cpus, effort.seconds),
    }
    urls = {PLAIN: plain.url, OURS: per_core.url, **rivals}
    servers = {name: partial(closed_loop, url, options={} if name in rivals else ANSWER) for name, url in urls.items()}
    rates: dict[str, list[float]] = {name: [] for name in (*ceilings, *servers)}
    tails: dict[str, list[float]] = {name: [] for name in servers}
    alone: dict[str, list[float]] = {name: [] for name in servers}
    for _ in range(effort.rounds):
        for name, measure in ceilings.items():
            rates[name].append(measure())
        for name, ask in servers.items():
            report = ask(seconds=effort.seconds).report
            _check(name, report)
            rates[name].append(report.throughput_per_s)
            tails[name].append(report.latency_ms["p99"])
            alone[name].append(ask(seconds=ALONE_S, in_flight=1).report.latency_ms["p50"])
    for engine in engines.values():
        engine.close()
    ceiling = np.max([rates[name] for name in ceilings], axis=0)
    rows = []
    for name, found in rates.items():
        ratio = interval(np.array(found) / ceiling)
        times = [f"{statistics.median(of[name]):.0f}" if name in of else "" for of in (tails, alone)]
        rows.append([name, f"{statistics.median(found):.2f}", with_interval(ratio), *times, _met(name, ratio)])
    head = ["candidate", "images/s", "of the ceiling", "p99, ms", "alone p50, ms", f"target {CEILING_TARGET}"]
    size_kb = len(made_up_photograph()) / 1e3
    lines = [line for name in rivals for line in beside(name, rates, tails)]
    text = (
        table(head, rows) + f"\nAll tasks, JPEG of {size_kb:.0f} kB, arrays as answer; {effort.rounds} rounds of "
        f"{effort.seconds:g} s in turn. p99: median over the rounds. Alone: one at a time, {ALONE_S:g} s a round."
        f"{' ' + notes if notes else ''}\n"
        + ("\n" + "\n".join(lines) + "\n" if lines else "")
    )  # fmt: skip
    return (
        f"Throughput at full width, {IN_FLIGHT} in flight",
        text,
        {"rates": rates, "p99_ms": tails, "alone_p50_ms": alone},
    )


def beside(name: str, rates: Mapping[str, list[float]], tails: Mapping[str, list[float]]) -> list[str]:
    """Our throughput and p99 over those of a rival, round by round, against the targets."""
    rate = interval(np.array(rates[OURS]) / np.array(rates[name]))
    tail = interval(np.array(tails[OURS]) / np.array(tails[name]))
    hoped = "reached" if rate[2] >= RIVAL_HOPE else "not reached"
    return [
        f"- throughput over that of {name}: {with_interval(rate)}, target {RIVAL_TARGET}: "
        f"{'met' if rate[2] >= RIVAL_TARGET else 'missed'}; the hope of {RIVAL_HOPE} is {hoped}",
        f"- p99 over that of {name}: {with_interval(tail)}, target {RIVAL_TARGET}: "
        f"{'met' if tail[1] <= RIVAL_TARGET else 'missed'}",
    ]


def _check(name: str, report: Report) -> None:
    """Everything must have been answered, and by the full plan.

    Raises:
        RuntimeError: it was not, so the figure would be of something else.
    """
    others = {kind: count for kind, count in report.counts.items() if kind != "answered" and count}
    if others or (report.share is not None and report.share < 1):
        raise RuntimeError(f"{name}: not everything was answered at full width: {others}, share {report.share}")


def _met(name: str, ratio: Ratio) -> str:
    if name != OURS:
        return ""
    return "met" if ratio[2] >= CEILING_TARGET else "missed"
