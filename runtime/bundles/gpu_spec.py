"""What a manifest says of graphs for GPUs: static shapes, one top-k each, precision in the graph, weights of their own.

They lie beside the bundle's other files. Whoever knows nothing of them runs the graphs for CPUs as before.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from .manifest_parts import Parity, WeightsSpec

GPU_WEIGHTS_FILE = "weights-gpu.safetensors"
GPU_PRECISIONS = ("fp32", "fp16", "int8")


class GpuPort(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An input or output of a graph: named as in `graph_names.py`, every axis a number, row-major."""

    name: str
    dtype: Literal["float32", "int32"]
    shape: tuple[int, ...]


class GpuGraphSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One .onnx file for one batch: an encoder takes `images` images and `rows` rows, a head `rows` rows of its task.

    `top_k` is fixed in an encoder with experts, else 0. `flops` is what one run computes, by the counting of `Cost`;
    empty slots of the experts' blocks come on top. `precision` int8 is int8 with fp16 around it. The ports are in the
    order of the graph. `parity` is against the network in float32.
    """

    file: str
    kind: Literal["encoder", "head"]
    size_hw: tuple[int, int]
    width: float
    top_k: int
    task: str | None
    images: int
    rows: int
    precision: str
    bytes: int
    sha256: str
    weight_bytes: int
    flops: int
    inputs: tuple[GpuPort, ...]
    outputs: tuple[GpuPort, ...]
    parity: Parity | None = None
    adapter_rows: tuple[int, ...] = ()


class GpuAgreement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far a task's answers, by encoder and head of a precision, are from those of the network in float32.

    `bound` is the least or, where `at_most`, the largest value that passes; `value` is null where an answer is no
    number somewhere, which never passes.
    """

    task: str
    size_hw: tuple[int, int]
    width: float
    top_k: int
    decoder_width: float
    precision: str
    measure: str
    value: float | None
    bound: float
    at_most: bool
    passed: bool


class GpuSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All graphs for GPUs. For every size and precision there is an encoder for each of `configurations` (encoder
    width, top-k; cheapest first) and each of `batches` (images, rows), and heads for 1 row and for as many as a batch
    has images. `source` says how the configurations were chosen."""

    weights: WeightsSpec
    configurations: tuple[tuple[float, int], ...]
    batches: tuple[tuple[int, int], ...]
    precisions: tuple[str, ...]
    graphs: tuple[GpuGraphSpec, ...]
    source: str
    agreements: tuple[GpuAgreement, ...] = ()

    def graph(
        self,
        kind: Literal["encoder", "head"],
        size_hw: tuple[int, int],
        width: float,
        *,
        precision: str,
        top_k: int = 0,
        task: str | None = None,
        images: int = 1,
        rows: int = 1,
    ) -> GpuGraphSpec | None:
        """The graph of that description, if there is one."""
        wanted = (kind, tuple(size_hw), width, top_k, task, images, rows, precision)
        return next((graph for graph in self.graphs if _key(graph) == wanted), None)


def smallest_batch(spec: GpuSpec, images: int, rows: int) -> tuple[int, int] | None:
    """The exported (images, rows) with fewest rows, then fewest images, that holds so many; None if none does."""
    holding = [batch for batch in spec.batches if batch[0] >= images and batch[1] >= rows]
    return min(holding, key=lambda batch: (batch[1], batch[0]), default=None)


def gpu_problem(
    spec: GpuSpec, *, sizes: tuple[tuple[int, int], ...], tasks: tuple[str, ...], top_k: int, taken: set[str]
) -> tuple[str, str, object] | None:
    """What is wrong with a spec: the field, what it must be, and what it is; None if nothing is.

    Args:
        sizes, tasks, top_k: those of the manifest; a top-k of 0 means no experts.
        taken: names of the bundle's other files.
    """
    names = [spec.weights.file, *(graph.file for graph in spec.graphs)]
    if len(set(names)) != len(names) or taken & set(names):
        return (
            "gpu.graphs",
            "files of their own",
            sorted(name for name in names if names.count(name) > 1 or name in taken),
        )
    if not spec.batches or any(images < 1 or rows < images for images, rows in spec.batches):
        return "gpu.batches", "at least one (images, rows), rows at least as many as images", spec.batches
    if unknown := set(spec.precisions) - set(GPU_PRECISIONS):
        return "gpu.precisions", f"some of {GPU_PRECISIONS}", sorted(unknown)
    keys: set[object] = set()
    for number, graph in enumerate(spec.graphs):
        problem = _graph_problem(graph, spec, sizes, tasks, top_k)
        if problem is None and _key(graph) in keys:
            problem = "", "one graph of a description", _key(graph)
        if problem is not None:
            return f"gpu.graphs[{number}]{problem[0]}", problem[1], problem[2]
        keys.add(_key(graph))
    missing = sorted(
        (size, width, k, batch, precision)
        for size in sizes
        for width, k in spec.configurations
        for batch in spec.batches
        for precision in spec.precisions
        if ("encoder", size, width, k, None, *batch, precision) not in keys
    )
    return ("gpu.graphs", "an encoder for every configuration, batch and precision", missing[0]) if missing else None


def _graph_problem(
    graph: GpuGraphSpec, spec: GpuSpec, sizes: tuple[tuple[int, int], ...], tasks: tuple[str, ...], top_k: int
) -> tuple[str, str, object] | None:
    if graph.size_hw not in sizes:
        return ".size_hw", f"one of {sizes}", graph.size_hw
    if graph.precision not in spec.precisions:
        return ".precision", f"one of {spec.precisions}", graph.precision
    if (graph.task is None) != (graph.kind == "encoder") or (graph.task is not None and graph.task not in tasks):
        return ".task", f"null for an encoder, for a head one of {tasks}", graph.task
    if not (1 <= graph.top_k <= top_k if graph.kind == "encoder" and top_k else graph.top_k == 0):
        return ".top_k", f"1 to {top_k} for an encoder with experts, else 0", graph.top_k
    if graph.images < 1 or graph.rows < graph.images:
        return ".rows", "at least as many as images, and those at least 1", (graph.images, graph.rows)
    if not graph.inputs or not graph.outputs:
        return ".inputs", "named, and so the outputs", (graph.inputs, graph.outputs)
    for port in (*graph.inputs, *graph.outputs):
        if any(axis < 1 for axis in port.shape) or math.prod(port.shape) >= 1 << 31:
            return f".{port.name}", "a shape of numbers above 0, under 2**31 elements in all", port.shape
    if min(graph.bytes, graph.weight_bytes, graph.flops) < 0:
        return ".bytes", "0 or more", (graph.bytes, graph.weight_bytes, graph.flops)
    return None


def _key(graph: GpuGraphSpec) -> tuple[object, ...]:
    return (
        graph.kind,
        graph.size_hw,
        graph.width,
        graph.top_k,
        graph.task,
        graph.images,
        graph.rows,
        graph.precision,
    )
