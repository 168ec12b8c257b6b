"""The sums behind docs/studies.md: gains, spreads and intervals over the runs of `studies.py`.

Gains are in percent, averaged over tasks (delta_m), above 0 whichever way a metric goes, and between runs of one seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from merging_suite import metrics
from scipy.stats import t as student
from studies_runs import BASE, SINGLES, TASKS

from slimpath.training.relative import delta_m

ALONE = "single-task networks"
LOWER = frozenset(task for task, judge in metrics(TASKS).items() if not judge.higher_is_better)


@dataclass(frozen=True)
class Results:
    """The runs of a document, by variant and seed."""

    document: Mapping[str, Any]

    @property
    def widths(self) -> list[str]:
        """As the runs name them, narrow first."""
        return list(self.document["runs"][0]["widths"])

    def seeds(self, variant: str) -> list[int]:
        """Those of a variant, ascending."""
        name = SINGLES[TASKS[0]] if variant == ALONE else variant
        return sorted(run["seed"] for run in self.document["runs"] if run["variant"] == name)

    def run(self, variant: str, seed: int) -> Mapping[str, Any]:
        """One run."""
        return next(run for run in self.document["runs"] if (run["variant"], run["seed"]) == (variant, seed))

    def values(self, variant: str, seed: int, width: str = "1") -> dict[str, float]:
        """The metric of every task; those of the single-task networks are put together."""
        if variant != ALONE:
            return dict(self.run(variant, seed)["widths"][width])
        return {task: self.run(name, seed)["widths"][width][task] for task, name in SINGLES.items()}

    def gains(self, variant: str, other: str, width: str = "1") -> list[float]:
        """Gain over the other at the same width, seed by seed."""
        return [
            delta_m(self.values(variant, seed, width), self.values(other, seed, width), LOWER)
            for seed in self.seeds(variant)
        ]

    def kept(self, variant: str, width: str) -> list[float]:
        """Share in percent of the full-width score that a width keeps, 0 being the trivial answer: mean over tasks, a
        figure a seed. Not a number where full width is no better than the trivial answer."""
        found = []
        for seed in self.seeds(variant):
            narrow, full, none = self.values(variant, seed, width), self.values(variant, seed), self.document["trivial"]
            spans = {task: full[task] - none[task] for task in TASKS}
            learnt = all((spans[task] < 0) == (task in LOWER) and spans[task] != 0 for task in TASKS)
            shares = [100 * (narrow[task] - none[task]) / spans[task] for task in TASKS] if learnt else [np.nan]
            found.append(float(np.mean(shares)))
        return found

    def training_s(self, variant: str, seed: int) -> int:
        """CPU seconds of a training; of all three for the single-task networks."""
        names = SINGLES.values() if variant == ALONE else (variant,)
        return sum(self.run(name, seed)["training_cpu_s"] for name in names)

    def noise(self) -> float:
        """Standard deviation, in percent, of the base over seeds, as a gain over its own mean."""
        values = [self.values(BASE, seed) for seed in self.seeds(BASE)]
        mean = {task: float(np.mean([value[task] for value in values])) for task in TASKS}
        gains = [delta_m(value, mean, LOWER) for value in values]
        return float(np.std(gains, ddof=1)) if len(gains) > 1 else 0.0

    def top_k_changes(self, variant: str, top_k: int) -> list[float]:
        """Gain over the top_k of the training, seed by seed."""
        trained = str(self.document["network"]["top_k"])
        found = [self.run(variant, seed)["top_k"] for seed in self.seeds(variant)]
        return [delta_m(values[str(top_k)], values[trained], LOWER) for values in found]

    def distances(self, block: int) -> dict[str, list[float]]:
        """How far expert shares lie apart in the base, seed by seed (see `apart`): between tasks, mean over their
        pairs, and of one task between two halves of the pictures, mean over tasks."""
        found: dict[str, list[float]] = {"untrained": [], "trained": [], "halves": []}
        for seed in self.seeds(BASE):
            experts = self.run(BASE, seed)["experts"]
            even, odd = experts["even pictures"], experts["odd pictures"]
            found["untrained"].append(_between_tasks(experts["untrained"], block))
            found["trained"].append(float(np.mean([_between_tasks(half, block) for half in (even, odd)])))
            found["halves"].append(float(np.mean([apart(even[task][block], odd[task][block]) for task in TASKS])))
        return found

    def blocks(self) -> int:
        """Number of blocks with experts."""
        return len(self.run(BASE, self.seeds(BASE)[0])["experts"]["untrained"][TASKS[0]])


def apart(one: Sequence[float], other: Sequence[float]) -> float:
    """How differently experts are used: half of the sum of absolute differences of their shares, 0 for the same use
    and 1 for no expert in common."""
    return float(np.abs(np.subtract(one, other)).sum() / 2)


def _between_tasks(shares: Mapping[str, Sequence[Sequence[float]]], block: int) -> float:
    return float(np.mean([apart(shares[one][block], shares[other][block]) for one, other in combinations(TASKS, 2)]))


def interval(gains: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean (Student's t): with three seeds it reaches 2.5 standard deviations to either side."""
    if len(gains) < 2:
        return -np.inf, np.inf
    half = student.ppf(0.975, len(gains) - 1) * np.std(gains, ddof=1) / np.sqrt(len(gains))
    return float(np.mean(gains) - half), float(np.mean(gains) + half)


def told(gains: Sequence[float]) -> str:
    """What the interval says."""
    low, high = interval(gains)
    return "better" if low > 0 else "worse" if high < 0 else "not told apart"
