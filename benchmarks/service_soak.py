"""Whether the server stays as it is: `python benchmarks/service_soak.py`. Half an hour; --quick: a few minutes.

    soak     20 minutes of Poisson at 70 % of the full plan's capacity: the slope of its memory with a 95 % interval
             (bootstrap over blocks of a minute: neighbouring samples are alike), file descriptors, latencies
             target: the interval holds 0, or its upper end is under 1 MB/h; no more descriptors than at the start
    cycles   1,000 times unload and load a model over HTTP: memory at the end against that after the first 20, each
             time after the unloading, and after the loading and a request
             target: within 5 %; no more descriptors

Prints tables, and keeps them for docs/benchmarks.md unless --quick.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import threading
import time
from dataclasses import dataclass, field

import numpy as np
from method import table
from page import Section, keep_beside
from service_process import Served

from slimpath.service.loadtest.client import Client, read_target
from slimpath.service.loadtest.picture import made_up_photograph
from slimpath.service.loadtest.run import Closed, run_load
from slimpath.service.loadtest.sending import Load
from slimpath.service.loadtest.traces import make_trace

SHARE_OF_CAPACITY = 0.7
SAMPLE_EVERY_S = 2.0
BLOCK_S = 60.0
SETTLE_SHARE = 0.1  # of the soak, left out: arenas grow to what the load needs
FLAT_MB_PER_H = 1.0
SETTLED_CYCLES = 20
CYCLES_TARGET = 0.05
FULL_PLAN_ALONE = ("--warm", "full", "--no-degrade", "--max-batch", "1")
ANSWER = {"format": "npy", "response": "zip"}


@dataclass
class Watch:
    """Samples a server's memory and descriptors while something else happens."""

    server: Served
    times_s: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)

    def __enter__(self) -> Watch:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._started = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_EVERY_S):
            self.times_s.append(time.monotonic() - self._started)
            self.memory_mb.append(self.server.resident_mb())
            self.files.append(self.server.open_files())


def slope_mb_per_h(times_s: list[float], memory_mb: list[float], block_s: float) -> tuple[float, float, float]:
    """Least squares, and its 95 % interval by bootstrap over residuals in blocks."""
    times, values = np.asarray(times_s), np.asarray(memory_mb)
    slope, intercept = np.polyfit(times, values, 1)
    residuals = values - (slope * times + intercept)
    per_block = max(1, int(block_s / max(np.median(np.diff(times)), 1e-9)))
    blocks = [residuals[start : start + per_block] for start in range(0, len(residuals), per_block)]
    rng = np.random.default_rng(0)
    slopes = []
    for _ in range(2000):
        drawn = np.concatenate([blocks[place] for place in rng.integers(0, len(blocks), len(blocks) + 1)])
        slopes.append(np.polyfit(times, slope * times + intercept + np.resize(drawn, len(times)), 1)[0])
    low, high = np.percentile(slopes, [2.5, 97.5])
    return slope * 3600, float(low) * 3600, float(high) * 3600


def soak(minutes: float) -> Section:
    """Poisson at 70 %."""
    load = Load([made_up_photograph()], content_type="image/jpeg", options=ANSWER)
    with Served() as server:
        target = read_target(server.url)
        capacity = asyncio.run(run_load(target, load, Closed(8, min(15.0, minutes * 6)))).report.throughput_per_s
        trace = make_trace("poisson", SHARE_OF_CAPACITY * capacity, minutes * 60)
        with Watch(server) as watch:
            outcome = asyncio.run(run_load(target, load, trace, connections=200))
        exit_code = server.exit_code
    first = int(len(watch.times_s) * SETTLE_SHARE)
    slope = slope_mb_per_h(watch.times_s[first:], watch.memory_mb[first:], min(BLOCK_S, minutes * 6))
    report = outcome.report
    flat = slope[1] <= 0 <= slope[2] or slope[2] <= FLAT_MB_PER_H
    steady_files = max(watch.files[-10:]) <= max(watch.files[first : first + 20]) + 2
    half = len(outcome.samples) // 2
    medians = [
        float(np.median([s.latency_s for s in part if s.kind == "answered"])) * 1e3
        for part in (outcome.samples[:half], outcome.samples[half:])
    ]
    rows = [
        ["requests", f"{report.offered} at {report.offered_per_s:.2f}/s", ""],
        ["not answered", str(report.offered - report.counts["answered"]), ""],
        ["memory at the start and at the end", f"{watch.memory_mb[first]:.1f} and {watch.memory_mb[-1]:.1f} MB", ""],
        ["its slope", f"{slope[0]:.2f} ({slope[1]:.2f} to {slope[2]:.2f}) MB/h", "met" if flat else "missed"],
        ["file descriptors", f"{watch.files[first]} and {watch.files[-1]}", "met" if steady_files else "missed"],
        ["median latency, first and second half", f"{medians[0]:.1f} and {medians[1]:.1f} ms", ""],
        ["p99", f"{report.latency_ms['p99']:.1f} ms", ""],
        ["the server", "still runs" if exit_code is None else f"ended with {exit_code}", ""],
    ]
    figures = {"times_s": watch.times_s, "memory_mb": watch.memory_mb, "files": watch.files, **report.to_json()}
    title = f"{minutes:g} minutes at {SHARE_OF_CAPACITY:.0%} of the capacity"
    return title, table(["figure", "value", "verdict"], rows), figures


def cycles(count: int) -> Section:
    """Unload and load over HTTP, one request in between.

    Of the full plan alone: to load and measure all of them takes seconds each time.
    """
    with Served("--admin", *FULL_PLAN_ALONE) as server:
        unloaded_mb, memory_mb, files = asyncio.run(_cycle(server, count))
    settled = min(SETTLED_CYCLES, count // 2)
    steady = max(files[-10:]) <= max(files[settled : settled + 10]) + 2
    rows = [
        _growth("nothing loaded", unloaded_mb, settled),
        _growth("loaded, one request answered", memory_mb, settled),
        ["file descriptors", f"{files[settled]} and {files[-1]}", "", "met" if steady else "missed"],
    ]
    text = (
        table(["memory", "after the first cycles, at the end", "growth", "verdict"], rows)
        + f"\n`{' '.join(FULL_PLAN_ALONE)}`: one plan is loaded and measured.\n"
    )
    figures = {"unloaded_mb": unloaded_mb, "memory_mb": memory_mb, "files": files}
    return f"{count} times unloaded and loaded", text, figures


def _growth(state: str, memory_mb: list[float], settled: int) -> list[str]:
    """A row: medians of ten cycles."""
    before, after = np.median(memory_mb[settled : settled + 10]), np.median(memory_mb[-10:])
    growth = float(after / before - 1)
    verdict = "met" if growth <= CYCLES_TARGET else "missed"
    return [state, f"{before:.1f} and {after:.1f} MB", f"{100 * growth:.1f} %", verdict]


async def _cycle(server: Served, count: int) -> tuple[list[float], list[float], list[int]]:
    """Memory without and with the model, and descriptors, of every cycle."""
    unloaded_mb: list[float] = []
    memory_mb: list[float] = []
    files: list[int] = []
    name = json.loads(await _post(server, "/v2/repository/index", b"{}"))[0]["name"]
    for number in range(count):
        await _post(server, f"/v2/repository/models/{name}/unload", b"{}")
        unloaded_mb.append(server.resident_mb())
        await _post(server, f"/v2/repository/models/{name}/load", b"{}")
        await _post(server, "/v1/infer?tasks=depth&response=raw", made_up_photograph(), kind="image/jpeg")
        memory_mb.append(server.resident_mb())
        files.append(server.open_files())
        if number % 50 == 49:
            now_mb = f"{unloaded_mb[-1]:.1f} and {memory_mb[-1]:.1f} MB"
            print(f"{number + 1} of {count}: {now_mb}", file=sys.stderr, flush=True)
    return unloaded_mb, memory_mb, files


async def _post(server: Served, path: str, body: bytes, kind: str = "application/json") -> bytes:
    client = Client(read_target(f"{server.url}{path}"))
    try:
        answer = await client.post(lambda: "", f"Content-Type: {kind}\r\nConnection: close\r\n".encode(), body)
    finally:
        client.close()
        await asyncio.sleep(0)
    if answer.status != 200:
        raise RuntimeError(f"{path} answered {answer.status}: {answer.body[:300]!r}")
    return answer.body


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short, nothing written")
    parser.add_argument("--minutes", type=float, default=20.0, help="of the soak")
    parser.add_argument("--cycles", type=int, default=1000)
    parser.add_argument("--only", choices=("soak", "cycles"), help="one of them; the other stays as it was kept")
    arguments = parser.parse_args()
    minutes, count = (0.5, 6) if arguments.quick else (arguments.minutes, arguments.cycles)
    parts = {"soak": lambda: soak(minutes), "cycles": lambda: cycles(count)}
    sections = [measure() for name, measure in parts.items() if arguments.only in (None, name)]
    for title, text, _ in sections:
        print(f"\n{title}\n\n{text}")
    if not arguments.quick:
        keep_beside("service_soak", sections, ("minutes", "times"))


if __name__ == "__main__":
    main()
