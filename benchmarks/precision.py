"""What int8 is worth: `python benchmarks/precision.py`. ONNX Runtime on the CPU, random weights.

    latency   encoders of `m3vit_small` and `vit_small` in fp32 and int8, packed and mapped, 1 and 4 images
    tax       the MoE against the dense encoder of the same active FLOPs, both in one precision     target 1.2 in int8
    memory    bytes of weights, and what one encoder adds to a process
    attempts  other ways to compute the same, against the one that `slimpath export --precision int8` writes
    profile   where the time of the two int8 encoders goes, by operator

Prints tables, and keeps them for docs/benchmarks.md unless --quick. Accuracy is for `slimpath eval --precision all`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from graphs import by_operator, encoder_feeds
from method import in_turn, table, with_interval
from page import Section, keep

from slimpath.export import export_model
from slimpath.export.int8 import int8_weights, of_widest
from slimpath.export.int8_graph import DOMAIN, to_int8
from slimpath.models import HeadConfig, build_preset
from slimpath.runtime import Bundle
from slimpath.runtime.backends.base import Tier
from slimpath.runtime.backends.ort import OrtBackend
from slimpath.runtime.bundles.manifest import GraphSpec
from slimpath.runtime.footprint.memory import release_free_memory
from slimpath.runtime.footprint.memory_model import process_mb

MOE, DENSE = "m3vit_small", "vit_small"
PRECISIONS = ("fp32", "int8")
TIERS: tuple[Tier, ...] = ("packed", "mapped")
BATCH = 4
Call = Callable[[], object]


def bundles(folder: Path) -> dict[str, Bundle]:
    """Full width, both precisions; exported unless the folder has them."""
    heads = (HeadConfig("depth", "depth", 1), HeadConfig("edge", "probability", 1))
    for name in (MOE, DENSE):
        if not (folder / name).exists():
            torch.manual_seed(0)
            export_model(build_preset(name, heads), {}, folder / name, widths=[1.0], check=False, int8=True, name=name)
    return {name: Bundle.open(folder / name) for name in (MOE, DENSE)}


def graph_of(bundle: Bundle, precision: str) -> GraphSpec:
    return bundle.graph("encoder", bundle.manifest.sizes[0], 1.0, precision=precision)


def call_of(bundle: Bundle, precision: str, tier: Tier = "packed", images: int = 1) -> Call:
    """One encoder call, a row for each image."""
    session = OrtBackend().load(bundle.graph_bytes(graph_of(bundle, precision)), bundle.path, tier=tier)
    feeds = encoder_feeds(bundle, [bundle.manifest.task_names[i % 2] for i in range(images)], copies=True)
    return lambda: session.run(feeds)


def latency(models: dict[str, Bundle], repeats: int, runs: int) -> list[Section]:
    """int8 against fp32, and the MoE tax of each."""
    rows, tax, raw = [], [], {}
    for tier in TIERS:
        for images in (1, BATCH):
            calls = {f"{m} {p}": call_of(models[m], p, tier, images) for m in models for p in PRECISIONS}
            timing = in_turn(calls, repeats=repeats, runs=max(5, runs // images))
            for name in models:
                fp32, int8 = (f"{name} {p}" for p in PRECISIONS)
                times = [f"{timing.median_ms(which):.1f}" for which in (fp32, int8)]
                rows.append([f"`{name}`", tier, str(images), *times, with_interval(timing.ratio(int8, fp32))])
            ratios = [timing.ratio(f"{MOE} {p}", f"{DENSE} {p}") for p in PRECISIONS]
            tax.append([tier, str(images), *map(with_interval, ratios)])
            raw[f"{tier}, {images}"] = {
                "ms": dict(timing.repeats_ms),
                "tax": dict(zip(PRECISIONS, ratios, strict=True)),
            }
    head = ["encoder", "tier", "images", "fp32, ms", "int8, ms", "int8 / fp32"]
    words = f"\n`{MOE}` / `{DENSE}`, the same active FLOPs, each pair quantised the same way. Target: 1.2 in int8.\n"
    return [
        ("int8 against fp32", table(head, rows), raw),
        ("The MoE tax by precision", table(["tier", "images", *PRECISIONS], tax) + words, {}),
    ]


def memory(models: dict[str, Bundle]) -> Section:
    """Bytes of weights, and what a process holds more after it loaded and ran one encoder."""
    rows, raw = [], {}
    for name, bundle in models.items():
        for precision in PRECISIONS:
            graph = graph_of(bundle, precision)
            command = [sys.executable, __file__, "--one", str(bundle.path), precision]
            held = [float(subprocess.check_output([*command, tier], text=True)) for tier in TIERS]
            rows.append([f"`{name}`", precision, f"{graph.weight_bytes / 1e6:.1f}", *(f"{mb:.1f}" for mb in held)])
            raw[f"{name} {precision}"] = {"weights": graph.weight_bytes, **dict(zip(TIERS, held, strict=True))}
    head = ["encoder", "precision", "weights, MB", *(f"{tier}, MB" for tier in TIERS)]
    return "Memory of one encoder", table(head, rows) + "\nPSS over that after imports, one image.\n", raw


def one(bundle: Bundle, precision: str, tier: Tier) -> float:
    """MB that this process holds more once an encoder ran."""
    import onnxruntime  # noqa: F401  what the library takes by itself is not counted

    feeds = encoder_feeds(bundle, ["depth"])
    before = process_mb()
    graph = graph_of(bundle, precision)
    session = OrtBackend().load(bundle.graph_bytes(graph), bundle.path, tier=tier)
    session.run(feeds)
    release_free_memory()
    return process_mb() - before


def attempts(models: dict[str, Bundle], folder: Path, repeats: int, runs: int) -> Section:
    """The same encoder in other ways."""
    bundle = models[MOE]
    feeds = encoder_feeds(bundle, ["depth"])
    made: dict[str, Callable[[ir.Model], None]] = {
        "experts alone in int8": lambda model: rewritten(model, lambda name: ".experts." in name),
        "all but the experts in int8": lambda model: rewritten(model, lambda name: ".experts." not in name),
        "up-projections as transposed copies (MatMulIntegerToFloat)": transposed,
        "hidden units of all experts quantised together": together,
    }
    calls: dict[str, Call] = {"fp32": call_of(bundle, "fp32"), "as exported": call_of(bundle, "int8")}
    for number, (name, change) in enumerate(made.items()):
        model = ir.load(str(bundle.path / graph_of(bundle, "fp32").file))
        change(model)
        path = folder / f"attempt-{number}.onnx"
        ir.save(model, str(path), external_data=f"{path.name}.data", size_threshold_bytes=256)
        session = OrtBackend().load(path.read_bytes(), folder)
        calls[name] = lambda session=session: session.run(feeds)
    timing = in_turn(calls, repeats=repeats, runs=runs)
    rows = [[name, f"{timing.median_ms(name):.1f}", with_interval(timing.ratio(name, "as exported"))] for name in calls]
    text = table([f"`{MOE}`, packed, 1 image", "ms", "/ as exported"], rows)
    return "Other ways to the same", text, dict(timing.repeats_ms)


def rewritten(model: ir.Model, wanted: Callable[[str], bool]) -> None:
    """In int8: the products whose names are wanted."""
    tensors = {
        name: torch.from_numpy(np.array(value.const_value.numpy()))
        for name, value in model.graph.initializers.items()
        if value.const_value is not None
    }
    found = {name: weight for name, weight in int8_weights(tensors).items() if wanted(name)}
    to_int8(model, of_widest(found))


def transposed(model: ir.Model) -> None:
    """[in, out] for every product: its bias inside the operator, but no narrow width is a prefix."""
    rewritten(model, lambda name: True)
    for node in [node for node in model.graph if node.op_type == "QGemm"]:
        values, scale, zero, weight, weight_scale, weight_zero = node.inputs
        assert weight is not None and weight.const_value is not None
        turned = np.ascontiguousarray(weight.const_value.numpy().T)
        tensor = ir.tensor(turned, name=f"{weight.name}.turned")
        weight = ir.Value(
            name=tensor.name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(turned.shape), const_value=tensor
        )
        model.graph.register_initializer(weight)
        inputs = [values, weight, scale, weight_scale, zero, weight_zero]
        replace(model.graph, node, ir.Node(DOMAIN, "MatMulIntegerToFloat", inputs, num_outputs=1))


def together(model: ir.Model) -> None:
    """Concat -> Gelu -> DynamicQuantizeLinear -> Split between the products of all experts of a block."""
    rewritten(model, lambda name: True)
    graph = model.graph
    for last in [node for node in graph if node.op_type == "Concat"]:
        downs = [value.producer() for value in last.inputs[:-1] if value is not None]
        if not all(down is not None and down.op_type == "DynamicQuantizeMatMul" for down in downs):
            continue
        active = [down.inputs[0].producer() for down in downs if down is not None and down.inputs[0] is not None]
        hidden = [gelu.inputs[0] for gelu in active if gelu is not None]
        joined = ir.Node("", "Concat", hidden, [ir.AttrInt64("axis", 0)], num_outputs=1)
        gelu = ir.Node("", "Gelu", [joined.outputs[0]], num_outputs=1)
        codes = ir.Node("", "DynamicQuantizeLinear", [gelu.outputs[0]], num_outputs=3)
        sizes = [ir.Node("", "Shape", [value], [ir.AttrInt64("end", 1)], num_outputs=1) for value in hidden]
        counts = ir.Node("", "Concat", [size.outputs[0] for size in sizes], [ir.AttrInt64("axis", 0)], num_outputs=1)
        inputs = [codes.outputs[0], counts.outputs[0]]
        parts = ir.Node("", "Split", inputs, [ir.AttrInt64("axis", 0)], num_outputs=len(downs))
        graph.insert_before(last, [joined, gelu, codes, *sizes, counts, parts])
        for down, part in zip(downs, parts.outputs, strict=True):
            assert down is not None
            # This operator takes a zero point of weights as well as none.
            inputs = [part, down.inputs[1], codes.outputs[1], down.inputs[2], codes.outputs[2]]
            product = ir.Node(DOMAIN, "MatMulIntegerToFloat", inputs, num_outputs=1)
            graph.insert_before(last, product)
            down.outputs[0].replace_all_uses_with(product.outputs[0])
            graph.remove(down, safe=True)


def replace(graph: ir.Graph, old: ir.Node, new: ir.Node) -> None:
    """Put a node with one output in the place of another."""
    new.outputs[0].type, new.outputs[0].shape = old.outputs[0].type, old.outputs[0].shape
    graph.insert_before(old, new)
    old.outputs[0].replace_all_uses_with(new.outputs[0])
    graph.remove(old, safe=True)


def profile(models: dict[str, Bundle], folder: Path, runs: int) -> Section:
    """Milliseconds of a run by operator: the sum over nodes of each node's median."""
    columns: dict[str, dict[str, float]] = {}
    for name, bundle in models.items():
        columns[name] = by_operator(bundle, graph_of(bundle, "int8"), folder, runs)
    operators = sorted({o for column in columns.values() for o in column}, key=lambda o: -columns[MOE].get(o, 0.0))
    rows = [[operator, *(f"{column.get(operator, 0.0):.2f}" for column in columns.values())] for operator in operators]
    rows = [row for row in rows if max(map(float, row[1:])) >= 0.1]
    rows.append(["all", *(f"{sum(column.values()):.2f}" for column in columns.values())])
    words = "\nONNX Runtime's own profile, which adds some microseconds to every node; below 0.1 ms left out.\n"
    return "Where the time of an int8 encoder goes, ms", table(["operator", *models], rows) + words, columns


def main() -> None:
    """Measure everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=None, help="where the two bundles are kept, or already lie")
    parser.add_argument("--quick", action="store_true", help="few repeats, nothing written")
    parser.add_argument("--one", nargs=3, metavar=("BUNDLE", "PRECISION", "TIER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        path, precision, tier = arguments.one
        print(one(Bundle.open(path), precision, tier))
        return
    repeats, runs = (2, 3) if arguments.quick else (10, 50)
    with tempfile.TemporaryDirectory(prefix="slimpath-precision-") as scratch:
        work = Path(scratch)
        models = bundles(arguments.folder or work)
        sections = latency(models, repeats, runs)
        sections.append(memory(models))
        sections.append(attempts(models, work, repeats, runs))
        sections.append(profile(models, work, max(runs, 20)))
    for title, text, _ in sections:
        print(f"\n### {title}\n\n{text}")
    if not arguments.quick:
        keep("precision", sections)


if __name__ == "__main__":
    main()
