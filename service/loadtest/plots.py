"""A load test, drawn: what became of the requests second by second, how long answers took, what they kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .samples import Sample

COLOURS = {"good": "#2a7f62", "late": "#d9a441", "refused": "#9aa0a6", "failed": "#b3423a"}


def plot_samples(samples: Sequence[Sample], seconds: float, deadline_s: float | None, path: Path, title: str) -> Path:
    """Write the picture; the name's ending says in which format. Needs matplotlib.

    Raises:
        OSError: it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 8), layout="constrained")
    FigureCanvasAgg(figure)
    rates, latency, quality = figure.subplots(3, 1, sharex=True)
    rates.set_title(title, loc="left")
    _draw_rates(rates, samples, seconds, deadline_s)
    _draw_latency(latency, samples, deadline_s)
    _draw_quality(quality, samples)
    quality.set_xlabel("seconds")
    figure.savefig(path, dpi=120)
    return path


def kind_for_plot(sample: Sample, deadline_s: float | None) -> str:
    """Of COLOURS."""
    if sample.kind == "answered":
        return "good" if deadline_s is None or sample.latency_s <= deadline_s else "late"
    return {"refused": "refused", "limited": "refused", "late": "late"}.get(sample.kind, "failed")


def _draw_rates(axes: Any, samples: Sequence[Sample], seconds: float, deadline_s: float | None) -> None:
    edges = np.arange(0.0, np.ceil(seconds) + 1.0)
    bottom = np.zeros(len(edges) - 1)
    for kind, colour in COLOURS.items():
        times = [sample.scheduled_s for sample in samples if kind_for_plot(sample, deadline_s) == kind]
        counts, _ = np.histogram(times, edges)
        axes.bar(edges[:-1], counts, 1.0, bottom, align="edge", color=colour, label=kind, linewidth=0)
        bottom = bottom + counts
    axes.set_ylabel("requests per second")
    axes.legend(loc="upper right", ncols=4, fontsize="small")


def _draw_latency(axes: Any, samples: Sequence[Sample], deadline_s: float | None) -> None:
    for kind, colour in COLOURS.items():
        chosen = [sample for sample in samples if kind_for_plot(sample, deadline_s) == kind]
        times, values = [s.scheduled_s for s in chosen], [max(s.latency_s * 1e3, 0.01) for s in chosen]
        axes.plot(times, values, ".", color=colour, markersize=3)
    if deadline_s is not None:
        axes.axhline(deadline_s * 1e3, color="black", linewidth=1, linestyle="--")
    axes.set_yscale("log")
    axes.set_ylabel("ms until the answer")


def _draw_quality(axes: Any, samples: Sequence[Sample]) -> None:
    known = [(s.scheduled_s, s.quality if s.quality is not None else s.share) for s in samples if s.kind == "answered"]
    points = [(time, value) for time, value in known if value is not None]
    axes.plot([time for time, _ in points], [value for _, value in points], ".", color=COLOURS["good"], markersize=3)
    by_accuracy = any(sample.quality is not None for sample in samples)
    axes.set_ylabel("accuracy kept" if by_accuracy else "share of full FLOPs")
    axes.set_ylim(0, 1.05)
