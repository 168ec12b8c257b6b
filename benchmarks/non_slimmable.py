r"""What being slimmable costs at full width: a network of the same size that was trained for that width alone.

    make train-bundled train-fixed
    python benchmarks/non_slimmable.py runs/bundled/fixed.safetensors --write \
        --pair "The first part alone" runs/bundled/training/model.safetensors runs/bundled/fixed/model.safetensors

Same pictures in the same order, same steps, rates and seeds as the bundled model: only narrower widths and fewer
experts are never trained. Both are judged on the same scenes; intervals come from the same resamples of them.
`--pair` adds pairs of checkpoints.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from method import machine, table
from model_card import trained_parts
from page import command, put_figures

from slimpath.runtime import Bundle, bundled_path
from slimpath.training.bootstrap import Interval
from slimpath.training.eval_kept import Share, gain_share, mean_share
from slimpath.training.eval_runner import Configuration
from slimpath.training.evaluate import Evaluation, run_evaluation

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE, KEPT = DOCS / "models.md", DOCS / "measured" / "non_slimmable.json"
GOAL = 0.98
SCENES = {"rooms": 500, "wide": 200}
FULL = ("width=1",)


@dataclass(frozen=True)
class Beside:
    """A slimmable network's full width as a share of the other's gain over trivial: mean, and by task.

    `rows`: task, metric, trivial, the other's value, its own, share with interval.
    """

    mean: Interval
    tasks: dict[str, Interval]
    rows: list[list[str]]


def beside(slimmable: Evaluation, fixed: Evaluation) -> Beside:
    """Both evaluations are of the same scenes.

    Raises:
        ValueError: they are not.
    """
    if slimmable.report.source != fixed.report.source or slimmable.report.scenes != fixed.report.scenes:
        raise ValueError(f"{slimmable.report.source} and {fixed.report.source} are not the same scenes")
    ours, theirs, bootstrap = slimmable.evidence, fixed.evidence, slimmable.bootstrap
    rows, shares = [], dict[str, Share]()
    for task, metric in ours.metrics.items():
        trivial = ours.constant[task]
        own, other = ours.sums[_full(slimmable, task)], theirs.sums[_full(fixed, task)]
        share = gain_share(metric, bootstrap, own, other, trivial)
        told = "no better than trivial"
        if share is not None:
            shares[task], told = share, _percent(bootstrap.around(*share))
        values = [f"{bootstrap.interval(metric, sums).value:.3g}" for sums in (trivial, other, own)]
        rows.append([task, f"{metric.name} {'↑' if metric.higher_is_better else '↓'}", *values, told])
    of_tasks = {task: bootstrap.around(*share) for task, share in shares.items()}
    return Beside(mean_share(shares, bootstrap), of_tasks, rows)


def _full(evaluation: Evaluation, task: str) -> Configuration:
    return max((c for c in evaluation.evidence.sums if c.task == task), key=lambda configuration: configuration.extent)


def _percent(share: Interval) -> str:
    return f"{share.value:.1%} ({share.low:.1%} to {share.high:.1%})"


def section(name: str, world: str, found: Beside) -> str:
    """A title and a table."""
    verdict = f", goal {GOAL:.0%}: {'reached' if found.mean.value >= GOAL else 'missed'}"
    rows = [*found.rows, ["**mean**", "", "", "", "", f"**{_percent(found.mean)}**{verdict}"]]
    head = ["task", "metric", "trivial", "not slimmable", "slimmable", "share of its gain over trivial"]
    return f"**{name}**, full width, {SCENES[world]} scenes of the world `{world}`:\n\n{table(head, rows)}"


def words(sections: list[str], parts: Sequence[Mapping[str, Any]]) -> str:
    """What stands between the marks."""
    minutes = " and ".join(f"{part['minutes']:g}" for part in parts)
    pages = "\n".join(sections)
    how = f"one of each kind was made, the one that is not slimmable in {minutes} minutes beside other work"
    return f"{pages}\nIntervals are over scenes, not over trainings: {how}."


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fixed", type=Path, help="a checkpoint that was trained at full width alone")
    parser.add_argument("--pair", nargs=3, action="append", default=[], metavar=("NAME", "SLIMMABLE", "FIXED"))
    parser.add_argument("--cache", type=Path, help="folder for rendered scenes")
    parser.add_argument("--write", action="store_true", help="into docs/models.md")
    arguments = parser.parse_args()
    for path in (arguments.fixed, *(Path(path) for _, *both in arguments.pair for path in both)):
        if not path.is_file():
            parser.error(f"no checkpoint at {path}; `make train-fixed` trains the bundled model's counterpart")
    pairs = [("The bundled model", bundled_path(), arguments.fixed)]
    pairs += [(name, Path(slimmable), Path(fixed)) for name, slimmable, fixed in arguments.pair]
    sections, kept, parts = [], [], []
    for name, slimmable, fixed in pairs:
        for world, scenes in SCENES.items():
            options: dict[str, Any] = {"scenes": scenes, "world": world, "at": FULL, "cache": arguments.cache}
            ours, theirs = run_evaluation(slimmable, **options), run_evaluation(fixed, **options)
            found = beside(ours, theirs)
            fixed_parts = trained_parts(theirs.bundle.manifest)
            parts = parts or fixed_parts
            sections.append(section(name, world, found))
            figures = {"mean": vars(found.mean), "tasks": {task: vars(share) for task, share in found.tasks.items()}}
            kept.append({"name": name, "world": world, **figures, "fixed": fixed_parts})
            print(sections[-1], flush=True)
    if arguments.write:
        text = words(sections, parts)
        put_figures(PAGE, Path(__file__).name, text)
        document = {
            "command": command(),
            "date": time.strftime("%Y-%m-%d"),
            "machine": machine(),
            "weights_sha256": Bundle.open(bundled_path()).manifest.weights.sha256,
            "text": text,
            "pairs": kept,
        }
        KEPT.write_text(json.dumps(document, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
