"""docs/evaluation.md and its picture: written from a report, so that no number in it was typed."""

from __future__ import annotations

from pathlib import Path

from .eval_data import edge_distance
from .eval_report import EvalReport
from .files import write_whole
from .synthrooms import VERSIONS

__all__ = ["write_docs_table"]

_PAGE = """\
# How good {subject} is

Written by `{command}`; do not edit.

Measured through the runtime on {data}. Bundle `{bundle}`, weights SHA-256
`{digest}...`. Intervals are 95 % percentile bootstraps over images ({resamples} resamples), those of
differences paired. {configurations}

{meaning}

{table}
![Accuracy against cost, a panel per task]({picture})

{kept}## What is compared

- **trivial** ignores the image: the commonest class, the mean depth, the mean normal, every pixel an edge or salient,
  the commonest room. **per-pixel mean** is the same for each pixel by itself, which knows that floors are below. Both
  were fitted on {fitted_on}.
- **gain over trivial** is relative: value / trivial - 1 where higher is better, 1 - value / trivial where lower is.
  The first claim holds where the lower end of its interval is at least 20 %.
- **gain over narrower** is in the metric's own unit, above 0 where the wider one is better. The second claim holds
  where no interval lies wholly below 0, for every pair of widths.

{paths}- **mIoU**: TP / (TP + FP + FN) of each class, counts summed over the set, mean over classes.
- **RMSE**: in the unit of the data (SynthRooms: metres), over all pixels of the set.
- **mErr**: mean angle in degrees, over all pixels of the set.
- **odsF**: best F-measure with one threshold for the set; thinned answers matched one to one with true edges at most
  {edge_distance:g} diagonals away (pairs counted to within 3 %, see `training/edge_match.py`).
- **maxF**: best F-measure with beta^2 = 0.3 over thresholds .05 to .95, counts summed over the set.
- **accuracy**: share of images with the right room.

## Further figures at full width

{details}
"""

_KEPT = """\
## What a width keeps

{table}

Share of what the full width gains over the trivial answer, mean over tasks; intervals from the same resamples of images
for all of them.

"""

_PATHS = """\
- **all experts** is the value with every expert reachable, **gain over all experts** the difference, paired, in the
  metric's own unit: what it costs that the bundle's expert paths leave experts out.

"""


_ROOMS = """\
{scenes} rendered {what} that nothing was trained on: SynthRooms (`{renderer}`), seeds
{first_seed} to {last_seed}, {height} x {width} pixels, {samples_per_pixel} samples a pixel"""
_ROOMS_MEANING = """\
These are pictures of the kind that it was trained on. They say what a width costs in accuracy, not how good the model
is on photographs."""
_FILES_MEANING = "The network reads {height} x {width} pixels; `slimpath eval` looked at every file before it began."
_DIAGONAL = """\
Widths are encoder and decoder alike, all experts in use; GFLOPs are those of one image with this
task alone."""
_CHOSEN = "The configurations are those that the command names; GFLOPs are those of one image with this task alone."


def write_docs_table(report: EvalReport, path: Path, *, command: str, bundled: bool = False) -> Path:
    """Write the page, and the picture beside it under the same name.

    Args:
        path: of the page, as docs/evaluation.md.
        command: what made the report, as the page quotes it.
        bundled: whether it is about the bundled model.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = report.plot(path.with_suffix(".png"))
    height, width = report.size_hw
    of_rooms = report.first_seed is not None
    data = (
        _ROOMS.format(
            scenes=report.scenes,
            what="rooms" if report.renderer == VERSIONS["rooms"] else "scenes",
            renderer=report.renderer,
            first_seed=report.first_seed,
            last_seed=(report.first_seed or 0) + report.scenes - 1,
            height=height,
            width=width,
            samples_per_pixel=report.samples_per_pixel,
        )
        if of_rooms
        else report.source
    )
    text = _PAGE.format(
        command=command,
        data=data,
        meaning=_ROOMS_MEANING if of_rooms else _FILES_MEANING.format(height=height, width=width),
        configurations=_CHOSEN if report.at else _DIAGONAL,
        bundle=report.bundle,
        digest=report.weights_sha256[:16],
        subject="the bundled model" if bundled else f"`{report.bundle}`",
        resamples=report.resamples,
        table=report.to_markdown(),
        kept=_kept(report),
        paths=_PATHS if any(row.paths_gain for row in report.shown) else "",
        picture=picture.name,
        fitted_on=report.fitted_on,
        edge_distance=edge_distance(report.layout),
        details=_details(report),
    )
    write_whole(path, text.encode())
    return path


def _kept(report: EvalReport) -> str:
    columns, lines = report.kept_table()
    if not lines:
        return ""
    rows = [columns, ["---"] * len(columns), *lines]
    return _KEPT.format(table="\n".join(f"| {' | '.join(row)} |" for row in rows))


def _details(report: EvalReport) -> str:
    lines = ["| task | figures |", "|---|---|"]
    for task in report.tasks:
        figures = [f"{name} {value:.3g}" for name, value in report.widest(task).details.items()]
        if figures:
            lines.append(f"| {task} | {', '.join(figures)} |")
    return "\n".join(lines)
