"""The volume that points dominate: exact, for the handful of tasks and the dozens of points that evaluations have.

Source: While, Bradstreet and Barone 2012, "A Fast Way of Calculating Exact Hypervolumes" (WFG): a point adds its own
box less what the points after it, cut down to that box, dominate.

Axes: P points, D dimensions.
"""

from __future__ import annotations

import numpy as np

__all__ = ["hypervolume", "undominated"]


def hypervolume(points_PD: np.ndarray, reference_D: np.ndarray) -> float:
    """Volume of all places between the reference and a point; larger is better in every dimension.

    Points that are not above the reference in every dimension add nothing.
    """
    above_PD = np.asarray(points_PD, np.float64) - np.asarray(reference_D, np.float64)
    return _volume(undominated(above_PD[(above_PD > 0).all(axis=1)]))


def undominated(points_PD: np.ndarray) -> np.ndarray:
    """Those points that no other equals or exceeds in every dimension; of equal ones the first."""
    points_PD = np.unique(points_PD, axis=0)
    exceeds_PP = np.logical_and.reduce(points_PD[None] >= points_PD[:, None], axis=-1)
    np.fill_diagonal(exceeds_PP, False)
    return points_PD[~exceeds_PP.any(axis=1)]


def _volume(points_PD: np.ndarray) -> float:
    """Of undominated points above 0."""
    if len(points_PD) == 0:
        return 0.0
    if len(points_PD) == 1:
        return float(points_PD[0].prod())
    # The largest in the first dimension first: what is cut down to a point's box then soon is dominated.
    ordered_PD = points_PD[np.argsort(-points_PD[:, 0], kind="stable")]
    if points_PD.shape[1] == 2:
        heights = np.diff(ordered_PD[:, 1], prepend=0)
        return float((ordered_PD[:, 0] * heights).sum())
    total = 0.0
    for number, point_D in enumerate(ordered_PD):
        rest_PD = np.minimum(ordered_PD[number + 1 :], point_D)
        total += float(point_D.prod()) - _volume(undominated(rest_PD))
    return total
