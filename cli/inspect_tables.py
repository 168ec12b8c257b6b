"""Tables that `slimpath inspect` prints of bundles and of task packs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .output import human_bytes, print_table

if TYPE_CHECKING:
    from ..runtime.bundles.accuracy import Accuracy
    from ..runtime.bundles.graph_spec import GraphSpec
    from ..runtime.bundles.manifest_parts import WeightsSpec


def provenance_rows(provenance: dict[str, Any]) -> list[tuple[str, str]]:
    """What a bundle or a pack says of where it comes from; groups of settings are counted."""
    return [
        (key, f"{len(value)} settings; --json shows them" if isinstance(value, dict) else str(value))
        for key, value in provenance.items()
    ]


def print_files(weights: WeightsSpec, graphs: Sequence[GraphSpec]) -> None:
    """The files with their sizes, and how near each graph came to the network."""
    rows: list[tuple[object, ...]] = [(weights.file, human_bytes(weights.bytes), "", "", "")]
    for graph in graphs:
        parity = graph.parity
        error = "unmeasured" if parity is None else f"{parity.max_abs_error:.1e} (allowed {parity.tolerance:.1e})"
        verdict = "-" if parity is None else "pass" if parity.passed else "FAIL"
        rows.append((graph.file, human_bytes(graph.bytes), human_bytes(graph.weight_bytes), error, verdict))
    columns = ("file", "size", "of the weights", "largest difference from the network", "parity")
    print_table("files", columns, rows, numeric=(1, 2))


def print_accuracies(accuracies: Sequence[Accuracy]) -> None:
    """What was measured, configuration by configuration."""
    if not accuracies:
        print("accuracies: unmeasured\n")
        return
    rows = [
        (
            point.task,
            f"{point.encoder_width:g}",
            point.top_k or "-",
            f"{point.decoder_width:g}",
            f"{point.value:.4g} {point.metric}",
            "-" if point.ci_low is None or point.ci_high is None else f"{point.ci_low:.4g} to {point.ci_high:.4g}",
            f"{point.trivial:.4g}",
            "-" if point.all_experts is None else f"{point.all_experts:.4g}",
            point.samples,
            point.source,
        )
        for point in accuracies
    ]
    names = ("task", "encoder", "top_k", "decoder", "accuracy", "95 % interval", "trivial")
    names += ("with all experts", "images", "source")
    print_table("accuracies", names, rows, numeric=(1, 2, 3, 6, 7, 8))
