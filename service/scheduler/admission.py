"""Who is accepted. To be told at once that it cannot be done is worth more than to be told when it is too late.

A request is refused if, with everybody answered by the narrowest plan allowed, it would be late, or would make one late
that was accepted before it (unless that is the same client's, and of a lower priority). Refusing asks nothing of the
engine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .choice import Menu
from .errors import Refused
from .forecast import Forecast, forecast
from .job import Ticket
from .waiting import Waiting

LEAST_RETRY_S = 0.05
MAX_DISPLACED = 4


@dataclass(frozen=True)
class Refusal:
    """Why not, and when it may be worth trying again.

    Args:
        harmed: the first ticket that would be late because of it.
    """

    reason: str
    retry_after_s: float
    per_client: bool = False
    hint: str = ""
    harmed: Ticket | None = None

    def error(self) -> Refused:
        retry_after_s = max(self.retry_after_s, LEAST_RETRY_S)
        return Refused(self.reason, retry_after_s=retry_after_s, per_client=self.per_client, hint=self.hint)


def refusal(newcomer: Ticket, waiting: Waiting, free_s: Sequence[float], now_s: float, menu: Menu, limit: int) -> (
    Refusal | None
):  # fmt: skip
    """Why a request cannot be accepted; None if it can.

    Args:
        free_s: when each runner is free, at least one.
        limit: of requests that may wait.
    """
    if len(waiting) >= limit:
        backlog_s = sum(menu.least_s(ticket.ladder) for ticket in waiting.all()) / len(free_s)
        return Refusal(f"the queue is full: {limit} requests wait", backlog_s / 2)
    if not newcomer.has_deadline and not any(ticket.has_deadline for ticket in waiting.all()):
        return None
    order = waiting.order(now_s, newcomer)
    expected = _at_the_narrowest(order, free_s, menu)
    if not expected.missed:
        return None
    place = order.index(newcomer)
    if place in expected.missed and newcomer.has_deadline:
        return _would_be_late(newcomer, expected.finish_s[place], now_s, menu)
    victims = [order[missed] for missed in expected.missed if _counts(order[missed], newcomer)]
    if victims:
        before = waiting.order(now_s)
        late_anyway = {before[missed] for missed in _at_the_narrowest(before, free_s, menu).missed}
        harmed = [ticket for ticket in victims if ticket not in late_anyway]
        if harmed:
            over_s = max(expected.finish_s[order.index(ticket)] - ticket.due_s for ticket in harmed)
            return Refusal("accepting it would make others late that were accepted before", over_s, harmed=harmed[0])
    return None


def make_room(
    newcomer: Ticket, waiting: Waiting, reason: Refusal, still_refused: Callable[[], Refusal | None]
) -> tuple[list[Ticket], Refusal | None]:
    """Let a client that has less take the place of those that have more.

    Args:
        reason: why it was refused.
        still_refused: asks again; called after each ticket that was taken out of `waiting`.

    Returns:
        Those that lost their place, and None; or nobody, everything as it was, and why it does not help.
    """
    taken: list[Ticket] = []
    found: Refusal | None = reason
    while len(taken) < MAX_DISPLACED:
        victim = found.harmed
        if victim is None or not waiting.gives_way(victim, newcomer.client):
            victim = waiting.greediest(newcomer.client)
        if victim is None:
            break
        waiting.remove(victim)
        taken.append(victim)
        found = still_refused()
        if found is None:
            return taken, None
    for victim in reversed(taken):
        waiting.put_back(victim)
    return [], reason


def _at_the_narrowest(order: Sequence[Ticket], free_s: Sequence[float], menu: Menu) -> Forecast:
    return forecast(order, [menu.least_s(ticket.ladder) for ticket in order], free_s, menu.costs.margin)


def _counts(ticket: Ticket, newcomer: Ticket) -> bool:
    """Whether its being late speaks against the newcomer: nobody's priority takes from another client."""
    if ticket is newcomer or not ticket.has_deadline:
        return False
    return ticket.client != newcomer.client or ticket.job.priority >= newcomer.job.priority


def _would_be_late(newcomer: Ticket, finish_s: float, now_s: float, menu: Menu) -> Refusal:
    needed_s = menu.least_s(newcomer.ladder) * menu.costs.margin
    left_ms = math.floor((newcomer.due_s - now_s) * 1e3)
    if needed_s > newcomer.due_s - now_s:
        return Refusal(
            f"its deadline leaves {left_ms} ms, and its quickest plan takes {math.ceil(needed_s * 1e3)} ms",
            1.0,
            hint="allow more time, or ask for fewer tasks",
        )
    in_ms = math.ceil((finish_s - now_s) * 1e3)
    return Refusal(
        f"its deadline leaves {left_ms} ms, and it would be answered in {in_ms} ms at the earliest",
        finish_s - newcomer.due_s,
        hint="retry later, or allow more time",
    )
