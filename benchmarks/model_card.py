"""The tables of the bundled model's card: `python benchmarks/model_card.py`, from its manifest into docs/models.md.

With `--samples DIR` also its best and worst samples, of `slimpath eval --scenes 100 --pictures DIR`, into docs/images.

The manifest says what it was trained on and how long, and holds the accuracies that the planner works with; nothing in
the tables was typed.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from method import table
from page import with_figures
from small_jpeg import jpeg

from slimpath.runtime import Bundle, bundled_path
from slimpath.runtime.bundles.manifest import FULL_PRECISION, Accuracy, Manifest
from slimpath.runtime.imaging.images import load_image
from slimpath.runtime.planning.worth import quality
from slimpath.training.eval_control import control_table, controllability

PAGE = Path(__file__).resolve().parent.parent / "docs" / "models.md"

GOALS = {0.5: 0.97, 0.25: 0.90}  # mean share that a width is to keep
SAMPLES_OF = ("semseg", "normals", "edge")
BUDGETS = (0.4, 0.6, 0.8, 1.0)


def card(bundle: Bundle) -> str:
    """What stands between the marks."""
    manifest = bundle.manifest
    megabytes = sum((bundle.path / name).stat().st_size for name in manifest.files) / 1e6
    return "\n".join([_provenance(manifest, megabytes), _accuracies(manifest), _control(manifest)]).rstrip()


def _provenance(manifest: Manifest, megabytes: float) -> str:
    """The weights, and every part of their training in order."""
    parts = trained_parts(manifest)
    head = ["", *(["as the manifest has it"] if len(parts) == 1 else ["first", *["then"] * (len(parts) - 1)])]
    rows = [list(cells) for cells in zip(("data", "trained", "time", "rate"), *map(_part, parts), strict=True)]
    weights = f"weights: SHA-256 `{manifest.weights.sha256[:16]}...`, {megabytes:.1f} MB in all"
    widths = f"widths: {', '.join(f'{width:g}' for width in manifest.widths)}; 1 to {manifest.encoder.top_k} experts"
    return f"""{table(head, rows)}
- {weights}{_share(manifest)}
- {widths}
- licence: {manifest.licence}
"""


def trained_parts(manifest: Manifest) -> list[dict[str, Any]]:
    """What the manifest says of every part of the training, in order."""
    parts = [dict(manifest.provenance)]
    while before := parts[0].pop("started_from", None):
        parts.insert(0, dict(before))
    return parts


def _share(manifest: Manifest) -> str:
    """Where on the way from the first to the last part the weights lie."""
    between = manifest.provenance.get("between")
    return "" if between is None else f"; {between['share']:g} of the way from the first part's to the last one's"


def _part(known: Mapping[str, Any]) -> tuple[str, ...]:
    """Data, length, time and rate of one training."""
    training = known["training"]
    data = training["data"]
    sizes = ", then ".join("{} x {}".format(*stage["image_hw"]) for stage in training["stages"])
    return (
        f"{known['data']}, {data['scenes']} scenes of {data['render_hw'][0]} x {data['render_hw'][1]}",
        f"`{known['trained_by']}`, {known['step']} of {known['steps']} steps at {sizes} pixels",
        f"{known['minutes']:g} minutes on {training['device']}, {training['precision']}",
        f"{training['lr']:g} to {training['lr_end']:g}, {training['schedule']}, seed {training['seed']}",
    )


def _accuracies(manifest: Manifest) -> str:
    """Every task at every width, decoder as wide, all experts; and what of the full width is kept."""
    points = [
        point
        for point in manifest.accuracies
        if point.precision == FULL_PRECISION
        and point.top_k == (manifest.encoder.top_k if manifest.is_moe else 0)
        and point.decoder_width == point.encoder_width
        and (point.size_hw or manifest.sizes[0]) == manifest.sizes[0]
    ]
    rows, kept = [], dict.fromkeys(manifest.widths, 0.0)
    for task in manifest.task_names:
        of_width = {point.encoder_width: point for point in points if point.task == task}
        full = of_width[max(of_width)]
        shares = {width: quality(point, full) for width, point in of_width.items()}
        for width, share in shares.items():
            kept[width] += share / len(manifest.tasks)
        arrow = "↑" if full.higher_is_better else "↓"
        values = [_cell(of_width[width], shares[width]) for width in manifest.widths]
        rows.append([task, f"{full.metric} {arrow}", f"{full.trivial:.3g}", *values])
    rows.append(["mean share", "", "0 %", *(_kept(width, share) for width, share in kept.items())])
    head = ["task", "metric", "trivial", *(f"width {width:g}" for width in manifest.widths)]
    return f"""{table(head, rows)}
Measured on {_sources(points)},
with 95 % intervals; in brackets the share of the full width's value that is kept, 0 % being the trivial answer.
"""


def _control(manifest: Manifest) -> str:
    """What preferences reach at fixed budgets, of the same accuracies."""
    columns, lines = control_table(controllability(manifest, BUDGETS))
    return f"""{table(columns, lines)}
Control: what the planner reaches over preferences at these shares of the full FLOPs; 0 is the trivial answer, 1 a
perfect one ([measuring.md](measuring.md)). More budget need not mean more volume: on so few pictures a narrow
configuration can measure better by chance, and the planner holds what lies within an interval for equal.
"""


def _cell(point: Accuracy, share: float) -> str:
    return f"{point.value:.3g}, {point.ci_low:.3g} to {point.ci_high:.3g} ({100 * share:.0f} %)"


def _kept(width: float, share: float) -> str:
    goal = GOALS.get(width)
    verdict = "" if goal is None else f", goal {goal:.0%}: {'reached' if share >= goal else 'missed'}"
    return f"**{100 * share:.1f} %**{verdict}"


def _sources(points: Sequence[Accuracy]) -> str:
    return "; ".join(dict.fromkeys(f"{point.samples} pictures of {point.source}" for point in points))


def with_card(page: str, text: str) -> str:
    """The page with other tables between its marks."""
    return with_figures(page, Path(__file__).name, text)


def write_samples(folder: Path) -> None:
    """The sheets that the card shows, small enough for a repository."""
    for task in SAMPLES_OF:
        sheet = load_image(folder / f"samples-{task}.png").rgb
        (PAGE.parent / "images" / f"samples-{task}.jpg").write_bytes(jpeg(sheet))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=Path, metavar="DIR", help="what `slimpath eval --pictures DIR` drew")
    arguments = parser.parse_args()
    if arguments.samples is not None:
        write_samples(arguments.samples)
    PAGE.write_text(with_card(PAGE.read_text(encoding="utf-8"), card(Bundle.open(bundled_path()))), encoding="utf-8")


if __name__ == "__main__":
    main()
