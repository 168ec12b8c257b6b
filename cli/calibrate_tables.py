"""A profile as tables: graphs, the fixed part of a call, and how near its predictions come."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from .output import print_table

if TYPE_CHECKING:
    from ..runtime import Manifest
    from ..runtime.bundles.graph_spec import GraphSpec
    from ..runtime.planning.costs import PartCost
    from ..runtime.profiling.profile import Profile

MODELLED = "~"  # before what was interpolated instead of measured


def print_profile(profile: Profile, manifest: Manifest) -> None:
    """Everything worth reading, on stdout."""
    data = profile.data
    where, quality = data.conditions, data.quality
    print(f"{where.bundle_name} on {where.device}")
    print(
        f"{where.backend} {where.backend_version}, {where.threads or 'its own number of'} threads, {where.tier}; "
        f"measured {data.created}"
    )
    print(
        f"{len(data.graphs)} of {quality.points_possible} graph runs measured in {quality.seconds:.0f} s, "
        f"{quality.rounds_kept} of {quality.rounds} rounds quiet; {MODELLED} marks what is modelled"
    )
    print(f"energy: {f'{data.meter}, {data.idle_w:.1f} W idle' if data.meter else f'unknown: {data.no_meter}'}\n")
    print_table("encoders", _ENCODER_COLUMNS, encoder_rows(profile, manifest), numeric=range(1, 8))
    widths = sorted({graph.width for graph in manifest.graphs if graph.kind == "head"}, reverse=True)
    columns = ("head, ms", *(f"{width:g}" for width in widths))
    print_table("", columns, head_rows(profile, manifest, widths), numeric=range(1, len(columns)))
    print_table("the rest of a call", ("what", "ms"), fixed_rows(profile, manifest), numeric=(1,))
    _print_calls(profile)


_ENCODER_COLUMNS = ("encoder", "top_k", "1 task, ms", "p95", "all tasks, ms", "weights, MB", "activations, MB", "mJ")


def encoder_rows(profile: Profile, manifest: Manifest) -> list[tuple[str, ...]]:
    """Each size, width and precision, with all experts and with one."""
    full = manifest.encoder.top_k if manifest.is_moe else 0
    tasks = len(manifest.tasks) if manifest.is_moe else 1
    return [
        _encoder_row(profile, graph, top_k, tasks)
        for graph in sorted(manifest.graphs, key=lambda graph: (graph.size_hw, graph.precision, -graph.width))
        if graph.kind == "encoder"
        for top_k in sorted({full, min(full, 1)}, reverse=True)
    ]


def _encoder_row(profile: Profile, graph: GraphSpec, top_k: int, tasks: int) -> tuple[str, ...]:
    one = profile.encoder(graph, images=1, rows=1, top_k=top_k)
    every = profile.encoder(graph, images=1, rows=tasks, top_k=top_k)
    points = (p for p in profile.data.graphs if p.graph == graph.file)
    p95_ms = [p.p95_ms for p in points if (p.images, p.rows, p.top_k) == (1, 1, top_k)]
    name = f"{graph.size_hw[0]}x{graph.size_hw[1]} {graph.width:g}"
    return (
        name if graph.precision == "fp32" else f"{name} {graph.precision}",
        str(top_k or "-"),
        latency(one),
        f"{p95_ms[0] * profile.data.fit.factor:.2f}" if p95_ms else "-",
        latency(every),
        f"{every.weights_mb:.1f}",
        _number(every.activations_mb, ".1f"),
        _number(every.energy_mj, ".3g"),
    )


def head_rows(profile: Profile, manifest: Manifest, widths: list[float]) -> list[tuple[str, ...]]:
    """Each task's head at the bundle's first size; "-" where a width is the same as a narrower one."""
    rows = []
    for task in manifest.task_names:
        heads = {
            graph.width: graph
            for graph in manifest.graphs
            if graph.task == task and graph.size_hw == manifest.sizes[0] and graph.precision == "fp32"
        }
        cells = [latency(profile.head(heads[width], rows=1)) if width in heads else "-" for width in widths]
        rows.append((task, *cells))
    return rows


def fixed_rows(profile: Profile, manifest: Manifest) -> list[tuple[str, str]]:
    """Preprocessing by picture size, postprocessing by task, what the engine adds."""
    data, size_hw = profile.data, manifest.sizes[0]
    rows = [
        (f"fitting {p.image_hw[1]} x {p.image_hw[0]} pixels", f"{p.latency_ms:.2f}")
        for p in data.preprocessing
        if p.size_hw == size_hw
    ]
    rows += [(f"finishing {p.task}", f"{p.latency_ms:.2f}") for p in data.postprocessing if p.size_hw == size_hw]
    rows.append(("the engine, per call", f"{data.fit.call_ms:.2f}"))
    rows.append(("the engine, per task", f"{data.fit.task_ms:.2f}"))
    return rows


def call_rows(profile: Profile, most: int = 12) -> list[tuple[str, ...]]:
    """Calls that nothing was fitted to: predicted, measured, and the error."""
    held_out = [call for call in profile.data.calls if not call.fitted][:most]
    return [
        (
            f"{call.size_hw[0]}x{call.size_hw[1]}, encoder {call.encoder_width:g}"
            + (f", top_k {call.top_k}" if call.top_k else "")
            + f", {', '.join(f'{task} {width:g}' for task, width in call.decoder_widths.items())}",
            f"{call.image_hw[1]}x{call.image_hw[0]}",
            f"{call.predicted_ms:.2f}",
            f"{call.latency_ms:.2f}",
            f"{call.p95_ms:.2f}",
            f"{100 * (call.predicted_ms / call.latency_ms - 1):+.1f} %",
        )
        for call in held_out
    ]


def _print_calls(profile: Profile) -> None:
    rows, quality = call_rows(profile), profile.data.quality
    if not rows or quality.median_error is None:
        print("Whole calls: too few were measured to test predictions; give it more --time.")
        return
    columns = ("whole calls, held out", "picture", "predicted, ms", "measured", "p95", "error")
    print_table("", columns, rows, numeric=range(2, 6))
    spread = statistics.median(call.p95_ms / call.latency_ms for call in profile.data.calls)
    print(
        f"Predictions are off by {100 * quality.median_error:.1f} % (median) on calls that nothing was fitted to. "
        f"p95 is {profile.headroom:.2f} x the median over all calls ({spread:.2f} within one configuration)."
    )


def latency(cost: PartCost) -> str:
    """Milliseconds, marked where modelled."""
    return "-" if cost.latency_ms is None else f"{'' if cost.measured else MODELLED}{cost.latency_ms:.2f}"


def _number(value: Any, form: str) -> str:
    return "unknown" if value is None else format(value, form)
