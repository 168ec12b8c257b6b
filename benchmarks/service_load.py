"""The server under load: `python benchmarks/service_load.py`. Half an hour on a quiet machine; --quick: some minutes.

    throughput   full width, closed loop, 8 in flight, against what the engine does in this process with nothing around
                 it: the better of one runner with all threads and of a runner per core           target >= 0.92
                 (the server as it is, and with a runner per core: that one is judged)
                 LitServe with the same model, started by this script: --litserve PYTHON (rival_litserve.py)
                 at throughput >= 1.0 x and p99 <= 1.0 x of it; others that are running already: --rival NAME=URL
    overhead     one request at a time, raw pixels and a binary answer, against engine()          target <= 1.5 ms
    overload     bursts, with a deadline of three times the full plan's median, at multiples of the full plan's
                 capacity; the same server pinned to the plan asked for; the same first in, first out, unbounded
                 at 2 x: attainment >= 95 % (or 0.95 x narrowest capacity / offered), goodput >= 1.7 x pinned
                 at 10 x: goodput >= 90 % of its peak; every request is answered

Candidates take turns, in rounds. Generator and server share the machine unless --generator-core says otherwise; how
much CPU time the generator took is in the table. Prints tables, and keeps them for docs/benchmarks.md unless --quick;
--only measures one part and keeps the other two as they were.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
from method import interval, table, with_interval
from page import Section, keep_beside
from rival_litserve import LitServed, answered_arrays, best_settings, check_same, version
from service_overload import ANSWER, Effort, overload
from service_process import Served
from service_throughput import throughput

from slimpath.runtime import Engine
from slimpath.runtime.cpus import usable_cpus
from slimpath.runtime.imaging.images import load_image
from slimpath.service.loadtest.client import Client, read_target
from slimpath.service.loadtest.picture import made_up_photograph

PART, OVERHEAD_TARGET_MS = "service_load", 1.5
FULL, QUICK = Effort(10, 6.0, 60.0, 20.0, 50), Effort(2, 2.0, 8.0, 4.0, 10)


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


def _throughput(effort: Effort, server: Served, arguments: argparse.Namespace) -> Section:
    rivals = dict(rival.split("=", 1) for rival in arguments.rival)
    per_core = Served("--runners", str(usable_cpus()))
    if arguments.litserve is None:
        with per_core:
            return throughput(effort, server, per_core, rivals)
    settings = best_settings()
    with per_core, LitServed(arguments.litserve, settings) as litserve:
        query = "&".join(f"{name}={value}" for name, value in ANSWER.items())
        check_same(answered_arrays(f"{server.url}/v1/infer", query), answered_arrays(litserve.url))
        notes = f"{version(arguments.litserve)} answers with the same arrays; its settings: {settings}."
        return throughput(effort, server, per_core, {"LitServe": litserve.url, **rivals}, notes)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short runs, nothing written")
    parser.add_argument("--only", choices=("throughput", "overhead", "overload"), help="one part")
    parser.add_argument("--rival", action="append", default=[], metavar="NAME=URL",
                        help="a server that runs already and takes the same JPEG as the body of a POST")  # fmt: skip
    parser.add_argument("--litserve", metavar="PYTHON", help="interpreter of an environment that has LitServe")
    parser.add_argument(
        "--runners", type=int, help="of the overloaded servers and of overhead, the cores over them as threads"
    )
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
                sections.append(_throughput(effort, server, arguments))
            if arguments.only != "throughput":
                sections.append(overhead(effort, server))
    if arguments.only in (None, "overload"):
        if arguments.generator_core is not None:
            os.sched_setaffinity(0, {arguments.generator_core})
        sections.append(overload(effort, arguments, flags))
        os.sched_setaffinity(0, everything)
    for title, text, _ in sections:
        print(f"\n{title}\n\n{text}")
    if not arguments.quick:
        keep_beside(PART, sections, ("Throughput", "adds", "Overload"))


if __name__ == "__main__":
    main()
