"""What a manifest says of graphs for CPUs: files whose batch is open, all on one file of weights."""

from __future__ import annotations

from typing import Literal

import msgspec

from .manifest_checks import require, require_file, require_precision, require_sha256
from .manifest_parts import Cost, Parity

FULL_PRECISION = "fp32"  # the precision that every size and width has; the others are extra


class GraphSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One .onnx file. `bytes` and `sha256` are the file's; `weight_bytes` is what it refers to in the weights.

    `precision` is that of its large products; routers are fp32 in all of them. Every size has all its encoder widths
    and a head of every task in fp32; other precisions are there beside it. `adapter_rows` is how many leading rows an
    encoder reads of each tensor of a task's adapters: narrower ones read fewer.
    """

    file: str
    kind: Literal["encoder", "head"]
    size_hw: tuple[int, int]
    width: float
    task: str | None
    units: dict[str, int]
    bytes: int
    sha256: str
    weight_bytes: int
    parameters: int
    cost: Cost
    parity: Parity | None = None
    precision: str = FULL_PRECISION
    adapter_rows: tuple[int, ...] = ()


def check_graphs(
    graphs: tuple[GraphSpec, ...],
    *,
    sizes: tuple[tuple[int, int], ...],
    widths: tuple[float, ...],
    tasks: tuple[str, ...],
    adapters: int,
    taken: set[str],
) -> None:
    """Each graph by itself, each but once, and in fp32 all that a plan may ask for.

    Args:
        sizes, widths, tasks: those of the manifest.
        adapters: tensors of a task's adapters.
        taken: names of the bundle's other files.

    Raises:
        ManifestError: naming the graph and its field.
    """
    seen: set[object] = set()
    files = set(taken)
    for number, graph in enumerate(graphs):
        where = f"graphs[{number}]"
        require_file(f"{where}.file", graph.file)
        require(graph.file not in files, f"{where}.file", "a file of its own", graph.file)
        require_sha256(f"{where}.sha256", graph.sha256)
        require(graph.size_hw in sizes, f"{where}.size_hw", f"one of {sizes}", graph.size_hw)
        require(0 < graph.width <= 1, f"{where}.width", "above 0, at most 1", graph.width)
        if graph.kind == "encoder":
            _check_encoder_graph(where, graph, widths, adapters)
        else:
            require(graph.task in tasks, f"{where}.task", f"one of {tasks}", graph.task)
        _check_numbers(where, graph)
        key = (graph.kind, graph.size_hw, graph.width, graph.task, graph.precision)
        require(key not in seen, where, "one graph per kind, size, width, task and precision", key)
        seen.add(key)
        files.add(graph.file)
    for size_hw in sizes:
        at_size = [graph for graph in graphs if graph.size_hw == size_hw and graph.precision == FULL_PRECISION]
        _check_complete(size_hw, at_size, widths, tasks)


def _check_encoder_graph(where: str, graph: GraphSpec, widths: tuple[float, ...], adapters: int) -> None:
    require(graph.task is None, f"{where}.task", "null for an encoder", graph.task)
    require(graph.width in widths, f"{where}.width", f"one of {widths}", graph.width)
    rows_ok = len(graph.adapter_rows) == adapters and all(rows >= 1 for rows in graph.adapter_rows)
    require(rows_ok, f"{where}.adapter_rows", f"{adapters} numbers above 0", graph.adapter_rows)


def _check_numbers(where: str, graph: GraphSpec) -> None:
    for field in ("bytes", "weight_bytes", "parameters"):
        require(getattr(graph, field) >= 0, f"{where}.{field}", "0 or more", getattr(graph, field))
    costs = msgspec.structs.astuple(graph.cost)
    require(all(cost >= 0 for cost in costs), f"{where}.cost", "0 or more", costs)
    require_precision(f"{where}.precision", graph.precision)


def _check_complete(
    size_hw: tuple[int, int], graphs: list[GraphSpec], widths: tuple[float, ...], tasks: tuple[str, ...]
) -> None:
    found = tuple(sorted(graph.width for graph in graphs if graph.kind == "encoder"))
    require(found == widths, f"graphs at {size_hw}", f"encoders of widths {widths}", found)
    heads = {graph.task for graph in graphs if graph.kind == "head"}
    missing = [task for task in tasks if task not in heads]
    require(not missing, f"graphs at {size_hw}", "a head for every task", f"none for {', '.join(missing)}")
