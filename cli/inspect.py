"""`slimpath inspect`: what a bundle holds, what it weighs, and whether it is whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import BAD_INPUT, Debug, Json, say, verb
from .inspect_experts import describe_needs, print_experts
from .inspect_gpu import describe_gpu, print_gpu
from .inspect_pack import inspect_pack
from .inspect_tables import print_accuracies, print_files, provenance_rows
from .output import human_bytes, human_flops, print_json, print_table

if TYPE_CHECKING:
    from ..runtime import Bundle, Manifest

# A bundle is its weights and little else: at most 5 % more, or 2 MB where the weights are small. Graphs for GPUs, which
# have weights of their own, are not counted.
OVERHEAD_FACTOR = 1.05
OVERHEAD_BYTES = 2_000_000


@verb
def inspect(
    bundle: Annotated[
        Path | None, typer.Argument(metavar="[BUNDLE]", help="The bundle.", show_default="the bundled model")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Read every byte and compare all hashes.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what is in a bundle: files, tasks, configurations, accuracies, parity, provenance; or in a task pack.

    The exit code is 2 where the bundle is damaged, weighs more than its rule allows, or failed its parity check.

    \b
    Examples:
      slimpath inspect
      slimpath inspect my_bundle --verify
      slimpath inspect my_bundle --json
      slimpath inspect layout.pack
    """
    from ..runtime import Bundle, bundled_path
    from ..runtime.bundles.manifest import is_pack

    if bundle is not None and is_pack(bundle):
        inspect_pack(bundle, verify, json)
        return
    opened = Bundle.open(bundle or bundled_path(), verify=verify)
    report = describe_bundle(opened, verify)
    if json:
        print_json(report)
    else:
        _print_report(opened, report)
    for complaint in complaints(report):
        say(f"slimpath: {complaint}")
    if complaints(report):
        raise typer.Exit(BAD_INPUT)


def complaints(report: dict[str, Any]) -> list[str]:
    """What a whole bundle should not be like: too heavy, or unlike the network that it was exported from."""
    found: list[str] = []
    rule = report["size_rule"]
    if not rule["passed"]:
        found.append(f"the bundle weighs {human_bytes(report['bytes'])}, its rule allows {human_bytes(rule['limit'])}")
    unlike = [graph.file for graph in report["graphs"] if graph.parity is not None and not graph.parity.passed]
    if unlike:
        found.append(f"these graphs differ from the network by more than the tolerance: {', '.join(unlike)}")
    return found


def describe_bundle(bundle: Bundle, verified: bool) -> dict[str, Any]:
    """Everything that `inspect` prints, as one document."""
    manifest = bundle.manifest
    total = sum(path.stat().st_size for path in Path(bundle.path).iterdir() if path.is_file())
    weights = manifest.weights.bytes
    gpu = describe_gpu(bundle, verified)
    total -= gpu["bytes"] if gpu is not None else 0
    limit = max(OVERHEAD_FACTOR * weights, weights + OVERHEAD_BYTES)
    return {
        "path": str(bundle.path),
        "name": manifest.name,
        "family": manifest.family,
        "licence": manifest.licence,
        "slimpath_version": manifest.slimpath_version,
        "digest": bundle.digest,
        "verified": verified,
        "bytes": total,
        "weights_bytes": weights,
        "overhead_bytes": total - weights,
        "size_rule": {"limit": limit, "passed": total <= limit},
        "tasks": manifest.tasks,
        "sizes": manifest.sizes,
        "encoder": manifest.encoder,
        "needs": describe_needs(bundle),
        "configurations": list_configurations(manifest),
        "graphs": manifest.graphs,
        "accuracies": manifest.accuracies,
        "gpu": gpu,
        "provenance": manifest.provenance,
    }


def list_configurations(manifest: Manifest) -> list[dict[str, Any]]:
    """Cost of every (size, encoder width, top_k) with every task decoded at the nearest decoder width, one image."""
    count = len(manifest.tasks)
    rows: list[dict[str, Any]] = []
    for encoder in (graph for graph in manifest.graphs if graph.kind == "encoder"):
        heads = [_nearest_head(manifest, encoder.size_hw, task.name, encoder.width) for task in manifest.tasks]
        # Mixture of experts: each task is a row of its own. Dense: all tasks of an image share one.
        row_count = count if manifest.rows_per_task else 1
        for top_k in range(1, manifest.encoder.top_k + 1) if manifest.is_moe else (0,):
            cost = encoder.cost
            flops = cost.flops_image + row_count * (cost.flops_row + top_k * cost.flops_row_per_expert)
            rows.append(
                {
                    "size_hw": list(encoder.size_hw),
                    "width": encoder.width,
                    "top_k": top_k,
                    "flops_encoder": flops,
                    "flops_heads": sum(head.cost.flops_row for head in heads),
                    "parameters": encoder.parameters + sum(head.parameters for head in heads),
                    "units": encoder.units,
                }
            )
    return rows


def _nearest_head(manifest: Manifest, size_hw: tuple[int, int], task: str, width: float) -> Any:
    heads = [
        graph for graph in manifest.graphs if graph.kind == "head" and graph.task == task and graph.size_hw == size_hw
    ]
    return min(heads, key=lambda head: abs(head.width - width))


def _print_report(bundle: Bundle, report: dict[str, Any]) -> None:
    manifest = bundle.manifest
    print(
        f"{report['name']}  ({report['family']}, {report['licence']}, written by slimpath {report['slimpath_version']})"
    )
    print(f"{report['path']}  {report['digest'][:16]}{'  all hashes verified' if report['verified'] else ''}")
    rule = report["size_rule"]
    total, weights, rest = (human_bytes(report[name]) for name in ("bytes", "weights_bytes", "overhead_bytes"))
    verdict = "pass" if rule["passed"] else "FAIL"
    print(f"{total} = weights {weights} + {rest}; the rule allows {human_bytes(rule['limit'])}: {verdict}\n")
    print_files(manifest.weights, manifest.graphs)
    tasks = [(task.name, task.kind, task.channels, task.unit or "-", task.description) for task in manifest.tasks]
    print_table("tasks", ("task", "kind", "channels", "unit", "what"), tasks, numeric=(2,))
    configurations = [
        (
            _size(row["size_hw"]),
            f"{row['width']:g}",
            row["top_k"] or "-",
            human_flops(row["flops_encoder"]),
            human_flops(row["flops_heads"]),
            f"{row['parameters'] / 1e6:.2f} M",
        )
        for row in report["configurations"]
    ]
    names = ("size", "width", "top_k", "encoder", "all heads", "parameters")
    print_table("configurations, all tasks of one image", names, configurations, numeric=(1, 2, 3, 4, 5))
    print_experts(manifest, report["needs"])
    print_accuracies(manifest.accuracies)
    print_gpu(report["gpu"])
    if manifest.provenance:
        print_table("provenance", ("what", "value"), provenance_rows(manifest.provenance))


def _size(size_hw: list[int]) -> str:
    return f"{size_hw[0]}x{size_hw[1]}"
