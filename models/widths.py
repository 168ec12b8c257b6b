"""Nested widths: how many units a width keeps, and which widths are the same.

A width is the share of heads and hidden units that is kept. A narrow model is a prefix of every wider one
(Yu et al., Slimmable Neural Networks; Devvrit et al., MatFormer), so one set of weights serves them all.
"""

import math
from collections.abc import Iterable, Sequence

from .errors import ConfigError

DEFAULT_WIDTHS: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)


def kept(units: int, width: float) -> int:
    """Number of units that `width` keeps of `units`: max(1, ceil(width * units)).

    Raises:
        ConfigError: `width` is outside (0, 1] or `units` is not positive.
    """
    if units < 1:
        raise ConfigError(f"a layer needs at least 1 unit, got {units}")
    if not 0.0 < width <= 1.0:
        raise ConfigError(f"a width is a share in (0, 1], got {width}")
    # 0.1 * 30 is 3.0000000000000004: without the rounding a width would keep one unit too many.
    return max(1, math.ceil(round(width * units, 9)))


def check_widths(widths: Iterable[float]) -> tuple[float, ...]:
    """Sort widths, drop repeats and make sure that the full width is among them.

    Raises:
        ConfigError: a width lies outside (0, 1], or 1 is missing.
    """
    ordered = tuple(sorted({float(width) for width in widths}))
    for width in ordered:
        kept(1, width)
    if not ordered or ordered[-1] != 1.0:
        raise ConfigError(f"the widths must include 1, the full model, got {ordered}")
    return ordered


def merged_widths(widths: Sequence[float], unit_counts: Sequence[int]) -> tuple[float, ...]:
    """Widths that differ in at least one layer; of equal ones the smallest stands for all, full width is kept.

    Args:
        widths: Ascending widths.
        unit_counts: Full number of units of every slimmable layer kind (heads, hidden units, ...).
    """
    by_units: dict[tuple[int, ...], float] = {}
    for width in check_widths(widths):
        key = tuple(kept(units, width) for units in unit_counts)
        if key not in by_units or width == 1.0:
            by_units[key] = width
    return tuple(sorted(by_units.values()))
