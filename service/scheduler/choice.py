"""Which plan a request gets, and who shares its call.

The idea is that of SlackFit (SuperServe, "Fine-Grained Inference Serving for Unpredictable Workloads"): the time left
until the deadline says how much may be computed, since a queue that grows eats that time, and narrower plans empty the
queue. Three things are done differently here. Not only the first request's slack counts: the widest level is taken at
which *all that wait* are in time, so that the first does not spend what the last will need. When more comes in than
full width can answer, those that are still to come are counted, too: a queue that is kept short can take a burst. And a
batch is made only where it was measured to be cheaper than its members one by one.

A level is the share of what each request's own widest feasible plan takes that its plan may take.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .costs import Costs
from .forecast import all_in_time
from .job import Ticket
from .ladder import Ladder, Rung

LEVELS = (1.0, 0.85, 0.72, 0.61, 0.52, 0.44, 0.37, 0.31, 0.26, 0.0)
BELIEVED_SLOWER = 1.2  # times a wider plan: more than predictions drift apart while only one of the two is run
LEAST_GAIN = 0.02  # per image, for a batch to be worth that its first member waits for its last


@dataclass(frozen=True)
class Batch:
    """Who is answered together, with which plans; never empty."""

    tickets: tuple[Ticket, ...]
    rungs: tuple[Rung, ...]
    seconds: float  # expected


class Menu:
    """What each plan of each ladder takes now; made anew for every choice, since predictions change."""

    def __init__(self, costs: Costs, *, narrows: bool) -> None:
        self.costs = costs
        self.narrows = narrows
        self._seconds: dict[int, list[float]] = {}

    def seconds(self, ladder: Ladder) -> list[float]:
        """Of its rungs, the widest first."""
        found = self._seconds.get(id(ladder))
        if found is None:
            rungs = ladder.rungs if self.narrows else ladder.rungs[:1]
            found = self._seconds[id(ladder)] = _falling([self.costs.alone_s(rung) for rung in rungs])
        return found

    def least_s(self, ladder: Ladder) -> float:
        """Of its quickest plan."""
        return min(self.seconds(ladder))

    def within(self, ladder: Ladder, most_s: float) -> int:
        """The widest rung that takes no more; the quickest if none does, of equally quick ones the narrowest."""
        seconds = self.seconds(ladder)
        for place, cost in enumerate(seconds):
            if cost <= most_s:
                return place
        return len(seconds) - 1 - seconds[::-1].index(min(seconds))


def _falling(seconds: list[float]) -> list[float]:
    """Predictions along a ladder, in which a narrower plan takes no longer than a wider one.

    It computes less; where it is said to take a little longer, that was learnt while the device had more to do, and
    nobody would learn better, as it would not be chosen. What is far slower is believed.
    """
    found = seconds[:1]
    for each in seconds[1:]:
        found.append(each if each > BELIEVED_SLOWER * found[-1] else min(each, found[-1]))
    return found


def choose(
    order: Sequence[Ticket], free_s: Sequence[float], now_s: float, menu: Menu, *, load: float, utilisation: float,
    max_batch: int,
) -> Batch:  # fmt: skip
    """The batch that the runner that is free now should take.

    Args:
        order: all that wait, at least one; the first is answered now.
        free_s: when each runner is free; one of them now.
        load: of `Arrivals`.
        utilisation: share of the runners' time that may be planned for.
    """
    margin = menu.costs.margin
    places = _widest_in_time(order, free_s, now_s, menu, margin)
    head = order[0]
    if head.has_deadline and menu.narrows and load > len(free_s):
        share = _share_under_load(order, len(free_s), now_s, menu, load, utilisation)
        most_s = share * menu.seconds(head.ladder)[0]
        places[0] = max(places[0], menu.within(head.ladder, most_s))
        for place in range(1, len(order)):  # whoever may share the call is held to the same share
            if order[place].ladder is head.ladder:
                places[place] = max(places[place], places[0])
    return _grow(order, places, now_s, menu, margin, max_batch)


def _widest_in_time(
    order: Sequence[Ticket], free_s: Sequence[float], now_s: float, menu: Menu, margin: float
) -> list[int]:
    """The rung of each ticket, at the widest level at which all are in time (or at the narrowest there is)."""
    own = [menu.within(ticket.ladder, (ticket.due_s - now_s) / margin) for ticket in order]
    places = own
    for level in LEVELS if menu.narrows else LEVELS[:1]:
        places = [
            max(place, menu.within(ticket.ladder, level * menu.seconds(ticket.ladder)[place]))
            for ticket, place in zip(order, own)
        ]
        seconds = [menu.seconds(ticket.ladder)[place] for ticket, place in zip(order, places)]
        if all_in_time(order, seconds, free_s, margin):
            break
    return places


def _share_under_load(
    order: Sequence[Ticket], runners: int, now_s: float, menu: Menu, load: float, utilisation: float
) -> float:
    """What share of its full cost each request may take so that all that wait, and all that will come until the last
    of these is due, are answered: time there is over time that they ask for."""
    horizon_s = max(ticket.due_s for ticket in order if ticket.has_deadline) - now_s
    if horizon_s <= 0:
        return 0.0
    waiting_s = sum(menu.seconds(ticket.ladder)[0] for ticket in order)
    return utilisation * runners * horizon_s / (waiting_s + load * horizon_s)


def _grow(
    order: Sequence[Ticket], places: Sequence[int], now_s: float, menu: Menu, margin: float, max_batch: int
) -> Batch:
    """The head's batch of least cost per image, with all of it in time."""
    costs = menu.costs
    rungs = [ticket.ladder.rungs[place] for ticket, place in zip(order, places)]
    tickets, chosen = [order[0]], [rungs[0]]
    best, best_gain, best_s = 1, 1.0, costs.alone_s(rungs[0])
    due_s = order[0].due_s
    total_s = best_s
    for ticket, rung in zip(order[1:], rungs[1:]):
        if len(tickets) >= max_batch:
            break
        if rung.group != chosen[0].group:
            continue
        total_s += costs.alone_s(rung)
        due_s = min(due_s, ticket.due_s)
        gain = costs.gain(rung, len(tickets) + 1)
        if now_s + total_s * gain * margin > due_s:
            break
        tickets.append(ticket)
        chosen.append(rung)
        if gain < best_gain - LEAST_GAIN:
            best, best_gain, best_s = len(tickets), gain, total_s * gain
    return Batch(tuple(tickets[:best]), tuple(chosen[:best]), best_s)
