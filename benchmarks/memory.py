"""How much memory configurations take: `python benchmarks/memory.py`. Linux.

    a   every configuration loaded, all mapped, against the widest alone, mapped        target <= 1.15
        and again with that as the engine's memory limit: sessions that do not fit are dropped and loaded again
    b   what each packed configuration adds, against its bytes of weights               target <= 1.1
    c   every task answers in a control group with room for graphs, arenas, and 60 % of the weights file

Every figure comes from a process of its own: PSS less PSS after imports, each configuration run once at batch 1 on the
same 8 photographs. The bundle is copied first, so that no other process shares its pages. `--variants` measures (a)
again with the session options that were tried on the way. Prints tables, and keeps them for docs/benchmarks.md
unless --quick. The limit of (c) needs the right to make a control group; without it (c) says so.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from graphs import photographs, small_bundle
from memory_group import Group
from method import table
from page import Section, keep

from slimpath.runtime import Bundle, Engine
from slimpath.runtime.backends.base import Tier
from slimpath.runtime.backends.ort import OrtBackend
from slimpath.runtime.bundles.bundled import bundled_path
from slimpath.runtime.footprint.memory import PAGE_BYTES, release_free_memory, touched_pages
from slimpath.runtime.footprint.memory_model import process_mb
from slimpath.runtime.imaging.preprocess import preprocess

SHARE = 0.6  # of the weights file, under the limit of (c)

# What was tried for (a), each against the session options as they are ({}).
VARIANTS: dict[str, dict[str, Any]] = {
    "ONNX Runtime's defaults (an arena per session)": {"own_arena": True, "plan": True, "level": "ORT_ENABLE_ALL"},
    "no arena": {"no_arena": True, "plan": True, "level": "ORT_ENABLE_ALL"},
    "one arena for all": {"plan": True, "level": "ORT_ENABLE_ALL"},
    "+ no plans of buffers": {"level": "ORT_ENABLE_ALL"},
    "+ no rearranged convolutions (as it is)": {},
}


class VariantBackend(OrtBackend):
    """ONNX Runtime with some session options changed."""

    def __init__(self, changes: dict[str, Any]) -> None:
        super().__init__()
        self._changes = changes

    def _cpu_options(self, ort: Any, folder: Path, tier: Tier) -> Any:
        options = super()._cpu_options(ort, folder, tier)
        if self._changes.get("own_arena") or self._changes.get("no_arena"):
            options.add_session_config_entry("session.use_env_allocators", "0")
        options.enable_cpu_mem_arena = not self._changes.get("no_arena", False)
        options.enable_mem_pattern = options.enable_mem_reuse = self._changes.get("plan", False)
        if level := self._changes.get("level"):
            options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
        return options


# --- what the measured processes do -------------------------------------------------------------------------------

TITLES = {
    "a": "every configuration mapped, against the widest alone",
    "a, under a limit of 1.15": "every configuration, under a limit of 1.15 of the widest alone",
    "b": "what each packed configuration adds",
    "tasks": "resident bytes of each task's path",
    "c": "a process limit of graphs, arenas and 60 % of the weights",
}


def import_libraries(bundle: Bundle) -> list[np.ndarray]:
    """What is there before anything is measured: every import, and the pictures, which it gives."""
    pictures = photographs()
    smallest = min(bundle.manifest.graphs, key=lambda graph: graph.weight_bytes)
    OrtBackend().load(bundle.graph_bytes(smallest), bundle.path, tier="mapped").close()
    preprocess(pictures[0], bundle.manifest.sizes[0], bundle.manifest.preprocessing)
    return pictures


def held_mb(weights: Path) -> dict[str, float]:
    """PSS as it were if no other process ran (their share of the libraries' pages comes and goes), and of it what no
    file backs. Of the weights each page counts once, however many sessions map it."""
    release_free_memory()
    anonymous = files = 0
    ours = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, _, rest = line.partition(" ")
        if not name.endswith(":"):
            ours = line.endswith(str(weights))
        elif name == "Anonymous:":
            anonymous += int(rest.split()[0])
            files -= 0 if ours else int(rest.split()[0])
        elif name == "Rss:" and not ours:
            files += int(rest.split()[0])
    of_weights = float(touched_pages(weights).sum()) * PAGE_BYTES
    return {"pss": ((anonymous + files) * 1024 + of_weights) / 1e6, "anonymous": anonymous * 1024 / 1e6}


def run_widths(engine: Engine, widths: list[float], pictures: list[np.ndarray]) -> None:
    """Each task alone at each width, on each picture."""
    for width in sorted(widths, reverse=True):
        for task in engine.tasks:
            for picture in pictures:
                engine(picture, [task], f"width={width}")


def measure_mapped(bundle: Bundle, argument: str) -> dict[str, Any]:
    """The widest configuration, or all of them, mapped."""
    which, _, variant = argument.partition(":")
    pictures, before = import_libraries(bundle), held_mb(bundle.weights.path)
    widths = list(bundle.manifest.widths)
    engine = Engine(bundle, VariantBackend(VARIANTS[variant] if variant else {}), tier="mapped")
    run_widths(engine, widths[-1:] if which == "widest" else widths, pictures)
    after = held_mb(bundle.weights.path)
    report = engine.memory()
    return {
        **{name: after[name] - before[name] for name in after},
        "graphs": len(report.sessions),
        "expected": report.expected_mb,
        "weights_resident": report.weights_resident_mb,
        "tasks": {task: path.resident_mb for task, path in report.tasks.items()},
    }


def measure_packed(bundle: Bundle, _: str) -> dict[str, Any]:
    """What packing each configuration adds to all of them mapped: of one width, encoder and heads."""
    picture = import_libraries(bundle)[0]
    engine = Engine(bundle, OrtBackend(), tier="auto")
    for width in bundle.manifest.widths:
        engine(picture, None, f"width={width}")  # once: what is used more often is packed by itself
    added: dict[str, Any] = {}
    for width in bundle.manifest.widths:
        graphs = [graph for graph in bundle.manifest.graphs if graph.width == width]
        before = held_mb(bundle.weights.path)
        for graph in graphs:
            engine.session(graph)
        engine(picture, None, f"width={width}")
        after = held_mb(bundle.weights.path)
        weights_mb = sum(graph.weight_bytes for graph in graphs) / 1e6
        added[f"{width:g}"] = {**{name: after[name] - before[name] for name in after}, "weights": weights_mb}
    return added


def measure_parked(bundle: Bundle, extra_mb: str) -> dict[str, Any]:
    """All configurations in `extra_mb` above the imports: sessions that were not used lately are dropped, and loaded
    again when they are asked for. Peak over two rounds, and what the first answer after a switch takes longer."""
    pictures, before = import_libraries(bundle), held_mb(bundle.weights.path)
    limit_mb = process_mb() + float(extra_mb)
    engine = Engine(bundle, OrtBackend(), tier="mapped", memory_limit_mb=limit_mb)
    most_mb, longer_ms = 0.0, []
    for _ in range(2):
        for width in bundle.manifest.widths:
            for task in engine.tasks:
                budget = engine.plan([task], f"width={width}")  # as a plan: not lowered
                times = [engine(picture, None, budget).timings_ms["total"] for picture in pictures]
                longer_ms.append(times[0] - float(np.median(times[1:])))
            most_mb = max(most_mb, held_mb(bundle.weights.path)["pss"] - before["pss"])
    return {"pss": most_mb, "longer_ms": longer_ms, "graphs": len(engine.sessions)}


def measure_task(bundle: Bundle, task: str) -> dict[str, Any]:
    """What is resident of the weights after one task alone, at full width, mapped."""
    engine = Engine(bundle, OrtBackend(), tier="mapped")
    for picture in photographs():
        engine(picture, [task])
    path = engine.memory().tasks[task]
    return {"path": path.path_mb, "resident": path.resident_mb, "experts": path.experts_resident}


def measure_limited(bundle: Bundle, argument: str) -> dict[str, Any]:
    """Every task in a control group with `extra` MB above what the process holds after its imports."""
    name, extra_mb = argument.split(":")
    pictures = import_libraries(bundle)
    group = Group(name)
    group.enter()
    limit_mb = process_mb() + float(extra_mb)
    group.limit(group.usage() + int(float(extra_mb) * 1e6))
    engine = Engine(bundle, OrtBackend(), tier="auto", memory_limit_mb=limit_mb)
    answers: dict[str, Any] = {}
    for task in engine.tasks:
        results = [engine(picture, [task]) for picture in pictures]
        answers[task] = {
            "plan": str(results[-1].plan),
            "width": results[-1].plan.encoder_width,
            "finite": all(bool(np.isfinite(result[task]).all()) for result in results),
            "ms": [result.timings_ms["total"] for result in results],
        }
    return {
        "limit": limit_mb,
        "peak_in_group": group.peak() / 1e6,
        "group_limit": group.most() / 1e6,
        "answers": answers,
        "after": held_mb(bundle.weights.path),
        "report": str(engine.memory()),
    }


MEASURES: dict[str, Callable[[Bundle, str], dict[str, Any]]] = {
    "mapped": measure_mapped,
    "parked": measure_parked,
    "packed": measure_packed,
    "task": measure_task,
    "limited": measure_limited,
}


# --- what the first process does ----------------------------------------------------------------------------------


def measure(what: str, bundle: Path, argument: str = "") -> dict[str, Any]:
    """The answer of a process of its own."""
    command = [sys.executable, __file__, "--bundle", str(bundle), "--measure", what, "--argument", argument]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{what} {argument} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def own_copy(bundle: Path, folder: Path) -> Path:
    """A copy whose pages nobody else has mapped, and that is not in the page cache."""
    copied = Path(shutil.copytree(bundle, folder / bundle.name))
    weights = copied / Bundle.open(copied).manifest.weights.file
    with weights.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return copied


def part_a(bundle: Path, variants: list[str]) -> tuple[str, dict[str, Any]]:
    rows, raw = [], {}
    for variant in variants:
        widest, every = (measure("mapped", bundle, f"{which}:{variant}") for which in ("widest", "all"))
        raw[variant or "as it is"] = {"widest": widest, "all": every}
        ratio = every["pss"] / widest["pss"]
        cells = [f"{part[name]:.1f}" for part in (widest, every) for name in ("pss", "anonymous")]
        rows.append([variant or "as it is", *cells, f"{ratio:.2f}", "met" if ratio <= 1.15 else "missed"])
    head = ["options", "widest, MB", "of it anonymous", "all, MB", "of it anonymous", "all / widest", "<= 1.15"]
    return table(head, rows), raw


def part_parked(bundle: Path, widest_mb: float) -> tuple[str, dict[str, Any]]:
    raw = measure("parked", bundle, str(1.15 * widest_mb))
    ratio, longer = raw["pss"] / widest_mb, raw["longer_ms"]
    cells = [f"{raw['pss']:.1f}", f"{ratio:.2f}", f"{raw['graphs']}", f"{np.median(longer):.0f}", f"{max(longer):.0f}"]
    head = ["at most, MB", "at most / widest", "graphs loaded", "first answer longer by, ms", "at most, ms"]
    return table(head, [cells]), raw


def part_b(bundle: Path) -> tuple[str, dict[str, Any]]:
    raw = measure("packed", bundle)
    rows = []
    for width, found in raw.items():
        # Its former mapping goes, and with it the pages that no wider one has mapped: the private copy is what counts.
        ratio = found["anonymous"] / found["weights"]
        cells = [f"{found[name]:.1f}" for name in ("weights", "pss", "anonymous")]
        rows.append([width, *cells, f"{ratio:.2f}", "met" if ratio <= 1.1 else "missed"])
    head = [
        "width (encoder, all heads)",
        "weights, MB",
        "added in all, MB",
        "private, MB",
        "private / weights",
        "<= 1.1",
    ]
    return table(head, rows), raw


def part_c(bundle: Path, every: dict[str, Any], folder: Path) -> tuple[str, dict[str, Any]]:
    weights_mb = Bundle.open(bundle).manifest.weights.bytes / 1e6
    extra_mb = every["anonymous"] + SHARE * weights_mb
    name = f"slimpath-memory-{os.getpid()}"
    if not Group.available():
        return "Not enforced here: no memory control group can be made.\n", {}
    try:
        fresh = own_copy(bundle, folder / "limited")
        raw = measure("limited", fresh, f"{name}:{extra_mb}")
    finally:
        Group(name).remove()
    rows = [
        [task, f"{found['width']:g}", f"{np.median(found['ms']):.0f}", f"{max(found['ms']):.0f}", str(found["finite"])]
        for task, found in raw["answers"].items()
    ]
    text = table(["task", "encoder width", "median, ms", "longest, ms", "finite"], rows)
    text += (
        f"\nWeights file {weights_mb:.0f} MB; room for graphs and arenas {every['anonymous']:.0f} MB + "
        f"{SHARE:.0%} of the weights file; limit of the group {raw['group_limit']:.0f} MB, most used "
        f"{raw['peak_in_group']:.0f} MB.\n"
    )
    return text, raw


def part_tasks(bundle: Path) -> tuple[str, dict[str, Any]]:
    raw = {task: measure("task", bundle, task) for task in Bundle.open(bundle).manifest.task_names}
    rows = [
        [task, f"{found['path']:.1f}", f"{found['resident']:.1f}", str(found["experts"])] for task, found in raw.items()
    ]
    return table(["task, alone", "its path, MB", "resident of it, MB", "experts resident"], rows), raw


def main() -> None:
    """Measure everything and report; or, in a process of its own, one part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=None, help="only this bundle")
    parser.add_argument("--small", type=Path, default=None, help="m3vit_small with random weights; exported if missing")
    parser.add_argument("--variants", action="store_true", help="also the session options that were tried for (a)")
    parser.add_argument("--quick", action="store_true", help="the bundled model alone, nothing written")
    parser.add_argument("--measure", choices=tuple(MEASURES), help=argparse.SUPPRESS)
    parser.add_argument("--argument", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(MEASURES[arguments.measure](Bundle.open(arguments.bundle), arguments.argument)))
        return
    with tempfile.TemporaryDirectory(prefix="slimpath-memory-") as name:
        folder = Path(name)
        found: list[Section] = []
        bundles = [arguments.bundle] if arguments.bundle else [bundled_path()]
        if not (arguments.bundle or arguments.quick):
            bundles.append(small_bundle(arguments.small or folder / "m3vit_small").path)
        for path in bundles:
            copied = own_copy(path, folder / "copies")
            variants = list(VARIANTS) if arguments.variants else [""]
            text_a, raw_a = part_a(copied, variants)
            every = list(raw_a.values())[-1]["all"]
            parts = {"a": (text_a, raw_a), "b": part_b(copied), "tasks": part_tasks(copied)}
            parts["a, under a limit of 1.15"] = part_parked(copied, list(raw_a.values())[-1]["widest"]["pss"])
            parts["c"] = part_c(copied, every, folder)
            for part, (text, raw) in parts.items():
                found.append((f"`{Bundle.open(path).manifest.name}`: {TITLES[part]}", text, raw))
                print(f"\n### {path.name}: {part}\n\n{text}", flush=True)
    if not arguments.quick:
        keep("memory", found)


if __name__ == "__main__":
    main()
