"""What expert paths are worth: `python benchmarks/experts.py` measures, and writes the figures in docs/experts.md.

1. How many experts each coverage keeps for each task of a bundle, their bytes, and the latency of its encoder.
2. What that costs in accuracy (`--scenes`; 0 leaves it out).
3. The latency of a larger encoder with fewer and fewer experts within reach.
4. That a task does not touch the experts of another, in a model whose experts are larger than the whole process.

`--quick` sees that it works: few repeats, nothing written.
"""

from __future__ import annotations

import argparse
import itertools
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from graphs import load, random_bundle
from method import in_turn, machine, table, with_interval
from page import put_figures

from slimpath.cli.calibration import load_calibration
from slimpath.export import Calibration, export_model
from slimpath.export.coverage import ExpertUse, choose_experts, watch_routers
from slimpath.export.reload import model_from_bundle
from slimpath.models import HeadConfig, build_preset
from slimpath.runtime import Bundle
from slimpath.runtime.bundles.bundled import bundled_path
from slimpath.runtime.footprint.residency import WeightMap
from slimpath.runtime.imaging.preprocess import preprocess
from slimpath.runtime.running.routing import Routers
from slimpath.training.evaluate import evaluate_bundle

ROOT = Path(__file__).resolve().parent.parent
PAGE, RAW = ROOT / "docs" / "experts.md", ROOT / "docs" / "experts.json"
COVERAGES = (1.0, 0.99, 0.9, 0.8)
Section = tuple[str, str, object]  # title, table and words, raw figures


def reach(bundle: Bundle, calibration: Calibration, repeats: int, runs: int) -> Section:
    """Experts kept, their bytes, and the encoder's latency, for each task and coverage. Full width, packed tier."""
    model, _ = model_from_bundle(bundle)
    manifest = bundle.manifest
    sizes, widths = manifest.sizes[:1], manifest.widths
    used = watch_routers(model, calibration.images, manifest.preprocessing, sizes=sizes, widths=widths)
    planes = [preprocess(image, sizes[0], manifest.preprocessing)[0][None] for image in calibration.images[:8]]
    session, weights = load(bundle, "encoder", 1.0), WeightMap(bundle)
    expert_bytes = sum(length for ranges in weights.experts.values() for _, length in ranges) / len(weights.experts)
    rows, raw = [], {}
    for task in manifest.task_names:
        kept = {f"{coverage:g}": _kept(used[task], coverage, manifest.encoder.top_k) for coverage in COVERAGES}
        calls = {name: _call(session.run, bundle, task, planes, blocks) for name, blocks in kept.items()}
        timing = in_turn(calls, repeats=repeats, runs=runs)
        raw[task] = {"kept": kept, "ms": dict(timing.repeats_ms)}
        for name, blocks in kept.items():
            counts = [len(block) for block in blocks]
            spread = f"{np.mean(counts):.1f} ({min(counts)} to {max(counts)})"
            cells = [f"{sum(counts) * expert_bytes / 1e6:.1f}", f"{timing.median_ms(name):.2f}"]
            rows.append([task, name, spread, *cells, with_interval(timing.ratio(name, "1"))])
    head = ["task", "coverage", f"experts a block, of {manifest.encoder.experts}", "their MB", "encoder, ms"]
    words = f"\nRouter mass measured on {len(calibration.images)} pictures ({calibration.source}).\n"
    return "What a coverage keeps, and the encoder's latency", table([*head, "latency / all"], rows) + words, raw


def _kept(use: ExpertUse, coverage: float, top_k: int) -> list[tuple[int, ...]]:
    levels = range(use.mass_SLE.shape[1])
    return [
        choose_experts(use.mass_SLE[:, level], use.probability_SLE[:, level], coverage, top_k).kept for level in levels
    ]


def _call(
    run: Callable[..., object], bundle: Bundle, task: str, planes: list[np.ndarray], kept: list[tuple[int, ...]]
) -> Callable[[], object]:
    """One run of the encoder on the next picture, the task's router confined to the experts kept."""
    router, bias = Routers(bundle).stack([task])
    bias = bias.copy()
    for level, experts in enumerate(kept):
        bias[0, level, np.setdiff1d(np.arange(bias.shape[2]), experts)] = -np.inf
    shared = {"image_index": np.zeros(1, np.int64), "router": router, "router_bias": bias}
    shared["top_k"] = np.full(1, bundle.manifest.encoder.top_k, np.int64)
    turns = itertools.cycle(planes)
    return lambda: run({"image": next(turns), **shared})


def accuracy(bundle: Bundle, calibration: Calibration, scenes: int, work: Path, rooms: Path) -> Section:
    """Each task's metric with and without the experts that a coverage leaves out, at full width."""
    model, metadata = model_from_bundle(bundle)
    rows, raw = [], {}
    for coverage in COVERAGES[1:]:
        out = work / f"coverage-{coverage:g}"
        export_model(model, metadata, out, widths=[1.0], check=False, calibration=calibration, expert_coverage=coverage)
        report = evaluate_bundle(out, scenes=scenes, cache=rooms)
        raw[f"{coverage:g}"] = report.to_json()["rows"]
        for row in report.rows:
            every, gain = row.all_experts, row.paths_gain
            cells = ["", ""] if every is None or gain is None else [f"{every.value:.4g}", with_interval3(gain)]
            metric = f"{row.metric} {'↑' if row.higher_is_better else '↓'}"
            rows.append([row.configuration.task, metric, f"{coverage:g}", f"{row.accuracy.value:.4g}", *cells])
    rows.sort(key=lambda row: bundle.manifest.task_names.index(row[0]))
    head = ["task", "metric", "coverage", "value", "with all experts", "gain over all experts"]
    words = f"\n{scenes} held-out rooms, intervals paired, 95 %.\n"
    return "What it costs in accuracy", table(head, rows) + words, raw


def with_interval3(interval: object) -> str:
    """A difference with its sign and interval."""
    value, low, high = (getattr(interval, name) for name in ("value", "low", "high"))
    return f"{value:+.3g} ({low:+.3g} to {high:+.3g})"


def fewer_experts(repeats: int, runs: int) -> Section:
    """Encoder of `m3vit_small`, one task, random weights: how its latency falls with the experts within reach."""
    bundle = random_bundle("m3vit_small")
    encoder = bundle.manifest.encoder
    height, width = bundle.manifest.sizes[0]
    noise = np.random.default_rng(0).standard_normal((8, 1, 3, height, width), dtype=np.float32)
    rows, raw = [], {}
    for tier in ("packed", "mapped"):
        session = load(bundle, "encoder", 1.0, tier=tier)
        kept = {str(count): [tuple(range(count))] * len(encoder.moe_blocks) for count in (16, 12, 8, 4)}
        calls = {name: _call(session.run, bundle, "depth", list(noise), blocks) for name, blocks in kept.items()}
        timing = in_turn(calls, repeats=repeats, runs=runs)
        raw[tier] = dict(timing.repeats_ms)
        for name in calls:
            rows.append([tier, name, f"{timing.median_ms(name):.1f}", with_interval(timing.ratio(name, "16"))])
    head = ["tier", f"experts a block, of {encoder.experts}", "encoder, ms", "latency / all"]
    return "A larger encoder (`m3vit_small`, random weights, top-4)", table(head, rows), raw


def untouched(work: Path, hidden: int) -> Section:
    """`untouched.py` on `m3vit_small` with larger experts, two tasks that favour different ones."""
    bundle = disjoint_bundle(work / "disjoint", hidden)
    script = [sys.executable, str(Path(__file__).with_name("untouched.py")), str(bundle.path), "depth"]
    done = subprocess.run(script, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    needs, touched = found["tasks"]["depth"], found["touched"]
    killed = subprocess.run([*script, "--then", "edge"], capture_output=True, text=True).returncode
    if killed != -signal.SIGSEGV:
        raise SystemExit(f"the other task should have died of what was forbidden, but ended with {killed}")
    figures = {
        "all experts": found["all_experts"],
        "experts that `depth` can reach": needs["experts"],
        "all weights that `depth` needs": needs["total"],
        "weights mapped after the first run": touched["total"],
        "of them experts that it cannot reach (the kernel maps around what is read)": touched["foreign"],
        "made unreadable before the other runs": found["forbidden"],
        "peak of the whole process": found["peak_bytes"],
    }
    rows = [[name, f"{count / 1e6:.1f}"] for name, count in figures.items()]
    words = f"\n`m3vit_small` with {hidden} hidden units an expert, random weights, mapped tier. A process that then "
    words += "runs `edge`, whose experts are unreadable, dies (SIGSEGV).\n"
    return "What a task touches", table(["what", "MB"], rows) + words, figures


def disjoint_bundle(out: Path, hidden: int) -> Bundle:
    """Random weights; the routers of `depth` favour the first experts, those of `edge` the last."""
    torch.manual_seed(0)
    heads = (HeadConfig("depth", "depth", 1), HeadConfig("edge", "probability", 1))
    model = build_preset("m3vit_small", heads, expert_hidden=hidden).eval()
    with torch.no_grad():
        for name, favoured in (("depth", slice(0, 4)), ("edge", slice(-4, None))):
            for bias in model.routers[name].bias:  # type: ignore[union-attr]
                bias.normal_(std=0.02)
                bias[favoured] += 30.0
        for name, parameter in model.named_parameters():
            if "bias" in name and ".experts." in name:
                parameter.normal_(std=0.02)  # equal tensors would be stored once, and be everybody's
    noise = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    export_model(
        model, {}, out, widths=[1.0], check=False, calibration=Calibration(list(noise), "noise"), expert_coverage=0.99
    )
    return Bundle.open(out)


def main() -> None:
    """Measure everything and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=None, help="the bundled model by default")
    parser.add_argument("--rooms", type=int, default=64, help="rendered rooms to watch the routers on")
    parser.add_argument("--scenes", type=int, default=300, help="held-out rooms for the accuracy; 0 leaves it out")
    parser.add_argument("--cache", type=Path, default=None, help="folder of rendered rooms, as `slimpath eval` has it")
    parser.add_argument("--quick", action="store_true", help="few repeats, nothing written")
    arguments = parser.parse_args()
    bundle = Bundle.open(arguments.bundle or bundled_path())
    if any(router.paths and router.paths.open_biases for router in bundle.manifest.encoder.routers.values()):
        raise SystemExit("this bundle is confined already; name one that was exported without --expert-coverage")
    repeats, runs = (2, 5) if arguments.quick else (10, 50)
    rooms = load_calibration(f"rooms:{arguments.rooms}")
    calibration = Calibration(list(rooms.images), rooms.source)  # rendered once
    with tempfile.TemporaryDirectory(prefix="slimpath-experts-") as folder:
        work = Path(folder)
        measures: list[Callable[[], Section]] = [lambda: reach(bundle, calibration, repeats, runs)]
        if arguments.scenes:
            rooms_folder = arguments.cache or work / "rooms"
            measures.append(lambda: accuracy(bundle, calibration, arguments.scenes, work, rooms_folder))
        measures.append(lambda: fewer_experts(repeats, max(5, runs // 3)))
        measures.append(lambda: untouched(work, 256 if arguments.quick else 1536))
        parts, raw = [], {}
        for measure in measures:
            title, text, figures = measure()
            print(f"\n### {title}\n\n{text}", flush=True)
            parts.append(f"### {title}\n\n{text}")
            raw[title] = figures
    if arguments.quick:
        return
    facts = machine()
    lines = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    text = f"Model: `{bundle.manifest.name}`.\n\n{lines}\n\n" + "\n".join(parts)
    put_figures(PAGE, Path(__file__).name, text)
    RAW.write_text(json.dumps({"machine": facts, "figures": raw}, indent=1) + "\n")


if __name__ == "__main__":
    main()
