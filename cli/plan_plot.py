"""The knob as a picture: above, all configurations by cost and quality, and the Pareto set; below, its widths."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..runtime import Manifest, Plan
    from ..runtime.planning.landscape import Landscape

__all__ = ["plot_plan"]

FORMATS = ("png", "svg", "pdf")
_FRONT, _CLOUD, _CHOSEN, _TEXT, _LIMIT = "#1f5fa8", "#c3cfdd", "#c2410c", "#333333", "#8a8a8a"
_UNITS = {"flops": ("GFLOPs", 1e-9), "latency_ms": ("ms", 1.0)}


def plot_plan(landscape: Landscape, chosen: Plan, manifest: Manifest, path: Path) -> Path:
    """Draw a landscape and the plan that was chosen in it.

    Args:
        path: its ending says which format; the file appears when it is complete.

    Raises:
        InputError: another ending than those of `FORMATS`.
    """
    kind = path.suffix[1:].lower()
    if kind not in FORMATS:
        raise InputError(f"a plot is a {', '.join(FORMATS)} file, got {path.name!r}", hint="for example knob.png")
    figure = _draw(landscape, chosen, manifest)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(suffix=path.suffix, dir=path.parent)
    os.close(handle)
    try:
        figure.savefig(name, dpi=150, format=kind)
        os.chmod(name, 0o644)  # mkstemp's are the owner's alone
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    return path


def _draw(landscape: Landscape, chosen: Plan, manifest: Manifest) -> Figure:
    from matplotlib.figure import Figure

    unit, scale = _UNITS[landscape.axis]
    rows = 2 + len(chosen.tasks) if manifest.is_moe else 1 + len(chosen.tasks)
    figure = Figure(figsize=(8.4, 4.6 + 0.3 * rows), layout="constrained")
    front, strip = figure.subplots(2, 1, sharex=True, height_ratios=(4.2, 0.34 * rows + 0.3))
    _draw_front(front, landscape, chosen, unit, scale)
    mesh = _draw_strip(strip, landscape, manifest, scale)
    strip.set_xlabel(f"cost of one image: {unit}" + (" (median, on this device)" if unit == "ms" else ""), fontsize=9)
    bar = figure.colorbar(mesh, ax=strip, ticks=[0, 0.25, 0.5, 0.75, 1], aspect=10, pad=0.015)
    bar.ax.tick_params(labelsize=7.5, colors=_TEXT)
    bar.set_label("share kept", fontsize=8, color=_TEXT)
    tasks = ", ".join(f"{task} {weight:g}" for task, weight in chosen.tasks.items())
    figure.suptitle(f"{manifest.name}: what a budget buys (preferences: {tasks})", fontsize=10.5, color=_TEXT)
    return figure


def _draw_front(panel: Axes, landscape: Landscape, chosen: Plan, unit: str, scale: float) -> None:
    shown = len(landscape.costs_N)
    few = "" if shown == landscape.count else f"{shown:,} of "
    panel.plot(
        landscape.costs_N * scale, landscape.worths_N, ".", color=_CLOUD, markersize=3, zorder=1, rasterized=True,
        label=f"{few}{landscape.count:,} configurations",
    )  # fmt: skip
    costs, worths = landscape.front_costs_P * scale, landscape.front_worths_P
    panel.step(costs, worths, where="post", color=_FRONT, linewidth=1.4, zorder=3)
    panel.plot(costs, worths, "o", color=_FRONT, markersize=3.4, zorder=4, label=f"{len(costs)} that nothing beats")
    cost = (chosen.flops if landscape.axis == "flops" else chosen.latency_ms or 0.0) * scale
    worth = _worth_of(landscape, chosen)
    if worth is not None:
        panel.plot([cost], [worth], "o", markersize=9, markerfacecolor="none", markeredgewidth=2, color=_CHOSEN,
                   zorder=5, label=f"chosen for {chosen.budget}")  # fmt: skip
    if landscape.limit is not None:
        panel.axvspan(landscape.limit * scale, _right(landscape) * scale, color="#f4f1ec", zorder=0)
        panel.axvline(landscape.limit * scale, color=_LIMIT, linewidth=1, linestyle="--", zorder=2, label="its limit")
    measured = landscape.scored_by == "accuracy"
    panel.set_ylabel("quality (1: full, 0: trivial)" if measured else "share of full FLOPs (unmeasured)", fontsize=9)
    low = float(np.min(landscape.worths_N, initial=worths.min()))
    panel.set_ylim(low - 0.03 * (worths.max() - low), worths.max() + 0.06 * max(worths.max() - low, 1e-3))
    panel.legend(loc="lower right", fontsize=8.5, framealpha=0.92, edgecolor="none", labelcolor=_TEXT)
    _plain(panel)
    panel.grid(axis="y", color="#ececec", linewidth=0.8)


def _worth_of(landscape: Landscape, chosen: Plan) -> float | None:
    """On the Pareto set if the chosen plan is there; a plan with pins or with another score is not."""
    for plan, worth in zip(landscape.front, landscape.front_worths_P):
        if _parts(plan) == _parts(chosen):
            return float(worth)
    return None


def _parts(plan: Plan) -> Any:
    return plan.size_hw, plan.precision, plan.encoder_width, plan.top_k, plan.decoder_widths


def _draw_strip(panel: Axes, landscape: Landscape, manifest: Manifest, scale: float) -> Any:
    """One column per point of the Pareto set, as wide as the range of budgets that it answers."""
    names, kept = ["encoder width"], [[plan.encoder_width for plan in landscape.front]]
    if manifest.is_moe:
        names.append(f"experts of {manifest.encoder.top_k}")
        kept.append([plan.top_k / manifest.encoder.top_k for plan in landscape.front])
    for task in landscape.front[0].tasks:
        names.append(f"{task} decoder")
        kept.append([plan.decoder_widths[task] for plan in landscape.front])
    edges = np.append(landscape.front_costs_P * scale, _right(landscape) * scale)
    panel.set_xlim(edges[0] - 0.012 * (edges[-1] - edges[0]), edges[-1])
    mesh = panel.pcolormesh(
        edges,
        np.arange(len(names) + 1),
        np.array(kept),
        cmap="YlGnBu",
        vmin=0,
        vmax=1,
        edgecolors="face",
        linewidth=0.2,
    )
    for line in range(1, len(names)):
        panel.axhline(line, color="white", linewidth=1.6)
    panel.set_yticks(np.arange(len(names)) + 0.5, names, fontsize=8)
    panel.invert_yaxis()
    _plain(panel)
    panel.tick_params(left=False)
    return mesh


def _right(landscape: Landscape) -> float:
    """A little beyond the dearest: the last column of the strip needs a width."""
    low, high = landscape.front_costs_P[0], max(landscape.front_costs_P[-1], landscape.costs_N.max(initial=0))
    return float(high + max(0.025 * (high - low), 1e-6 * high, 1e-9))


def _plain(panel: Axes) -> None:
    panel.set_axisbelow(True)
    panel.tick_params(labelsize=8, colors=_TEXT)
    panel.spines[["top", "right"]].set_visible(False)
