"""The server under load: `python benchmarks/service_load.py`. Half an hour on a quiet machine; --quick: some minutes.

    throughput   full width, closed loop, 8 in flight, against what the engine does in this process with nothing around
                 it: the better of one runner with all threads and of a runner per core           target >= 0.92
                 beside it, other servers that are running already: --rival NAME=URL
    overhead     one request at a time, raw pixels and a binary answer, against engine()          target <= 1.5 ms
    overload     bursts, with a deadline of three times the full plan's median, at multiples of the full plan's
                 capacity; the same server pinned to the plan asked for; the same first in, first out, unbounded
                 at 2 x: attainment >= 95 % (or 0.95 x narrowest capacity / offered), goodput >= 1.7 x pinned
                 at 10 x: goodput >= 90 % of its peak; every request is answered

Candidates take turns, in rounds. Generator and server share the machine unless --generator-core says otherwise; how
much CPU time the generator took is in the table. Prints tables, and keeps them for docs/benchmarks.md unless --quick.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import threading
import time
from collections.abc import Callable

import numpy as np
from method import interval, table, with_interval
from page import Section, keep
from service_overload import ANSWER, Effort, closed_loop, overload
from service_process import Served

from slimpath.runtime import Engine
from slimpath.runtime.cpus import usable_cpus
from slimpath.runtime.imaging.images import load_image
from slimpath.runtime.request import Request
from slimpath.service.loadtest.client import Client, read_target
from slimpath.service.loadtest.picture import made_up_photograph
from slimpath.service.loadtest.run import Outcome

CEILING_TARGET, OVERHEAD_TARGET_MS = 0.92, 1.5


FULL, QUICK = Effort(10, 6.0, 60.0, 20.0, 50), Effort(2, 2.0, 8.0, 4.0, 10)


# Throughput and overhead.


def engine_throughput(engine: Engine, runners: int, seconds: float) -> float:
    """Images per second of so many threads that call the engine with a decoded picture."""
    picture = load_image(made_up_photograph()).rgb
    plan = engine.plan(None)
    engine.run_batch([Request(picture, None, plan)])
    counts = [0] * runners
    end_s = time.perf_counter() + seconds

    def work(number: int) -> None:
        while time.perf_counter() < end_s:
            engine.run_batch([Request(picture, None, plan)])
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(runners)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - started)


def throughput(effort: Effort, server: Served, rivals: dict[str, str]) -> tuple[Section, dict[str, float]]:
    """Server and ceilings in turn."""
    cpus = usable_cpus()
    engines = {threads: Engine.load(threads=threads, tier="packed") for threads in {cpus, 1}}
    candidates: dict[str, Callable[[], tuple[float, float | None]]] = {
        f"engine, 1 call of {cpus} threads": lambda: (engine_throughput(engines[cpus], 1, effort.seconds), None),
        f"engine, {cpus} calls of 1 thread": lambda: (engine_throughput(engines[1], cpus, effort.seconds), None),
        "slimpath serve": lambda: _rate_and_p99(closed_loop(server.url, effort.seconds, ANSWER)),
    }
    for name, url in rivals.items():
        candidates[name] = lambda url=url: _rate_and_p99(closed_loop(url, effort.seconds, {}))
    rates: dict[str, list[float]] = {name: [] for name in candidates}
    tails: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(effort.rounds):
        for name, measure in candidates.items():
            rate, p99_ms = measure()
            rates[name].append(rate)
            if p99_ms is not None:
                tails[name].append(p99_ms)
    for engine in engines.values():
        engine.close()
    names = list(candidates)
    ceiling = np.maximum(rates[names[0]], rates[names[1]])
    rows = []
    for name in names:
        ratio = interval(np.array(rates[name]) / ceiling)
        verdict = ("met" if ratio[2] >= CEILING_TARGET else "missed") if name == names[2] else ""
        p99 = f"{statistics.median(tails[name]):.0f}" if tails[name] else ""
        rows.append([name, f"{statistics.median(rates[name]):.2f}", with_interval(ratio), p99, verdict])
    head = ["candidate", "images/s", "of the ceiling", "p99, ms", f"target {CEILING_TARGET}"]
    figures = {"rates": rates, "p99_ms": tails}
    text = table(head, rows) + f"\nAll tasks, JPEG of {len(made_up_photograph()) / 1e3:.0f} kB, arrays as answer.\n"
    found = {"capacity": statistics.median(rates[names[2]])}
    return ("Throughput at full width, 8 in flight", text, figures), found


def _rate_and_p99(outcome: Outcome) -> tuple[float, float]:
    return outcome.report.throughput_per_s, outcome.report.latency_ms.get("p99", float("nan"))


def overhead(effort: Effort, server: Served) -> Section:
    """engine() and the server in turn, one call at a time: /v2 with raw pixels in and raw arrays out."""
    picture = load_image(made_up_photograph()).rgb
    with Engine.load(threads=usable_cpus(), tier="packed") as engine:
        plan = engine.plan(None)
        medians: dict[str, list[float]] = {"engine()": [], "server": []}
        engine(picture, None, plan)
        for _ in range(effort.rounds):
            medians["engine()"].append(_median_ms(lambda: engine(picture, None, plan), effort.calls))
            medians["server"].append(asyncio.run(_binary_calls(server.url, picture, effort.calls)))
        tasks = list(engine.tasks)
    added = interval(np.array(medians["server"]) - np.array(medians["engine()"]))
    verdict = "met" if added[1] <= OVERHEAD_TARGET_MS else "missed"
    rows = [
        ["engine()", f"{statistics.median(medians['engine()']):.2f}", "", ""],
        ["server, one at a time", f"{statistics.median(medians['server']):.2f}", with_interval(added), verdict],
    ]
    head = ["call", "p50, ms", "more than engine(), ms", f"target {OVERHEAD_TARGET_MS} ms"]
    text = table(head, rows) + f"\nRaw pixels of {picture.shape[0]} x {picture.shape[1]}, {len(tasks)} tasks, binary.\n"
    return "What the server adds to one call", text, medians


def _median_ms(call: Callable[[], object], calls: int) -> float:
    samples = []
    for _ in range(calls):
        started = time.perf_counter()
        call()
        samples.append((time.perf_counter() - started) * 1e3)
    return statistics.median(samples)


async def _binary_calls(url: str, picture: np.ndarray, calls: int) -> float:
    """Median ms of Open Inference Protocol requests over one connection."""
    name = json.loads(await _get(url, "/v2/models/stats"))["model_stats"][0]["name"]
    header = json.dumps(
        {
            "inputs": [
                {
                    "name": "image", "datatype": "UINT8", "shape": [1, *picture.shape],
                    "parameters": {"binary_data_size": picture.nbytes},
                }
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()  # fmt: skip
    lines = f"Content-Type: application/octet-stream\r\nInference-Header-Content-Length: {len(header)}\r\n".encode()
    client = Client(read_target(f"{url}/v2/models/{name}/infer"))
    body = header + picture.tobytes()
    samples = []
    try:
        for number in range(calls + 3):
            started = time.perf_counter()
            answer = await client.post(lambda: "", lines, body)
            if answer.status != 200:
                raise RuntimeError(f"/v2 answered {answer.status}: {answer.body[:300]!r}")
            if number >= 3:
                samples.append((time.perf_counter() - started) * 1e3)
    finally:
        client.close()
        await asyncio.sleep(0)
    return statistics.median(samples)


async def _get(url: str, path: str) -> bytes:
    target = read_target(url)
    reader, writer = await asyncio.open_connection(target.host, target.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {target.authority}\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer.partition(b"\r\n\r\n")[2]


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short runs, nothing written")
    parser.add_argument("--only", choices=("throughput", "overhead", "overload"), help="one part; nothing written")
    parser.add_argument("--rival", action="append", default=[], metavar="NAME=URL",
                        help="a server that runs already and takes the same JPEG as the body of a POST")  # fmt: skip
    parser.add_argument("--runners", type=int, help="of the server, with the cores over them as threads")
    parser.add_argument("--burstiness", type=float, default=2.0, metavar="CV2", help="of the overload's gaps")
    parser.add_argument("--generator-core", type=int, metavar="N", help="keep the generator to this core")
    arguments = parser.parse_args()
    effort = QUICK if arguments.quick else FULL
    flags = [] if arguments.runners is None else ["--runners", str(arguments.runners)]
    everything = sorted(os.sched_getaffinity(0))
    sections: list[Section] = []
    if arguments.only in (None, "throughput", "overhead"):
        with Served(*flags) as server:
            if arguments.only != "overhead":
                rivals = dict(rival.split("=", 1) for rival in arguments.rival)
                sections.append(throughput(effort, server, rivals)[0])
            if arguments.only != "throughput":
                sections.append(overhead(effort, server))
    if arguments.only in (None, "overload"):
        if arguments.generator_core is not None:
            os.sched_setaffinity(0, {arguments.generator_core})
        sections.append(overload(effort, arguments, flags))
        os.sched_setaffinity(0, everything)
    for title, text, _ in sections:
        print(f"\n{title}\n\n{text}")
    if not arguments.quick and arguments.only is None:
        keep("service_load", sections)


if __name__ == "__main__":
    main()
