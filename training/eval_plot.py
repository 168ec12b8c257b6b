"""Accuracy against cost, a panel per task."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .errors import EvaluationError
from .eval_report import EvalReport, EvalRow
from .files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Cost", "front", "plot_kind", "plot_report"]

_KINDS = ("png", "svg", "pdf")
_LINE, _GRID, _PLAIN, _TEXT, _FRONT = "#1f5fa8", "#9db8d6", "#b4512c", "#333333", "#2c8a57"


Cost = Literal["flops", "latency"]
_AXIS = {"flops": "GFLOPs, one image with this task alone", "latency": "ms measured, one image with this task alone"}


def plot_kind(path: Path) -> str:
    """The format that a file's ending names.

    Raises:
        EvaluationError: another ending.
    """
    kind = path.suffix[1:].lower()
    if kind not in _KINDS:
        raise EvaluationError(f"a plot is a {', '.join(_KINDS)} file, got {path.name!r}", hint="for example widths.png")
    return kind


def plot_report(report: EvalReport, path: Path, *, cost: Cost = "flops") -> Path:
    """Draw value against the cost of one image with that task alone: 95 % intervals, both baselines, all of the grid,
    and the Pareto front, which nothing cheaper reaches.

    Args:
        cost: GFLOPs, or the latencies that were measured.

    Returns:
        `path`; its ending says which format.

    Raises:
        EvaluationError: see `plot_kind`.
    """
    from matplotlib.figure import Figure

    kind = plot_kind(path)
    tasks = report.tasks
    columns = min(3, len(tasks))
    lines = -(-len(tasks) // columns)
    figure = Figure(figsize=(3.9 * columns, 2.9 * lines + 0.75), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).flatten()
    for panel, task in zip(panels, tasks):
        _draw_panel(panel, [row for row in report.rows if row.configuration.task == task], cost)
    for panel in panels[len(tasks) :]:
        panel.set_visible(False)
    for panel in panels[max(0, len(tasks) - columns) : len(tasks)]:
        panel.set_xlabel(_AXIS[cost], fontsize=9)
    figure.suptitle(
        f"{report.bundle}: {_data(report)} at {report.size_hw[0]} x {report.size_hw[1]}; "
        "dots are widths, bars 95 % intervals",
        fontsize=10.5,
        color=_TEXT,
    )
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=130, format=kind)
    write_whole(path, drawn.getvalue())
    return path


def _data(report: EvalReport) -> str:
    """The judged pictures in a few words."""
    if report.layout is None:
        return f"{report.scenes} held-out SynthRooms scenes"
    return f"{report.scenes} pictures of {report.layout}"


def _cost(row: EvalRow, cost: Cost) -> float:
    return row.gflops if cost == "flops" else row.latency_ms or 0.0


def front(rows: list[EvalRow], cost: Cost) -> list[EvalRow]:
    """The rows that no row of at most their cost equals or beats, cheapest first."""
    kept: list[EvalRow] = []
    sign = 1 if rows[0].higher_is_better else -1
    for row in sorted(rows, key=lambda row: (_cost(row, cost), -sign * row.accuracy.value)):
        if not kept or sign * row.accuracy.value > sign * kept[-1].accuracy.value:
            kept.append(row)
    return kept


def _draw_panel(panel: Axes, rows: list[EvalRow], cost: Cost) -> None:
    first = rows[0]
    others = [row for row in rows if not row.diagonal]
    if others:
        panel.plot(
            [_cost(row, cost) for row in others],
            [row.accuracy.value for row in others],
            ".",
            color=_GRID,
            markersize=3.5,
            zorder=2,
            label="other widths and top_k",
        )
    diagonal = sorted((row for row in rows if row.diagonal), key=lambda row: _cost(row, cost))
    values = [row.accuracy.value for row in diagonal]
    bars = [
        [max(0.0, row.accuracy.value - row.accuracy.low) for row in diagonal],
        [max(0.0, row.accuracy.high - row.accuracy.value) for row in diagonal],
    ]
    costs = [_cost(row, cost) for row in diagonal]
    style: dict[str, Any] = {"color": _LINE, "markersize": 4.5, "linewidth": 1.5, "capsize": 3, "elinewidth": 1.2}
    panel.errorbar(costs, values, yerr=bars, fmt="o-", zorder=3, label="width, all experts", **style)
    best = front(rows, cost)
    panel.step(
        [_cost(row, cost) for row in best],
        [row.accuracy.value for row in best],
        where="post",
        color=_FRONT,
        linewidth=1.1,
        zorder=2.5,
        label="Pareto front",
    )
    panel.axhline(first.trivial, color=_PLAIN, linestyle="--", linewidth=1.2, label="trivial (constant)")
    panel.axhline(first.pixel_mean, color=_PLAIN, linestyle=":", linewidth=1.4, label="per-pixel mean")
    upwards = first.higher_is_better
    for row in diagonal:
        panel.annotate(
            f"{row.configuration.encoder_width:g}",
            (_cost(row, cost), row.accuracy.high if upwards else row.accuracy.low),
            xytext=(0, 4 if upwards else -4),
            textcoords="offset points",
            ha="center",
            va="bottom" if upwards else "top",
            fontsize=7.5,
            color=_LINE,
        )
    unit = {"RMSE": ", m", "mErr": ", degrees"}.get(first.metric, "")
    panel.set_title(
        f"{first.configuration.task}: {first.metric}{unit} ({'higher' if upwards else 'lower'} is better)", fontsize=9.5
    )
    panel.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    panel.set_axisbelow(True)
    panel.tick_params(labelsize=8, colors=_TEXT)
    panel.spines[["top", "right"]].set_visible(False)
    panel.margins(x=0.08, y=0.14)
    panel.set_xlim(left=0)  # widths differ in cost by this much, not by what a cut axis shows
