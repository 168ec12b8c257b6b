"""delta_m of an evaluation against single-task models, whose evaluations are read from JSON; several give the spread.

Compared are the figures of the published definition (Vandenhende et al., Multi-Task-Learning-PyTorch): mIoU of classes
and of saliency, mean angle of normals, RMSE of depth, odsF of edges; beyond it, the accuracy of image classes.

Axes: N resamples.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from .bootstrap import Interval
from .errors import EvaluationError
from .eval_runner import Configuration
from .evaluate import Evaluation
from .relative import delta_m

__all__ = ["DeltaReport", "DeltaRow", "against", "read_references"]

COMPARED = {"saliency": "mIoU"}
"""Tasks of which another figure than the metric is compared."""


@dataclass(frozen=True)
class DeltaRow:
    """One configuration of all tasks against the references.

    Args:
        value: delta_m in percent against the mean of every task's references; above 0 is better.
        low, high: its 95 % interval over images, the references taken as exact.
        runs: delta_m against the first reference of every task, the second, and so on.
        deviation: of the runs, with n - 1; None of one run.
        gains: of each task, percent.
    """

    encoder_width: float
    top_k: int
    decoder_width: float
    precision: str
    value: float
    low: float
    high: float
    runs: tuple[float, ...]
    deviation: float | None
    gains: dict[str, float]


@dataclass(frozen=True)
class DeltaReport:
    """delta_m of every configuration that was measured for all of `tasks`.

    `references` are the values by task, in the order of the files; `left_out` are measured tasks without any.
    """

    tasks: tuple[str, ...]
    left_out: tuple[str, ...]
    references: dict[str, tuple[float, ...]]
    rows: tuple[DeltaRow, ...]

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Column names and a line per configuration."""
        columns = ["width", "top_k", "decoder", "delta_m", "95 % interval", "over references", *self.tasks]
        lines = []
        for row in self.rows:
            spread = "" if row.deviation is None else f"{min(row.runs):+.2f} to {max(row.runs):+.2f}"
            spread += "" if row.deviation is None else f", deviation {row.deviation:.2f}"
            lines.append(
                [
                    f"{row.encoder_width:g}",
                    f"{row.top_k}",
                    f"{row.decoder_width:g}",
                    f"{row.value:+.2f} %",
                    f"{row.low:+.2f} to {row.high:+.2f}",
                    spread,
                    *(f"{row.gains[task]:+.2f} %" for task in self.tasks),
                ]
            )
        return columns, lines


def read_references(paths: Sequence[Path], source: str, metrics: Mapping[str, str]) -> dict[str, tuple[float, ...]]:
    """What the fullest configuration of each file scored, by task; equally many values of every task.

    Args:
        paths: what `slimpath eval --json` printed: one file for all tasks, or one per task; as many of each as seeds.
        source: what was judged; the references must have judged the same.
        metrics: name of the metric of every task that is compared.

    Raises:
        EvaluationError: a file is no evaluation, judged something else or scored 0, or tasks have different numbers
            of values.
    """
    found: dict[str, list[float]] = {}
    for path in paths:
        document = _read(path)
        if document["source"] != source:
            raise EvaluationError(f"{path} was measured on {document['source']}, this on {source}; measure both alike")
        for task, row in _fullest(document["rows"]).items():
            if task in metrics:
                found.setdefault(task, []).append(_value(path, task, row, metrics[task]))
    if not found:
        raise EvaluationError(f"the references have none of {', '.join(metrics)}")
    counts = {task: len(values) for task, values in found.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{count} of {task}" for task, count in counts.items())
        raise EvaluationError(f"every task needs as many references as the others, got {listed}")
    return {task: tuple(values) for task, values in found.items()}


def _read(path: Path) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(path.read_bytes())
        rows = document["rows"]
        if not isinstance(document["source"], str) or not rows or not all(isinstance(row, dict) for row in rows):
            raise TypeError
        for row in rows:
            _size(row)
    except (msgspec.DecodeError, LookupError, TypeError, ValueError, OverflowError) as error:
        raise EvaluationError(f"{path} is not what `slimpath eval --json` prints; make it with that") from error
    return document


def _fullest(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of every task the row with the widest encoder, most experts and widest decoder."""
    best: dict[str, dict[str, Any]] = {}
    for row in rows:
        task = str(row.get("task"))
        if task not in best or _size(row) > _size(best[task]):
            best[task] = row
    return best


def _size(row: Mapping[str, Any]) -> tuple[float, ...]:
    return tuple(float(row.get(part, 0)) for part in ("encoder_width", "top_k", "decoder_width"))


def _value(path: Path, task: str, row: Mapping[str, Any], metric: str) -> float:
    """The figure that is compared."""
    try:
        if row["metric"] != metric:
            raise EvaluationError(f"{path} has {row['metric']} of '{task}', this {metric}")
        value = float(row["details"][COMPARED[task]] if task in COMPARED else row["accuracy"]["value"])
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise EvaluationError(
            f"{path} lacks the {COMPARED.get(task, metric)} of '{task}'; measure it again with this version"
        ) from error
    if value == 0:
        raise EvaluationError(f"{path}: the single-task metric of {task} is 0; there is no relative gain over it")
    return value


def against(evaluation: Evaluation, references: Mapping[str, tuple[float, ...]]) -> DeltaReport:
    """delta_m of every configuration against what `read_references` found."""
    metrics = evaluation.evidence.metrics
    groups: dict[tuple[float, int, float, str], dict[str, Configuration]] = {}
    for row in evaluation.report.shown:
        chosen = row.configuration
        key = (chosen.encoder_width, chosen.top_k, chosen.decoder_width, chosen.precision)
        groups.setdefault(key, {})[chosen.task] = chosen
    tasks = tuple(task for task in metrics if task in references)
    rows = [
        _row(evaluation, key, {task: group[task] for task in tasks}, references)
        for key, group in groups.items()
        if all(task in group for task in tasks)
    ]
    return DeltaReport(tasks, tuple(task for task in metrics if task not in references), dict(references), tuple(rows))


def _row(
    evaluation: Evaluation,
    key: tuple[float, int, float, str],
    chosen: Mapping[str, Configuration],
    references: Mapping[str, Sequence[float]],
) -> DeltaRow:
    metrics, sums = evaluation.evidence.metrics, evaluation.evidence.sums
    found = {
        task: evaluation.bootstrap.of(metrics[task].compared, sums[configuration])
        for task, configuration in chosen.items()
    }
    scores = {task: value for task, (value, _) in found.items()}
    lower = frozenset(task for task in chosen if not metrics[task].higher_is_better)
    means = {task: statistics.fmean(references[task]) for task in chosen}
    value = delta_m(scores, means, lower)
    count = len(next(iter(references.values())))
    runs = tuple(delta_m(scores, {task: references[task][run] for task in chosen}, lower) for run in range(count))
    values_N = np.mean([_gain(values_N, means[task], task in lower) for task, (_, values_N) in found.items()], axis=0)
    interval: Interval = evaluation.bootstrap.around(value, values_N)
    return DeltaRow(
        *key,
        value,
        interval.low,
        interval.high,
        runs,
        statistics.stdev(runs) if count > 1 else None,
        {task: float(_gain(np.float64(scores[task]), means[task], task in lower)) for task in chosen},
    )


def _gain(values: Any, single: float, lower_is_better: bool) -> Any:
    """Relative gain in percent, of one value or of many."""
    return (-100 if lower_is_better else 100) * (values - single) / single
