"""What more tasks cost an encoder with low-rank adapters: `python benchmarks/mtlora_tasks.py --write`.

1. MTLoRA in its published size (Swin-T, shared adapters of rank 64, a task's own of rank 4, 448 x 448, four tasks), at
   every width, in turn on one picture: one task, one task again (A/A: how good the method is), all tasks in one call,
   all tasks in a call each. The target is at most 1.3 for all in one call.
2. The same at half width, for every way of computing the branches that was tried (`mtlora_ways.py`).
3. ViTs at 224 x 224 and full width, one task and four: `m3vit_small` without and with adapters (`m3lora_small`), and
   `vit_small` with the last four blocks adapted, inline and in branches.

Weights are random: speed does not depend on them. `--write` puts the tables into docs/adapters.md, `--quick` sees that
it works.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from graphs import encoder_feeds, load, runner
from method import Timing, in_turn, machine, table, verdict, with_interval
from mtlora_ways import WAYS, exported_as
from page import command, put_figures

from slimpath.export import export_model
from slimpath.models import HeadConfig, build_preset
from slimpath.runtime import Bundle

ROOT = Path(__file__).resolve().parent.parent
PAGE, RAW = ROOT / "docs" / "adapters.md", ROOT / "docs" / "measured" / "mtlora_tasks.json"
TARGET = 1.3
TASKS = (
    HeadConfig("semseg", "classes", 21),
    HeadConfig("human_parts", "classes", 7),
    HeadConfig("normals", "normals", 3),
    HeadConfig("saliency", "probability", 1),
)
Repeats = dict[str, list[float]]

_LAST_FOUR: dict[str, Any] = {"adapter_blocks": (8, 9, 10, 11), "adapter_rank": 4, "adapter_scale": 4.0}
_LAST_FOUR |= {"adapter_on": ("proj", "fc1", "fc2"), "shared_rank": 16, "shared_scale": 4.0}
#: What the last table compares: preset and settings.
VITS: dict[str, tuple[str, dict[str, Any]]] = {
    "m3vit_small": ("m3vit_small", {}),
    "m3lora_small": ("m3lora_small", {}),
    "vit_small, last four blocks inline": ("vit_small", _LAST_FOUR),
    "vit_small, last four blocks in branches": ("vit_small", {**_LAST_FOUR, "adapter_mode": "branch"}),
}


def bundle_of(folder: Path, preset: str, widths: list[float], **settings: Any) -> Bundle:
    """A network with random weights, exported to `folder` unless it is there."""
    if not folder.exists():
        torch.manual_seed(0)
        model = build_preset(preset, TASKS, **settings)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith(".up") and ("adapters." in name or "shared" in name):  # they begin at 0
                    parameter.normal_(std=0.02)
        export_model(model, {}, folder, widths=widths, check=False, name=preset)
    return Bundle.open(folder)


def measure(bundle: Bundle, width: float, repeats: int, runs: int) -> Repeats:
    """Median milliseconds of every repeat, by candidate."""
    names = list(bundle.manifest.task_names)
    session = load(bundle, "encoder", width)
    graph = bundle.graph("encoder", bundle.manifest.sizes[0], width)
    alone = [runner(session, encoder_feeds(bundle, [name], graph=graph)) for name in names]
    together = runner(session, encoder_feeds(bundle, names, graph=graph))
    candidates = {"one": alone[0], "again": alone[0], "all": together, "apart": lambda: [call() for call in alone]}
    return dict(in_turn(candidates, repeats=repeats, runs=runs, warm_up=2).repeats_ms)


def rows_of(found: dict[str, Repeats]) -> list[list[str]]:
    """A row for each: times, then ratios to one task."""
    rows = []
    for name, repeats_ms in found.items():
        timing = Timing(repeats_ms)
        times = [f"{timing.median_ms(candidate):.1f}" for candidate in ("one", "all", "apart")]
        rows.append([name, *times, *(with_interval(timing.ratio(other, "one")) for other in ("all", "apart", "again"))])
    return rows


def widths_table(found: dict[str, Repeats]) -> str:
    """MTLoRA's table, with the verdicts."""
    head = ["width", "one task, ms", "four in one call, ms", "four calls, ms", "four in one call / one"]
    verdicts = [verdict(Timing(repeats_ms).ratio("all", "one"), TARGET) for repeats_ms in found.values()]
    rows = [[*row, met] for row, met in zip(rows_of(found), verdicts, strict=True)]
    return table([*head, "four calls / one", "one / one (A/A)", f"target {TARGET}"], rows)


def ways_table(found: dict[str, Repeats]) -> str:
    """The table of what was tried."""
    head = ["how", "one task, ms", "four in one call, ms", "four calls, ms", "four in one call / one"]
    return table([*head, "four calls / one", "one / one (A/A)"], rows_of(found))


def vits_table(found: dict[str, Repeats], costs: dict[str, dict[str, float]]) -> str:
    """The ViTs' table; FLOPs, and numbers that a task has for itself in the encoder, are counted, not measured."""
    head = ["encoder", "one task, ms", "four in one call, ms", "four calls, ms", "four in one call / one"]
    rows = [
        [*row, f"{costs[row[0]]['ratio']:.2f}", f"{costs[row[0]]['one'] / 1e9:.2f}", f"{costs[row[0]]['own']:,.0f}"]
        for row in rows_of(found)
    ]
    counted = ["FLOPs, four / one", "GFLOPs, one", "own numbers"]
    return table([*head, "four calls / one", "one / one (A/A)", *counted], rows)


def cost_of(bundle: Bundle) -> dict[str, float]:
    """FLOPs of one task, their ratio for all, and the numbers of a task's own adapters."""
    graph, tasks = bundle.graph("encoder", bundle.manifest.sizes[0], 1.0), len(bundle.manifest.tasks)
    cost, adapters = graph.cost, next(iter(bundle.manifest.encoder.adapters.values()), ())
    row = cost.flops_row + bundle.manifest.encoder.top_k * cost.flops_row_per_expert
    one, every = cost.flops_image + row, cost.flops_image + tasks * row
    return {"one": one, "ratio": every / one, "own": sum(bundle.tensor(name).size for name in adapters)}


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", default="1,0.75,0.5,0.25", help="of MTLoRA")
    parser.add_argument("--side", type=int, default=448, help="pixels of a side of MTLoRA's picture")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--runs", type=int, default=5, help="calls of each candidate in a repeat; four times for ViTs")
    parser.add_argument("--folder", type=Path, default=None, help="where the bundles are kept between calls")
    parser.add_argument("--only", choices=("widths", "ways", "vits"), default=None, help="one table; not written")
    parser.add_argument("--quick", action="store_true", help="two repeats of two runs, nothing written")
    parser.add_argument("--write", action="store_true", help="write the tables into docs/adapters.md")
    arguments = parser.parse_args()
    repeats, runs = (2, 2) if arguments.quick else (arguments.repeats, arguments.runs)
    widths = [float(width) for width in arguments.widths.split(",")]
    mtlora: dict[str, Repeats] = {}
    ways: dict[str, Repeats] = {}
    vits: dict[str, Repeats] = {}
    costs: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="slimpath-mtlora-") as temporary:
        folder, side = arguments.folder or Path(temporary), arguments.side
        ranks = {"shared_ranks": (64,) * 4, "task_ranks": (4,) * 4, "image_hw": (side, side)}
        if arguments.only in (None, "widths"):
            bundle = bundle_of(folder / f"mtlora_tiny-{side}", "mtlora_tiny", widths, **ranks)
            for width in widths:
                mtlora[f"{width:g}"] = measure(bundle, width, repeats, runs)
            print(widths_table(mtlora), flush=True)
        for number, way in enumerate(WAYS) if arguments.only in (None, "ways") else ():
            with exported_as(way):
                bundle = bundle_of(folder / f"mtlora_tiny-{side}-way{number}", "mtlora_tiny", [1.0, 0.5], **ranks)
            ways[way] = measure(bundle, 0.5, repeats, runs)
        if ways:
            print(ways_table(ways), flush=True)
        for name, (preset, settings) in VITS.items() if arguments.only in (None, "vits") else ():
            bundle = bundle_of(folder / name.replace(" ", "_").replace(",", ""), preset, [1.0], **settings)
            vits[name], costs[name] = measure(bundle, 1.0, repeats, 4 * runs), cost_of(bundle)
        if vits:
            print(vits_table(vits, costs), flush=True)
    if arguments.write and not arguments.quick and arguments.only is None:
        figures = {"side": side, "widths": mtlora, "ways": ways, "vits": vits, "costs": costs}
        keep(figures, f"{repeats} repeats of {runs} runs ({4 * runs} for the ViTs)")


def keep(figures: dict[str, Any], how: str) -> None:
    """Write the page's tables and the raw figures."""
    facts = machine()
    lines = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    parts = [
        f"`{command()}`: the encoder's graph alone, packed tier, {how}; medians, "
        "ratios with 95 % intervals over the repeats.",
        f"### MTLoRA, Swin-T, r = 64, {figures['side']} pixels\n\n{widths_table(figures['widths'])}".rstrip(),
        f"### Ways to compute the branches, width 0.5\n\n{ways_table(figures['ways'])}".rstrip(),
        f"### ViTs, 224 x 224, full width\n\n{vits_table(figures['vits'], figures['costs'])}".rstrip(),
        lines,
    ]
    put_figures(PAGE, Path(__file__).name, "\n\n".join(parts))
    RAW.write_text(json.dumps({"machine": facts, **figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
