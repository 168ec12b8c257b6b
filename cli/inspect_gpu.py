"""What `slimpath inspect` says of a bundle's graphs for GPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .output import human_bytes, print_table

if TYPE_CHECKING:
    from ..runtime import Bundle


def describe_gpu(bundle: Bundle, verify: bool) -> dict[str, Any] | None:
    """What graphs for GPUs there are, what they weigh, and how far their answers are from those in fp32.

    Args:
        verify: read every byte of them and compare all hashes.

    Raises:
        GraphError, WeightsError: asked to verify, and one is damaged.
    """
    gpu = bundle.manifest.gpu
    if gpu is None:
        return None
    if verify:
        from ..runtime.bundles.gpu_graphs import check_gpu_weights, read_gpu_graph

        check_gpu_weights(bundle, verify=True)
        for graph in gpu.graphs:
            read_gpu_graph(bundle, graph)
    return {
        "bytes": gpu.weights.bytes + sum(graph.bytes for graph in gpu.graphs),
        "weights_bytes": gpu.weights.bytes,
        "configurations": gpu.configurations,
        "batches": gpu.batches,
        "precisions": gpu.precisions,
        "source": gpu.source,
        "graphs": gpu.graphs,
        "agreements": gpu.agreements,
    }


def print_gpu(gpu: dict[str, Any] | None) -> None:
    """A line of what there is, and a table of how far the answers are from those in fp32."""
    if gpu is None:
        return
    encoders = ", ".join(f"{width:g}:{top_k}" if top_k else f"{width:g}" for width, top_k in gpu["configurations"])
    batches = ", ".join(f"{images}x{rows}" for images, rows in gpu["batches"])
    print(
        f"for GPUs: {len(gpu['graphs'])} graphs in {', '.join(gpu['precisions'])}, {human_bytes(gpu['bytes'])}; "
        f"encoders {encoders} ({gpu['source']}); images x rows {batches}\n"
    )
    rows = [
        (
            one.task,
            f"{one.width:g}",
            one.top_k or "-",
            one.precision,
            one.measure,
            "not a number" if one.value is None else f"{one.value:.4g}",
            f"{'at most' if one.at_most else 'at least'} {one.bound:g}",
        )
        for one in gpu["agreements"]
    ]
    if rows:
        columns = ("task", "width", "top_k", "precision", "against the network in fp32", "value", "allowed")
        print_table("answers of the graphs for GPUs", columns, rows, numeric=(1, 2, 5))
