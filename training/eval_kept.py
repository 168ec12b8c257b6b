"""How much of the full width's answers a narrower width keeps, over all tasks.

Of a task (value - trivial) / (value at full width - trivial): 1 for the full width, 0 for the answer that ignores the
picture, whichever way the metric goes. Mean over tasks; its interval from the same resamples of images for every
task, width and baseline.

Axes: I images, S sums of a metric, N resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .bootstrap import Bootstrap, Interval
from .eval_measure import Evidence
from .eval_rows import Kept
from .eval_runner import Configuration
from .metrics import Metric

__all__ = ["Share", "gain_share", "kept_shares", "mean_share"]

Share = tuple[float, np.ndarray]
"""On all images, and on each resample [N]."""


def kept_shares(diagonal: Sequence[Configuration], evidence: Evidence, bootstrap: Bootstrap) -> list[Kept]:
    """One entry a width that every task was measured at, narrow to wide, without the widest; a task that does no better
    than trivially at full width has nothing to keep and is left out."""
    of_task: dict[str, dict[float, Configuration]] = {}
    for chosen in diagonal:
        of_task.setdefault(chosen.task, {})[chosen.encoder_width] = chosen
    if not of_task:
        return []
    widths = sorted(set.intersection(*(set(found) for found in of_task.values())))
    kept = []
    for width in widths[:-1]:
        shares = {task: _share(found[width], found[widths[-1]], evidence, bootstrap) for task, found in of_task.items()}
        known = {task: share for task, share in shares.items() if share is not None}
        if known:
            kept.append(Kept(width, mean_share(known, bootstrap), {task: value for task, (value, _) in known.items()}))
    return kept


def mean_share(shares: Mapping[str, Share], bootstrap: Bootstrap) -> Interval:
    """Over tasks, each as heavy as the others."""
    value = float(np.mean([value for value, _ in shares.values()]))
    return bootstrap.around(value, np.mean([values_N for _, values_N in shares.values()], axis=0))


def gain_share(
    metric: Metric, bootstrap: Bootstrap, sums_IS: np.ndarray, best_IS: np.ndarray, trivial_IS: np.ndarray
) -> Share | None:
    """The share of the best one's gain over trivial; None where that one does no better than trivially."""
    (value, values_N), (best, bests_N), (trivial, trivials_N) = (
        bootstrap.values(metric, sums) for sums in (sums_IS, best_IS, trivial_IS)
    )
    if (best - trivial) * (1 if metric.higher_is_better else -1) <= 0:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        return (value - trivial) / (best - trivial), (values_N - trivials_N) / (bests_N - trivials_N)


def _share(narrow: Configuration, full: Configuration, evidence: Evidence, bootstrap: Bootstrap) -> Share | None:
    sums, task = evidence.sums, narrow.task
    return gain_share(evidence.metrics[task], bootstrap, sums[narrow], sums[full], evidence.constant[task])
