"""The requests that wait, in the order in which they will be answered.

1. clients that had less than their share of the computing
2. the earliest deadline (a request without one: when its patience ends)
3. in the places that a client has by this: its highest priority

So priorities are among a client's own requests: whoever may send any cannot push strangers back with them. Nobody
starves: for every `aging_s` that it waited a request goes one step ahead of those that came later, also of its client's
requests of one step more priority; having had one's share counts as `SHARE_STEPS` of these.
"""

from __future__ import annotations

from collections.abc import Callable

from .fairness import Shares
from .job import Ticket

SHARE_STEPS = 10


class Waiting:
    """Tickets. Not for several threads at once."""

    def __init__(self, *, aging_s: float, fair_share_s: float, fifo: bool = False) -> None:
        self._aging_s = aging_s
        self._fifo = fifo
        self._tickets: dict[int, Ticket] = {}
        self._sequence = 0
        self.shares = Shares(fair_share_s)

    def __len__(self) -> int:
        return len(self._tickets)

    def __contains__(self, ticket: Ticket) -> bool:
        return ticket.sequence in self._tickets

    def add(self, ticket: Ticket) -> None:
        self._sequence += 1
        ticket.sequence = self._sequence
        self._tickets[self._sequence] = ticket
        self.shares.enter(ticket.client)

    def put_back(self, ticket: Ticket) -> None:
        """After `remove`, as if it had never left; several in the reverse order."""
        self._tickets = dict(sorted({**self._tickets, ticket.sequence: ticket}.items()))
        self.shares.enter(ticket.client)

    def remove(self, ticket: Ticket) -> bool:
        """False if it does not wait here."""
        if self._tickets.pop(ticket.sequence, None) is None:
            return False
        self.shares.leave(ticket.client)
        return True

    def all(self) -> list[Ticket]:
        """In the order in which they came."""
        return list(self._tickets.values())

    def order(self, now_s: float, newcomer: Ticket | None = None) -> list[Ticket]:
        """Who is answered first, second, and so on; first in, first out: the first alone, the queue may be long.

        Args:
            newcomer: put among them as if it waited already.
        """
        if self._fifo:
            return [next(iter(self._tickets.values()))] if self._tickets else []
        tickets = self.all()
        if newcomer is not None:
            tickets.append(newcomer)
        if len(tickets) < 2:
            return tickets
        later = self.shares.had_share()
        aging_s = self._aging_s

        def steps(ticket: Ticket) -> int:
            return int((now_s - ticket.arrived_s) / aging_s)

        tickets.sort(key=lambda ticket: (SHARE_STEPS * (ticket.job.client in later) - steps(ticket), ticket.due_s))
        if any(ticket.job.priority for ticket in tickets):
            _put_higher_priorities_first(tickets, steps)
        return tickets

    def greediest(self, than: str) -> Ticket | None:
        """Whom a newcomer may take the place of: of the client with most tickets the newest of its lowest priority;
        None if that client has no two more than `than`."""
        most = max((t.client for t in self._tickets.values()), key=self.shares.waiting, default=None)
        own = (ticket for ticket in reversed(self._tickets.values()) if ticket.client == most)
        found = min(own, key=lambda ticket: ticket.job.priority, default=None)
        return found if found is not None and self.gives_way(found, than) else None

    def gives_way(self, ticket: Ticket, than: str) -> bool:
        """Whether a newcomer of the client `than` may take its place: afterwards that client still has no more."""
        return ticket.client != than and self.shares.waiting(ticket.client) >= self.shares.waiting(than) + 2


def _put_higher_priorities_first(order: list[Ticket], steps: Callable[[Ticket], int]) -> None:
    """Within the places of each client."""
    places: dict[str, list[int]] = {}
    for place, ticket in enumerate(order):
        places.setdefault(ticket.client, []).append(place)
    for own in places.values():
        ranked = sorted((order[place] for place in own), key=lambda t: (-t.job.priority - steps(t), t.due_s))
        for place, ticket in zip(own, ranked):
            order[place] = ticket
