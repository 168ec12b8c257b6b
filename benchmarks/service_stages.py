"""Where the server's own time goes: `python benchmarks/service_stages.py`. Three minutes on a quiet machine.

A server in a process of its own notes when each request passes the places of STAGES; requests come one at a time, raw
pixels in and arrays out (service_overhead.py). Variants of the server take turns: as it is; with what was changed put
back; with what was tried and not kept. In one of them the engine answers at once with what it answered before: what
remains then is the server alone, with warm caches.

Prints tables, and keeps them for docs/benchmarks.md unless --quick. uvloop is measured where it is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from method import table
from page import Section, keep
from service_overhead import Wire
from service_process import Served

from slimpath.runtime.imaging.images import load_image
from slimpath.service.loadtest.picture import made_up_photograph

PART = "service_stages"
CHILD = Path(__file__).with_name("service_stages_child.py")
AS_IT_IS, AT_ONCE = "as it is", "the engine answers at once"
#: Names of service_stages_child.VARIANTS, and what they are.
VARIANTS = {
    AS_IT_IS: "",
    "copies": "bodies and answers put together in memory, as they were before",
    "trim": "the heaps give every page back at once, as they did before",
    "check": "asked twice whether it can be in time, though nothing has to be decoded, as before",
    "last": "the event loop is told after the scheduler has put down what it learnt, as before",
    "switch": "threads take turns every 0.5 ms instead of every 5",
    "uvloop": "uvloop as the event loop",
    AT_ONCE: "the server by itself, its caches warm",
}
#: Places that a request passes, in order, and what lies before each.
STAGES = {
    "whole": "the request comes in",
    "handled": "gates and routing",
    "submitted": "reading it",
    "engine": "to the runner's thread",
    "answered": "the engine",
    "told": "back to the event loop",
    "written": "the answer is put together",
    "received": "the answer goes out",
}
WARM_UP = 10


def stages(variant: str, calls: int) -> list[dict[str, float]]:
    """Milliseconds of each stage, call by call."""
    with tempfile.TemporaryDirectory(prefix="slimpath-stages-") as folder:
        kept = Path(folder) / "stamps.json"
        sent_s: list[float] = []
        received_s: list[float] = []
        with Served(program=(str(CHILD), variant, str(kept))) as server:
            wire = Wire(server.url, load_image(made_up_photograph()).rgb)
            for _ in range(WARM_UP + calls):
                sent_s.append(time.perf_counter())
                wire.call()
                received_s.append(time.perf_counter())
            wire.close()
        stamps = [stamp for stamp in json.loads(kept.read_text()) if "written" in stamp]
    found = []
    for sent, received, places in list(zip(sent_s, received_s, stamps))[WARM_UP:]:
        times = [sent, *(places[place] for place in list(STAGES)[:-1]), received]
        found.append({place: (end - start) * 1e3 for place, start, end in zip(STAGES, times, times[1:])})
    return found


def outside(call: dict[str, float]) -> float:
    """Milliseconds of a call that are not the engine's."""
    return sum(value for place, value in call.items() if place != "answered")


def tables(measured: dict[str, list[dict[str, float]]]) -> Section:
    """Medians of the stages, and of what surrounds the engine in each variant."""
    by_stage = [
        [words, *(f"{statistics.median(call[place] for call in measured[name]):.2f}" for name in (AS_IT_IS, AT_ONCE))]
        for place, words in STAGES.items()
    ]
    by_stage.append(["all but the engine", *(f"{_outside(measured[name]):.2f}" for name in (AS_IT_IS, AT_ONCE))])
    variants = [
        [f"{name}: {VARIANTS[name]}" if VARIANTS[name] else name, f"{_outside(calls):.2f}"]
        for name, calls in measured.items()
    ]
    text = (
        table(["stage", f"{AS_IT_IS}, ms", f"{AT_ONCE}, ms"], by_stage)
        + "\n"
        + table(["variant", "around the engine, ms"], variants)
        + f"\nMedians of {len(measured[AS_IT_IS])} requests each, in two turns. The engine's work empties the caches: "
        "what surrounds it takes longer for that (second column).\n"
    )
    return "Around the engine, stage by stage", text, measured


def _outside(calls: list[dict[str, float]]) -> float:
    return statistics.median(outside(call) for call in calls)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few calls, nothing written")
    arguments = parser.parse_args()
    calls, turns = (10, 1) if arguments.quick else (50, 2)
    names = [name for name in VARIANTS if name != "uvloop" or importlib.util.find_spec("uvloop") is not None]
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for turn in range(turns):
        for name in names if turn % 2 == 0 else reversed(names):
            measured[name] += stages(name, calls)
            print(f"{name}: {_outside(measured[name]):.2f} ms", file=sys.stderr, flush=True)
    section = tables(measured)
    print(f"\n{section[0]}\n\n{section[1]}")
    if not arguments.quick:
        keep(PART, [section])


if __name__ == "__main__":
    main()
