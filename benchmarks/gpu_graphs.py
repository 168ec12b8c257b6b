"""Every preset as graphs for GPUs: held against the tables of TensorRT's parser, and compared with the network.

Tracing is what takes time here, and blocks repeat: a preset that is shortened to four blocks, or two a stage, has every
kind of node that it has itself, by operator, attributes, types and shapes (but for how many blocks' routers lie in one
input). So of each preset are linted, in float32, float16 and int8:

- shortened: its narrowest encoder with one expert a token and its widest with all of them, each for one row and for a
  row of every task; and a head of every kind at both widths;
- whole: the largest of these encoders, which must have no kind of node that the shortened one has not.

Weights are random and ranges of activations made up: neither changes an operator, a type or a shape. The encoders in
float32 also run in ONNX Runtime, by the parity gate: the shortened ones, and the whole one of the sizes in `--compare`.
Tests lint some of the shortened presets on every change.

    python benchmarks/gpu_graphs.py
    python benchmarks/gpu_graphs.py --presets m3vit_micro,vit_base

Keeps what it found of each preset in docs/measured/gpu_graphs.json and writes the table of docs/gpu.md from that file.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from gpu_page import keep_lint

from slimpath.export.describe import encoder_widths, head_widths
from slimpath.export.gpu import check
from slimpath.export.gpu.lint import lint_model
from slimpath.export.gpu.precision import to_float16
from slimpath.export.gpu.quantize import quantise, quantised_nodes
from slimpath.export.gpu.trace import Job, trace_job
from slimpath.models import PRESETS, HeadConfig, ModelConfig, MultiTaskModel, preset_config
from slimpath.models.fold import folded
from slimpath.models.layers import InvertedBottleneck
from slimpath.models.swin_config import SwinConfig
from slimpath.runtime.bundles import graph_names as names
from slimpath.runtime.bundles.gpu_spec import GPU_PRECISIONS, GPU_WEIGHTS_FILE

TASKS = (
    HeadConfig("semseg", "classes", 21),
    HeadConfig("depth", "depth", 1),
    HeadConfig("normals", "normals", 3),
    HeadConfig("edge", "probability", 1),
    HeadConfig("scene", "image_classes", 10),
)
COMPARED = ("micro", "nano", "tiny")
_LARGE_BYTES = 1024
#: Blocks of every sort: dense ones before and after experts, which come for every row; plain and shifted windows.
_SHORT, _SHORT_STAGE = 4, 2
Kind = tuple[object, ...]  # of a node: operator, attributes, types and shapes


@dataclass
class Row:
    """What was found of one preset; `error` is the float32 encoder's that comes nearest to what is `allowed`."""

    preset: str
    graphs: int = 0
    nodes: dict[str, int] = field(default_factory=dict)
    operators: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    kinds: int = 0
    kinds_not_in_short: int = 0
    compared: str = "whole"
    error: float = 0.0
    allowed: float = 1.0
    seconds: float = 0.0


def random_preset(name: str, *, short: bool = False) -> MultiTaskModel:
    """A preset with random weights everywhere, folded: branches that start at zero would hide what a graph leaves out.

    Args:
        short: four blocks only (three more than are adapted, if that is more), or two a stage.
    """
    config = preset_config(name, TASKS)
    if short and isinstance(config, SwinConfig):
        config = replace(config, depths=tuple(min(depth, _SHORT_STAGE) for depth in config.depths))
    elif short:
        assert isinstance(config, ModelConfig)
        # As many adapted blocks as there are, since each is a piece of one input, behind plain ones of every kind.
        own = len(config.adapter_blocks)
        depth = min(config.depth, max(_SHORT, own + 3))
        moe_blocks = tuple(block for block in config.moe_blocks if block < depth)
        shared = tuple(block for block in config.shared_blocks if block < depth)
        adapted = tuple(range(depth - own, depth))
        config = replace(config, depth=depth, moe_blocks=moe_blocks, adapter_blocks=adapted, shared_blocks=shared)
    torch.manual_seed(0)
    model = MultiTaskModel(config)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, InvertedBottleneck):
                layer.down.normal_(std=0.1)
        for key, parameter in model.named_parameters():
            if key.startswith("routers."):
                parameter.normal_(std=0.2)
            elif key.endswith("bias") or (key.endswith(".up") and ("adapters." in key or "shared" in key)):
                parameter.normal_(std=0.02)
    return folded(model.eval())


def jobs_of(model: MultiTaskModel) -> Iterator[Job]:
    """The corners of what an export of a preset can be asked for."""
    config, size = model.config, model.config.image_hw
    widths = encoder_widths(config, None)
    most = config.top_k if config.moe_blocks else 0
    for width, top_k in ((widths[0], min(most, 1)), (widths[-1], most)):
        for rows in (1, len(TASKS)) if per_row(model) else (1,):
            yield Job(size, width, top_k, None, 1, rows)
    for head in config.tasks:
        narrow, *_ = wide = head_widths(config, head, None)
        for width in dict.fromkeys((narrow, wide[-1])):
            yield Job(size, width, 0, head.name, 1, 1)


def per_row(model: MultiTaskModel) -> bool:
    """Do an encoder's rows differ between tasks?"""
    return bool(model.config.moe_blocks) or bool(model.encoder.sites())


def precisions_of(base: ir.Model, full: dict[str, Any]) -> Iterator[tuple[str, ir.Model]]:
    """The graph in every precision, as an export derives them."""
    for precision in GPU_PRECISIONS:
        graph = base.clone()
        if precision == "int8":
            quantise(graph, dict.fromkeys((str(n.inputs[0].name) for n in quantised_nodes(graph)), 4.0), full)  # type: ignore[union-attr]
        if precision != "fp32":
            to_float16(graph)
        yield precision, graph


def findings_of(graph: ir.Model, name: str) -> list[str]:
    """What the linter says of a graph."""
    return [str(finding) for finding in lint_model(ir.to_proto(_without_weights(graph)), name)]


def kinds_of(graph: ir.Model) -> set[Kind]:
    """Every kind of node in it."""
    return {
        (
            node.op_type,
            tuple(sorted((name, str(attribute.value)) for name, attribute in node.attributes.items())),
            tuple(None if value is None else (value.dtype, _shape(value)) for value in node.inputs),
            tuple((value.dtype, str(value.shape)) for value in node.outputs),
        )
        for node in graph.graph
    }


def _shape(value: ir.Value) -> str:
    return "routers" if value.name in (names.ROUTER, names.ROUTER_BIAS) else str(value.shape)


def look_at(name: str, compare_whole: bool) -> Row:
    """Trace a preset's graphs, lint them in every precision, look whether the shortened preset stands for it."""
    row, start = Row(name, compared="whole" if compare_whole else "shortened"), time.monotonic()
    short, whole = random_preset(name, short=True), random_preset(name)
    known: set[Kind] = set()
    for job in jobs_of(short):
        known |= _kinds_of_job(row, short, job, compare=True)
    largest = [job for job in jobs_of(whole) if job.task is None][-1]
    kinds = _kinds_of_job(row, whole, largest, compare=compare_whole)
    row.kinds, row.kinds_not_in_short = len(kinds), len(kinds - known)
    row.seconds = round(time.monotonic() - start, 1)
    return row


def _kinds_of_job(row: Row, model: MultiTaskModel, job: Job, *, compare: bool) -> set[Kind]:
    """Lint a job's graphs, note what was found, and compare its encoder in float32 if told to."""
    full = {key: value.detach().numpy() for key, value in model.named_parameters()}
    base, kinds = trace_job(model, job), set()
    if compare and job.task is None:
        _compare(row, model, job, base)
    for precision, graph in precisions_of(base, full):
        row.graphs += 1
        row.operators = sorted({*row.operators, *(node.op_type for node in graph.graph)})
        if job.task is None:
            row.nodes[precision] = max(row.nodes.get(precision, 0), len(graph.graph))
        kinds |= kinds_of(graph)
        row.findings += findings_of(graph, job.file(precision))
    return kinds


def _compare(row: Row, model: MultiTaskModel, job: Job, graph: ir.Model) -> None:
    """The float32 graph against the network, by the parity gate.

    Raises:
        SystemExit: it is not what the network computes.
    """
    with tempfile.TemporaryDirectory(prefix="slimpath-graphs-") as folder:
        path = Path(folder) / "base.onnx"
        ir.save(graph, str(path), external_data="base.data")
        seen = check.encoder_parity(model, job, check.onnxruntime_run(str(path)))
    if not seen.passed:
        raise SystemExit(f"{row.preset}: {job.file('fp32')} differs from the network: {seen}")
    allowed = seen.tolerance * max(1.0, seen.max_abs_reference)
    if seen.max_abs_error / allowed >= row.error / row.allowed:
        row.error, row.allowed = seen.max_abs_error, allowed


def _without_weights(model: ir.Model) -> ir.Model:
    """The graph with large weights by reference to a file that is not there: nothing here reads them."""
    for value in model.graph.initializers.values():
        tensor = value.const_value
        assert tensor is not None
        if tensor.nbytes > _LARGE_BYTES and ".int8_" not in str(value.name):
            shape = ir.Shape(tensor.numpy().shape)
            name = str(value.name)
            value.const_value = ir.ExternalTensor(
                GPU_WEIGHTS_FILE, 0, tensor.nbytes, tensor.dtype, name=name, shape=shape
            )
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", default=",".join(PRESETS), help="all by default")
    parser.add_argument("--compare", default=",".join(COMPARED), help="sizes whose whole encoders are run, too")
    arguments = parser.parse_args()
    bad = 0
    for name in arguments.presets.split(","):
        row = look_at(name, name.partition("_")[2] in arguments.compare.split(","))
        print(f"{name}: {row.graphs} graphs, {len(row.findings)} refusals, {row.seconds:.0f} s", flush=True)
        for line in row.findings[:5]:
            print(f"  {line}", flush=True)
        if row.kinds_not_in_short:
            print(f"  {row.kinds_not_in_short} kinds of nodes are not in the shortened preset", flush=True)
        bad += len(row.findings) + row.kinds_not_in_short
        keep_lint(name, {**asdict(row), "findings": row.findings[:20]})
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
