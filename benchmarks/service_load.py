"""The server under load: `python benchmarks/service_load.py`. Half an hour on a quiet machine; --quick: some minutes.

    throughput   full width, closed loop, 8 in flight, against what the engine does in this process with nothing around
                 it: the better of one runner with all threads and of a runner per core           target >= 0.92
                 (the server as it is, and with a runner per core: that one is judged)
                 LitServe with the same model, started by this script: --litserve PYTHON (rival_litserve.py)
                 at throughput >= 1.0 x and p99 <= 1.0 x of it; others that are running already: --rival NAME=URL
    overhead     one request at a time, raw pixels and a binary answer, against engine()          target <= 1.5 ms
    overload     (the server as it is, and with a runner per core)
                 bursts, with a deadline of three times the full plan's median, at multiples of the full plan's
                 capacity; the same server pinned to the plan asked for; the same first in, first out, unbounded
                 at 2 x: attainment >= 95 % (or 0.95 x narrowest capacity / offered), goodput >= 1.7 x pinned
                 at 10 x: goodput >= 90 % of its peak; every request is answered
    attempts     other settings of the server at 2 x, half a minute each

Candidates take turns, in rounds. Generator and server share the machine unless --generator-core says otherwise; how
much CPU time the generator took is in the table. Prints tables, and keeps them for docs/benchmarks.md unless --quick;
--only measures one part and keeps the others as they were.
"""

from __future__ import annotations

import argparse
import os

from page import Section, keep_beside
from rival_litserve import LitServed, answered_arrays, best_settings, check_same, version
from service_overhead import overhead
from service_overload import ANSWER, Effort, attempts, overload
from service_process import Served
from service_throughput import throughput

from slimpath.runtime.cpus import usable_cpus

PART = "service_load"
ORDER = ("Throughput", "adds", "a runner per core", "Overload in bursts", "tried")
FULL, QUICK = Effort(10, 6.0, 60.0, 20.0, 30), Effort(2, 2.0, 8.0, 4.0, 3)


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
    parser.add_argument("--only", choices=("throughput", "overhead", "overload", "attempts"), help="one part")
    parser.add_argument("--rival", action="append", default=[], metavar="NAME=URL",
                        help="a server that runs already and takes the same JPEG as the body of a POST")  # fmt: skip
    parser.add_argument("--litserve", metavar="PYTHON", help="interpreter of an environment that has LitServe")
    parser.add_argument("--runners", type=int, help="overload: of this one server only (1: as it is)")
    parser.add_argument("--burstiness", type=float, default=2.0, metavar="CV2", help="of the overload's gaps")
    parser.add_argument("--generator-core", type=int, metavar="N", help="keep the generator to this core")
    arguments = parser.parse_args()
    effort = QUICK if arguments.quick else FULL
    everything = sorted(os.sched_getaffinity(0))
    sections: list[Section] = []
    if arguments.only in (None, "throughput", "overhead"):
        with Served() as server:
            if arguments.only != "overhead":
                sections.append(_throughput(effort, server, arguments))
            if arguments.only != "throughput":
                sections.append(overhead(effort.turns, server))
    if arguments.only in (None, "overload"):
        if arguments.generator_core is not None:
            os.sched_setaffinity(0, {arguments.generator_core})
        for runners in (1, usable_cpus()) if arguments.runners is None else (arguments.runners,):
            sections.append(overload(effort, arguments, runners))
        os.sched_setaffinity(0, everything)
    if arguments.only in (None, "attempts"):
        sections.append(attempts(effort, arguments))
    for title, text, _ in sections:
        print(f"\n{title}\n\n{text}")
    if not arguments.quick:
        keep_beside(PART, sections, ORDER)


if __name__ == "__main__":
    main()
