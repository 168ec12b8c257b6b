"""The picture of `studies.py`: which experts each task uses, a panel per seed and block."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from studies_runs import BASE, TASKS

from slimpath.training.files import write_whole


def trained_shares(run: Mapping[str, Any]) -> np.ndarray:
    """Share of the router mass of each expert after training, over all pictures: [T, L, E]."""
    halves = [run["experts"][name] for name in ("even pictures", "odd pictures")]
    return np.mean([[half[task] for task in TASKS] for half in halves], axis=0)


def draw(runs: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Draw the base's runs of all seeds; darker is more."""
    bases = sorted((run for run in runs if run["variant"] == BASE), key=lambda run: run["seed"])
    shares = [trained_shares(run) for run in bases]
    blocks, most = shares[0].shape[1], max(float(share.max()) for share in shares)
    figure = Figure(figsize=(4.2 * blocks, 1.35 * len(shares) + 0.9), layout="constrained")
    panels = figure.subplots(len(shares), blocks, squeeze=False)
    for row, (run, share_TLE) in enumerate(zip(bases, shares, strict=True)):
        for block in range(blocks):
            _panel(panels[row, block], share_TLE[:, block], most)
            if row == 0:
                panels[row, block].set_title(f"block with experts {block + 1}", fontsize=9)
        panels[row, 0].set_ylabel(f"seed {run['seed']}", fontsize=9)
    figure.suptitle("Share of a task's router weight that each expert gets, %", fontsize=10)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=100, format="png")
    write_whole(path, drawn.getvalue())
    return path


def _panel(panel: Axes, share_TE: np.ndarray, most: float) -> None:
    panel.imshow(share_TE, cmap="Blues", vmin=0, vmax=most, aspect="auto")
    panel.set_yticks(range(len(TASKS)), TASKS, fontsize=8)
    panel.set_xticks(range(share_TE.shape[1]), [str(expert) for expert in range(share_TE.shape[1])], fontsize=7)
    for task, expert in np.ndindex(*share_TE.shape):
        share = share_TE[task, expert]
        color = "white" if share > 0.6 * most else "#333333"
        panel.text(expert, task, f"{100 * share:.0f}", ha="center", va="center", fontsize=7, color=color)
