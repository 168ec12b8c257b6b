"""When waiting requests will be answered, if the runners take them in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import sqrt

from .job import Ticket

ROUNDING_S = 1e-9


@dataclass
class Forecast:
    """What is expected to happen.

    Args:
        finish_s: when each ticket is answered, in their order.
        missed: places of the tickets that are late then.
    """

    finish_s: list[float]
    missed: list[int]


def forecast(order: Sequence[Ticket], seconds: Sequence[float], free_s: Sequence[float], margin: float) -> Forecast:
    """Answer tickets one by one, each on the runner that is free first.

    Args:
        seconds: what each ticket takes, the median.
        free_s: when each runner is free.
        margin: 95th percentile over median of a call. A ticket counts as late unless there is room for this. Calls
            before it are as often quicker as slower: deviations of several grow with the square root of their number.
    """
    finish_s: list[float] = []
    missed: list[int] = []
    for place, (finish, in_time) in enumerate(_answers(order, seconds, free_s, margin)):
        finish_s.append(finish)
        if not in_time:
            missed.append(place)
    return Forecast(finish_s, missed)


def all_in_time(order: Sequence[Ticket], seconds: Sequence[float], free_s: Sequence[float], margin: float) -> bool:
    """Whether `forecast` finds nobody late; ends at the first who is."""
    return all(in_time for _, in_time in _answers(order, seconds, free_s, margin))


def _answers(
    order: Sequence[Ticket], seconds: Sequence[float], free_s: Sequence[float], margin: float
) -> Iterator[tuple[float, bool]]:
    """When each is answered, and whether that is in time."""
    free = list(free_s)
    single = len(free) == 1
    over = margin - 1.0
    for place, (ticket, cost) in enumerate(zip(order, seconds)):
        runner = 0 if single else free.index(min(free))
        free[runner] = finish = free[runner] + cost
        yield finish, finish + over * cost * sqrt(1 + place / len(free)) <= ticket.due_s + ROUNDING_S
