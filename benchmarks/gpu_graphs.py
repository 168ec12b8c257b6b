"""Every preset as graphs for GPUs, held against the tables of TensorRT's parser: a table for docs/gpu.md.

Per preset: its narrowest encoder with one expert a token and its widest with all of them, each for one row and for a
row of every task, and a head of every kind at both widths; each in float32, float16 and int8. Weights are random and
ranges of activations made up: neither changes an operator, a type or a shape. What the graphs compute is checked by
exports (`slimpath export --target gpu`) and by tests/export/gpu.

    python benchmarks/gpu_graphs.py
    python benchmarks/gpu_graphs.py --presets m3vit_micro,vit_base
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import onnx_ir as ir
import torch

from slimpath.export.describe import encoder_widths, head_widths
from slimpath.export.gpu.lint import Finding, lint_model
from slimpath.export.gpu.precision import to_float16
from slimpath.export.gpu.quantize import quantise, quantised_nodes
from slimpath.export.gpu.trace import Job, trace_job
from slimpath.models import PRESETS, HeadConfig, MultiTaskModel, build_preset
from slimpath.models.fold import folded
from slimpath.runtime.bundles.gpu_spec import GPU_PRECISIONS, GPU_WEIGHTS_FILE

TASKS = (
    HeadConfig("semseg", "classes", 21),
    HeadConfig("depth", "depth", 1),
    HeadConfig("normals", "normals", 3),
    HeadConfig("edge", "probability", 1),
    HeadConfig("scene", "image_classes", 10),
)
_LARGE_BYTES = 1024


@dataclass
class Row:
    """What was found of one preset."""

    preset: str
    graphs: int = 0
    nodes: dict[str, int] = field(default_factory=dict)
    operators: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0


def random_preset(name: str) -> MultiTaskModel:
    """A preset with small random weights, made fast: nothing is drawn twice."""
    with torch.device("meta"):
        model = build_preset(name, TASKS)
    torch.manual_seed(0)
    state = {key: torch.empty(value.shape).uniform_(-0.02, 0.02) for key, value in model.state_dict().items()}
    model.load_state_dict(state, assign=True)
    return folded(model.eval())


def jobs_of(model: MultiTaskModel) -> Iterator[Job]:
    """The corners of what an export of a preset can be asked for."""
    config, size = model.config, model.config.image_hw
    widths = encoder_widths(config, None)
    most = config.top_k if config.moe_blocks else 0
    per_row = bool(config.moe_blocks) or bool(model.encoder.sites())
    for width, top_k in ((widths[0], min(most, 1)), (widths[-1], most)):
        for rows in (1, len(TASKS)) if per_row else (1,):
            yield Job(size, width, top_k, None, 1, rows)
    for head in config.tasks:
        narrow, *_ = wide = head_widths(config, head, None)
        for width in dict.fromkeys((narrow, wide[-1])):
            yield Job(size, width, 0, head.name, 1, 1)


def look_at(name: str) -> Row:
    """Trace a preset's graphs and lint them in every precision."""
    row, start, model = Row(name), time.monotonic(), random_preset(name)
    full = {key: value.detach().numpy() for key, value in model.named_parameters()}
    for job in jobs_of(model):
        base = trace_job(model, job)
        for precision in GPU_PRECISIONS:
            graph = base.clone()
            if precision == "int8":
                quantise(graph, dict.fromkeys((str(n.inputs[0].name) for n in quantised_nodes(graph)), 4.0), full)  # type: ignore[union-attr]
            if precision != "fp32":
                to_float16(graph)
            row.graphs += 1
            row.operators.update(node.op_type for node in graph.graph)
            if job.task is None:
                row.nodes[precision] = max(row.nodes.get(precision, 0), len(graph.graph))
            row.findings += lint_model(ir.to_proto(_without_weights(graph)), job.file(precision))
    row.seconds = time.monotonic() - start
    return row


def _without_weights(model: ir.Model) -> ir.Model:
    """The graph with large weights by reference to a file that is not there: nothing here reads them."""
    for value in model.graph.initializers.values():
        tensor = value.const_value
        assert tensor is not None
        if tensor.nbytes > _LARGE_BYTES and ".int8_" not in str(value.name):
            value.const_value = ir.ExternalTensor(
                GPU_WEIGHTS_FILE,
                0,
                tensor.nbytes,
                tensor.dtype,
                name=str(value.name),
                shape=ir.Shape(tensor.numpy().shape),
            )
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", default=",".join(PRESETS), help="all by default")
    chosen = parser.parse_args().presets.split(",")
    print("| preset | graphs | nodes of the widest encoder: fp32 / fp16 / int8 | operators | refusals |")
    print("|---|---|---|---|---|", flush=True)
    refused = 0
    for name in chosen:
        row = look_at(name)
        nodes = " / ".join(str(row.nodes[precision]) for precision in GPU_PRECISIONS)
        print(f"| `{name}` | {row.graphs} | {nodes} | {len(row.operators)} | {len(row.findings)} |", flush=True)
        for finding in row.findings[:5]:
            print(f"  {finding}")
        refused += len(row.findings)
    raise SystemExit(1 if refused else 0)


if __name__ == "__main__":
    main()
