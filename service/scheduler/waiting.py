"""The requests that wait, in the order in which they will be answered.

1. priority, plus one step for every `aging_s` that it waited: nobody starves
2. clients that had less than their share of the computing
3. the earliest deadline (a request without one: when its patience ends)
"""

from __future__ import annotations

from .fairness import Shares
from .job import Ticket


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
        return sorted(
            tickets,
            key=lambda ticket: (
                -ticket.job.priority - int((now_s - ticket.arrived_s) / aging_s),
                ticket.job.client in later,
                ticket.due_s,
            ),
        )

    def greediest(self, than: str, priority: int) -> Ticket | None:
        """Whom a newcomer may take the place of: the newest ticket of the client with most of them; None if that client
        has no two more than `than`, or all of them a higher priority."""
        most = max((t.client for t in self._tickets.values()), key=self.shares.waiting, default=None)
        for ticket in reversed(self._tickets.values()):
            if ticket.client == most and self.gives_way(ticket, than, priority):
                return ticket
        return None

    def gives_way(self, ticket: Ticket, than: str, priority: int) -> bool:
        """Whether a newcomer of the client `than` may take its place: afterwards that client still has no more."""
        has_more = self.shares.waiting(ticket.client) >= self.shares.waiting(than) + 2
        return has_more and ticket.client != than and ticket.job.priority <= priority
