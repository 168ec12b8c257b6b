"""One number for several tasks: how much better a model is than one single-task model per task."""

from __future__ import annotations

from collections.abc import Mapping

from .errors import EvaluationError

__all__ = ["delta_m"]


def delta_m(scores: Mapping[str, float], single: Mapping[str, float], lower_is_better: frozenset[str]) -> float:
    """Mean relative gain over tasks in percent, positive where the multi-task model is better.

    Source: Maninis et al. 2019 (ASTMT), equation 1: mean of (-1)^l_t (M_t - S_t) / S_t, l_t = 1 where lower is better.

    Args:
        scores: metric of the multi-task model by task.
        single: metric of the single-task models by task.
        lower_is_better: tasks whose metric is an error.

    Raises:
        EvaluationError: the tasks differ, there are none, or a single-task model scores 0.
    """
    if set(scores) != set(single) or not scores:
        raise EvaluationError(f"expected the same tasks, at least one, got {sorted(scores)} and {sorted(single)}")
    if zero := [task for task in scores if single[task] == 0]:
        raise EvaluationError(f"the single-task metric of {zero[0]} is 0; there is no relative gain over it")
    gains = [
        (-1 if task in lower_is_better else 1) * (score - single[task]) / single[task] for task, score in scores.items()
    ]
    return 100 * sum(gains) / len(gains)
