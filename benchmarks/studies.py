"""Small studies of the training methods: `python benchmarks/studies.py --cache DIR` writes docs/studies.md.

At most 24 trainings of at most 3 CPU minutes each, over seeds: distillation of features (CI-KD), the sandwich rule,
M3ViT against a dense ViT and against one network per task, ways to balance tasks; and, without training, other top_k
than that of the training, and which experts tasks use. A call that was interrupted goes on where it stopped if it has
a `--cache`; `--so-far` writes what there is until then, and `--page` writes the page anew from what it was made from.
`--quick` sees that everything works: one seed, few steps, nothing written.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from method import machine
from page import command, put_figures
from studies_heat import draw
from studies_runs import NETWORK, Plan, all_runs, done, found_so_far, progress, trivial
from studies_tables import page_text

from slimpath.training.files import write_json

ROOT = Path(__file__).resolve().parent.parent
PAGE, RAW = ROOT / "docs" / "studies.md", ROOT / "docs" / "measured" / "studies.json"
PICTURE = ROOT / "docs" / "images" / "experts-heat.png"
QUICK = Plan(seeds=1, steps=2, pictures=2, training=8, testing=4)


def measure(plan: Plan, cache: Path) -> dict[str, Any]:
    """The raw document of all runs."""
    runs = all_runs(plan)
    found = []
    for number, run in enumerate(runs):
        progress(number, runs)
        found.append(done(run, cache))
    return document(plan, found, trivial(plan, cache))


def document(plan: Plan, found: Sequence[Mapping[str, Any]], nothing: Mapping[str, float]) -> dict[str, Any]:
    """The raw document: every run with its figures, how its settings differ from those of the first, and what else the
    page says."""
    common = flat(found[0]["settings"])
    runs = []
    for run in found:
        settings = flat(run["settings"])
        changes = {name: value for name, value in settings.items() if common[name] != value}
        kept = {name: value for name, value in run.items() if name not in ("settings", "network")}
        runs.append({**kept, "changes": changes})
    return {
        "command": command(),
        "date": time.strftime("%Y-%m-%d"),
        "threads": torch.get_num_threads(),
        "machine": machine(),
        "plan": asdict(plan),
        "network": NETWORK,
        "common": common,
        "trivial": dict(nothing),
        "runs": runs,
    }


def flat(settings: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Settings by dotted name; of the stages there is one."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        inner = value[0] if name == "stages" else value
        found |= flat(inner, f"{above}{name}.") if isinstance(inner, Mapping) else {f"{above}{name}": inner}
    return found


def write(measured: Mapping[str, Any]) -> None:
    """The page's figures and its picture."""
    put_figures(PAGE, Path(__file__).name, page_text(measured))
    draw(measured["runs"], PICTURE)


def main() -> None:
    """Train, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=None, help="folder of rooms and of runs that are done")
    parser.add_argument("--page", action="store_true", help="write the page from docs/measured/studies.json")
    parser.add_argument("--so-far", action="store_true", help="write what the cache has, train nothing")
    parser.add_argument("--quick", action="store_true", help="one seed, few steps, nothing written")
    arguments = parser.parse_args()
    if arguments.page:
        return write(json.loads(RAW.read_text(encoding="utf-8")))
    torch.set_num_threads(1)
    if arguments.so_far and not arguments.cache:
        raise SystemExit("--so-far reads what an interrupted call has left: give its --cache")
    with tempfile.TemporaryDirectory(prefix="slimpath-studies-") as folder:
        cache = arguments.cache or Path(folder)
        cache.mkdir(parents=True, exist_ok=True)
        plan = QUICK if arguments.quick else Plan()
        if arguments.so_far:
            found = found_so_far(all_runs(plan), cache)
            if not found:
                raise SystemExit("no seed has all its runs yet; leave --so-far out")
            measured = document(plan, found, trivial(plan, cache))
        else:
            measured = measure(plan, cache)
    print(page_text(measured))
    if not arguments.quick:
        write_json(RAW, measured)
        write(json.loads(RAW.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
