"""The scheduler without threads, clocks and event loops: what is accepted, what runs next, what was learnt.

Every method is told the time. `scheduler.Scheduler` calls it under one lock, the tests in simulated time.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from ..settings import SchedulerSettings
from .admission import Refusal, make_room, refusal
from .arrivals import Arrivals
from .choice import Batch, Menu, choose
from .costs import Costs
from .errors import Late, Refused, Unavailable
from .fleet import Fleet
from .job import State, Ticket
from .waiting import Waiting

PROBE_EVERY_S = 1.0
HOLDING_LOAD = 0.5  # of all runners: below, nobody is likely to come in the milliseconds that a request may be held
WORTH_HOLDING = 0.97
CLIENT_RETRY_S = 0.25
EXPECTED_S = 1.0  # from a check to its request; decoding takes less


@dataclass(frozen=True)
class Take:
    """What a free runner is to do.

    Args:
        batch: to run; None: nothing, and to ask again after `wait_s` (None: when something comes).
        late: tickets that can no longer be answered in time.
    """

    batch: Batch | None
    late: list[Ticket] = field(default_factory=list)
    wait_s: float | None = None


class Desk:
    """Not for several threads at once.

    Args:
        runners: engine calls at a time.
    """

    def __init__(self, settings: SchedulerSettings, costs: Costs, runners: int) -> None:
        self.settings = settings
        self.costs = costs
        self.fleet = Fleet(runners)
        self.waiting = Waiting(aging_s=settings.aging_s, fair_share_s=settings.fair_share_s, fifo=settings.fifo)
        self.arrivals = Arrivals()  # all of them
        self.urgent = Arrivals()  # those with deadlines: for them plans get narrower
        self.together = Arrivals()  # those that found others here: one client that waits for each answer is not held
        self.counts: Counter[str] = Counter()
        self._held: Counter[str] = Counter()  # waiting or running, by client
        self._probed_s = -math.inf
        self._expected: dict[int, tuple[float, float]] = {}  # by the number of the job: until when, its seconds
        self.narrows = settings.degrade and not settings.pinned_full_width and not settings.fifo

    def accept(self, ticket: Ticket, now_s: float) -> list[Ticket]:
        """Let a request wait; one that was expected (`check`) has come.

        Returns:
            Tickets that had to give it their place; they are to be told (`displaced_error`).

        Raises:
            Refused: it cannot be answered in time, or there is no room.
            Unavailable: no runner answers.
        """
        menu = self._menu()
        self._expected.pop(ticket.job.number, None)
        self._arrived(ticket, now_s, menu)
        displaced: list[Ticket] = []
        if not self.settings.fifo:
            reason = self._refusal(ticket, now_s, menu)
            if reason is not None and not reason.per_client:
                displaced, reason = self._make_room(ticket, now_s, menu, reason)
            if reason is not None and self._may_probe(ticket, now_s):
                reason, ticket.probe, self._probed_s = None, True, now_s
            if reason is not None:
                self.counts["refused"] += 1
                raise reason.error()
        elif not self.fleet.free_s(now_s):
            raise Unavailable("the backend does not answer")
        self.waiting.add(ticket)
        self._held[ticket.client] += 1
        self.counts["accepted"] += 1
        return displaced

    def check(self, ticket: Ticket, now_s: float, decoding: int) -> None:
        """Refuse what `accept` would refuse, without accepting anything: before an image is decoded.

        Those that passed and have not come yet are counted as if they waited before it: in a burst, all would pass
        otherwise, and most be decoded for nothing.

        Args:
            decoding: images that may be under way; no more than these are counted. An image that turns out to be none
                never comes.

        Raises:
            Refused, Unavailable: as `accept`.
        """
        if self.settings.fifo:
            return
        menu = self._menu()
        ticket.due_s -= self._expected_s(now_s, decoding)
        reason = self._refusal(ticket, now_s, menu)
        if reason is None or self._may_be_accepted_yet(ticket, reason, now_s):
            self._expected[ticket.job.number] = now_s + EXPECTED_S, menu.least_s(ticket.ladder)
            return
        self._arrived(ticket, now_s, menu)
        self.counts["refused"] += 1
        raise reason.error()

    def take(self, runner: int, now_s: float) -> Take:
        """What a runner that is free does next."""
        menu = self._menu()
        late = [] if self.settings.fifo else self._drop_hopeless(now_s, menu)
        order = self.waiting.order(now_s)
        if not order:
            return Take(None, late)
        hold_s = self._hold_s(order, now_s)
        if hold_s > 0:
            return Take(None, late, hold_s)
        batch = choose(
            order, self.fleet.free_s(now_s), now_s, menu,
            load=self.urgent.load(now_s), utilisation=self.settings.utilisation,
            max_batch=1 if self.settings.fifo else self.settings.max_batch,
        )  # fmt: skip
        for ticket, rung in zip(batch.tickets, batch.rungs):
            self.waiting.remove(ticket)
            ticket.state = State.RUNNING
            self.waiting.shares.charge(ticket.client, self.costs.alone_s(rung))
        self.fleet.begin(runner, batch, now_s)
        return Take(batch, late)

    def finish(self, runner: int, batch: Batch, seconds: float | None) -> None:
        """A runner is free again.

        Args:
            seconds: what the call took; None where it failed.
        """
        self.fleet.end(runner)
        if seconds is not None:
            self.costs.observe(batch.rungs, seconds)
            self.counts["engine_calls"] += 1
            self.counts["batched"] += len(batch.tickets)

    def settled(self, ticket: Ticket, how: str) -> bool:
        """A ticket got its answer, or none is wanted any more; counted once.

        Returns:
            False if it was settled before.
        """
        if ticket.state is State.SETTLED:
            return False
        self.waiting.remove(ticket)
        ticket.state = State.SETTLED
        self._held[ticket.client] -= 1
        if self._held[ticket.client] <= 0:
            del self._held[ticket.client]
        self.counts[how] += 1
        return True

    def _arrived(self, ticket: Ticket, now_s: float, menu: Menu) -> None:
        """Count what it asks for, accepted or not."""
        work_s = menu.seconds(ticket.ladder)[0]
        self.arrivals.add(now_s, work_s)
        if ticket.has_deadline:
            self.urgent.add(now_s, work_s)
        if len(self.waiting) or self.fleet.busy:
            self.together.add(now_s, work_s)

    def _expected_s(self, now_s: float, most: int) -> float:
        """How long the runners will need for those that were checked and have not come yet."""
        for key in [key for key, (until_s, _) in self._expected.items() if until_s < now_s]:
            del self._expected[key]  # it was given up, or its image was none
        seconds = [seconds for _, seconds in self._expected.values()]
        return sum(seconds[-most:] if most else ()) / self.fleet.count

    def _menu(self) -> Menu:
        return Menu(self.costs, narrows=self.narrows)

    def _free_s(self, now_s: float) -> list[float]:
        free_s = self.fleet.free_s(now_s)
        if not free_s:
            raise Unavailable("the backend does not answer")
        return free_s

    def _refusal(self, ticket: Ticket, now_s: float, menu: Menu) -> Refusal | None:
        reason = self._no_room_for(ticket.client)
        if reason is not None:
            return reason
        return refusal(ticket, self.waiting, self._free_s(now_s), now_s, menu, self.settings.queue_limit)

    def _no_room_for(self, client: str) -> Refusal | None:
        most = self.settings.per_client_limit
        if self._held[client] < most:
            return None
        return Refusal(f"{most} requests of this client wait or run already", CLIENT_RETRY_S, per_client=True)

    def _make_room(
        self, ticket: Ticket, now_s: float, menu: Menu, reason: Refusal
    ) -> tuple[list[Ticket], Refusal | None]:
        return make_room(ticket, self.waiting, reason, lambda: self._refusal(ticket, now_s, menu))

    def _may_be_accepted_yet(self, ticket: Ticket, reason: Refusal, now_s: float) -> bool:
        """Whether another may have to give way to it, or it may be tried although it will be late."""
        gives_way = self.waiting.greediest(ticket.client) is not None
        return (gives_way and not reason.per_client) or self._may_probe(ticket, now_s)

    def _may_probe(self, ticket: Ticket, now_s: float) -> bool:
        """Nobody else is there, so it harms nobody to try, and predictions that have become too dark are put right."""
        idle = not len(self.waiting) and not self.fleet.busy and not self.fleet.hung
        return idle and ticket.due_s > now_s and now_s - self._probed_s >= PROBE_EVERY_S

    def _drop_hopeless(self, now_s: float, menu: Menu) -> list[Ticket]:
        hopeless = [
            ticket
            for ticket in self.waiting.all()
            if ticket.has_deadline and not ticket.probe and now_s + menu.least_s(ticket.ladder) > ticket.due_s
        ]
        return [ticket for ticket in hopeless if self.settled(ticket, "late")]

    def _hold_s(self, order: list[Ticket], now_s: float) -> float:
        """How much longer the only one that waits should wait for company."""
        if len(order) > 1 or self.settings.max_wait_ms <= 0 or self.settings.max_batch < 2:
            return 0.0
        held_s = self.settings.max_wait_ms / 1e3 - (now_s - order[0].arrived_s)
        if held_s <= 0 or self.together.load(now_s) < HOLDING_LOAD * self.fleet.count:
            return 0.0
        return held_s if self.costs.gain(order[0].ladder.top, 2) < WORTH_HOLDING else 0.0


def displaced_error(retry_after_s: float = CLIENT_RETRY_S) -> Refused:
    """What a client is told whose request gave its place to one of a client that had less."""
    return Refused(
        "the queue is full, and this client has most of it: its newest request gave way",
        retry_after_s=retry_after_s,
        per_client=True,
    )


def late_error() -> Late:
    """What a client is told whose request was accepted and could not be answered in time."""
    return Late("accepted, and could then not be answered before its deadline", hint="allow more time, or send less")
