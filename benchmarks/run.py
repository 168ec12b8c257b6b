"""The encoder by itself: `python benchmarks/run.py` measures, and keeps its tables for docs/benchmarks.md.

`--quick` does a tenth of the repeats (to see that it works); the tables in the repository come from the full run.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from graphs import encoder_feeds, load, random_bundle, runner, small_bundle
from method import in_turn, interval, table, verdict, with_interval
from page import Section, keep

from slimpath.runtime import Bundle, Engine
from slimpath.runtime.bundles.bundled import bundled_path


def widths(bundle: Bundle, repeats: int, runs: int) -> Section:
    """Encoder latency of every width against its FLOPs, and the noise of the method (A/A)."""
    manifest, task = bundle.manifest, bundle.manifest.task_names[:1]
    feeds = encoder_feeds(bundle, list(task))
    names = {f"{width:g}": width for width in manifest.widths}
    calls = {name: runner(load(bundle, "encoder", width), feeds) for name, width in names.items()}
    calls["1 again"] = runner(load(bundle, "encoder", 1.0), feeds)
    timing = in_turn(calls, repeats=repeats, runs=runs)
    rows, top_k = [], manifest.encoder.top_k
    costs = {graph.width: graph.cost for graph in manifest.graphs if graph.kind == "encoder"}
    full = costs[1.0].flops_image + costs[1.0].flops_row + top_k * costs[1.0].flops_row_per_expert
    for name in calls:
        cost = costs[names.get(name, 1.0)]
        flops = cost.flops_image + cost.flops_row + top_k * cost.flops_row_per_expert
        ratio = with_interval(timing.ratio(name, "1"))
        rows.append([name, f"{timing.median_ms(name):.2f}", ratio, f"{flops / 1e9:.3f}", f"{flops / full:.2f}"])
    text = table(["encoder width", "ms", "latency / full", "GFLOPs", "FLOPs / full"], rows)
    return "Latency of each width against its FLOPs (one task, packed)", text, {"ms": dict(timing.repeats_ms)}


def tasks(bundle: Bundle, repeats: int, runs: int) -> Section:
    """One task against all tasks, encoder alone and whole engine."""
    every = list(bundle.manifest.task_names)
    session = load(bundle, "encoder", 1.0)
    one, together = encoder_feeds(bundle, every[:1]), encoder_feeds(bundle, every)
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    engine = Engine.load(bundle)
    calls: dict[str, Callable[[], object]] = {
        "encoder, one task": runner(session, one),
        "encoder, all tasks in one call": runner(session, together),
        "engine, one task": lambda: engine(image, tasks=every[:1]),
        "engine, all tasks in one call": lambda: engine(image),
    }
    timing = in_turn(calls, repeats=repeats, runs=max(3, runs // 2))
    count = len(every)
    rows = []
    for part in ("encoder", "engine"):
        ratio = timing.ratio(f"{part}, all tasks in one call", f"{part}, one task")
        share = (ratio[0] / count, ratio[1] / count, ratio[2] / count)
        ms = [timing.median_ms(f"{part}, one task"), timing.median_ms(f"{part}, all tasks in one call")]
        rows.append([part, f"{ms[0]:.2f}", f"{ms[1]:.2f}", with_interval(ratio), with_interval(share)])
    head = ["part", "one task, ms", f"all {count} tasks, ms", "all / one", f"all / ({count} x one)"]
    return (
        "One task against all tasks (one image; engine from a 480 x 640 array)",
        table(head, rows),
        {"ms": dict(timing.repeats_ms)},
    )


def mixed(bundle: Bundle, repeats: int, runs: int) -> Section:
    """A batch of images with a task each, all different, against the same images with one task for all."""
    every, rows, raw = list(bundle.manifest.task_names), [], {}
    for width in (min(bundle.manifest.widths), 1.0):
        session = load(bundle, "encoder", width)
        calls = {
            "mixed": runner(session, encoder_feeds(bundle, every, copies=True)),
            **{task: runner(session, encoder_feeds(bundle, [task] * len(every), copies=True)) for task in every},
        }
        timing = in_turn(calls, repeats=repeats, runs=max(3, runs // 5))
        raw[f"{width:g}"] = dict(timing.repeats_ms)
        alike = np.mean([timing.repeats_ms[task] for task in every], axis=0)  # of each repeat
        ratio = interval(np.array(timing.repeats_ms["mixed"]) / alike)
        ms = [f"{timing.median_ms('mixed'):.1f}", f"{np.median(alike):.1f}"]
        rows.append([f"{width:g}", *ms, with_interval(ratio), verdict(ratio, 1.05)])
    head = ["encoder width", "mixed, ms", "alike, ms", "mixed / alike", "<= 1.05"]
    return (
        f"`{bundle.manifest.name}`: a batch of {len(every)} images of different tasks against as many of one (encoder)",
        table(head, rows),
        raw,
    )


def experts(presets: list[tuple[str, str]], repeats: int, runs: int) -> Section:
    """Mixture-of-experts encoder against the dense one of the same active FLOPs."""
    rows, raw = [], {}
    for sparse, dense in presets:
        bundles = {name: random_bundle(name) for name in (sparse, dense)}
        calls = {
            name: runner(load(bundle, "encoder", 1.0), encoder_feeds(bundle, ["depth"]))
            for name, bundle in bundles.items()
        }
        timing = in_turn(calls, repeats=repeats, runs=runs)
        raw[sparse] = dict(timing.repeats_ms)
        ms = [f"{timing.median_ms(name):.1f}" for name in (sparse, dense)]
        rows.append([f"`{sparse}`", f"`{dense}`", *ms, with_interval(timing.ratio(sparse, dense))])
    head = ["MoE", "dense", "MoE, ms", "dense, ms", "MoE / dense"]
    return "MoE against dense encoder (full width, one task, random weights)", table(head, rows), raw


def prefix(bundle: Bundle, repeats: int, runs: int) -> Section:
    """The shared prefix: one image with a row per task against one copy of the image per row."""
    every, rows, raw = list(bundle.manifest.task_names), [], {}
    for width in (min(bundle.manifest.widths), 1.0):
        session = load(bundle, "encoder", width)
        calls = {
            "on": runner(session, encoder_feeds(bundle, every)),
            "off": runner(session, encoder_feeds(bundle, every, copies=True)),
        }
        timing = in_turn(calls, repeats=repeats, runs=max(3, runs // 2))
        raw[f"{width:g}"] = dict(timing.repeats_ms)
        cost = next(g.cost for g in bundle.manifest.graphs if g.kind == "encoder" and g.width == width)
        row_flops = cost.flops_row + bundle.manifest.encoder.top_k * cost.flops_row_per_expert
        count = len(every)
        expected = (cost.flops_image + count * row_flops) / (count * (cost.flops_image + row_flops))
        ms = [f"{timing.median_ms(name):.1f}" for name in ("on", "off")]
        rows.append([f"{width:g}", *ms, with_interval(timing.ratio("on", "off")), f"{expected:.2f}"])
    head = ["encoder width", "on, ms", "off, ms", "on / off", "FLOPs on / off"]
    return f"Shared prefix on against off ({len(every)} tasks of one image, encoder)", table(head, rows), raw


def loading(bundle: Bundle, repeats: int) -> Section:
    """Load time of each graph, files in the page cache, both tiers."""
    rows, raw = [], {}
    for graph in bundle.manifest.graphs:
        figures = []
        for tier in ("mapped", "packed"):
            samples = []
            for _ in range(repeats + 1):
                started = time.perf_counter()
                session = load(bundle, graph.kind, graph.width, graph.task, tier=tier)
                samples.append((time.perf_counter() - started) * 1e3)
                session.close()
            figures.append(float(np.median(samples[1:])))
        raw[graph.file] = figures
        sizes = [f"{graph.bytes / 1e3:.0f}", f"{graph.weight_bytes / 1e6:.2f}"]
        rows.append([f"`{graph.file}`", *sizes, *(f"{figure:.1f}" for figure in figures)])
    head = ["graph", "graph kB", "weights MB", "load mapped, ms", "load packed, ms"]
    return "Load time of each graph", table(head, rows), raw


def main() -> None:
    """Measure everything and write the documents."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=None, help="a bundle; the bundled model by default")
    parser.add_argument("--small", type=Path, help="m3vit_small with random weights; exported if missing")
    parser.add_argument("--quick", action="store_true", help="few repeats, nothing written")
    arguments = parser.parse_args()
    repeats, runs = (2, 5) if arguments.quick else (10, 50)
    bundle = Bundle.open(arguments.bundle or bundled_path())
    scratch = tempfile.TemporaryDirectory(prefix="slimpath-bench-")
    small = small_bundle(arguments.small or Path(scratch.name) / "m3vit_small")
    presets = [("m3vit_nano", "vit_nano"), ("m3vit_small", "vit_small")]
    measures: list[Callable[[], Section]] = [
        lambda: widths(bundle, repeats, runs),
        lambda: tasks(bundle, repeats, runs),
        lambda: prefix(bundle, repeats, runs),
        lambda: mixed(bundle, repeats, runs),
        lambda: mixed(small, repeats, runs),
        lambda: experts(presets, repeats, runs),
        lambda: loading(bundle, 2 if arguments.quick else 5),
    ]
    sections = []
    for measure in measures:
        sections.append(measure())
        print(f"\n## {sections[-1][0]}\n\n{sections[-1][1]}", flush=True)
    if not arguments.quick:
        keep("encoder", sections)


if __name__ == "__main__":
    main()
