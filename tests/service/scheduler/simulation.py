"""The desk in simulated time: arrivals and service times are given, nothing is measured, nobody sleeps."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from slimpath.runtime.planning.plan import Plan
from slimpath.runtime.request import Request
from slimpath.service.scheduler.choice import Batch
from slimpath.service.scheduler.costs import Costs
from slimpath.service.scheduler.desk import Desk
from slimpath.service.scheduler.errors import Refused
from slimpath.service.scheduler.job import Job, Outcome, Ticket
from slimpath.service.scheduler.ladder import Ladder, rung_of
from slimpath.service.settings import SchedulerSettings

# Of the bundled model with all its tasks, one thread: from full to narrowest.
NANO_MS = (82.0, 74.0, 66.0, 58.0, 50.0, 43.0, 38.0, 33.0)


def make_plan(latency_ms: float | None, *, width: float = 1.0, flops: int | None = None) -> Plan:
    """A plan of one task that is predicted to take so long; plans of other durations are other plans."""
    top_k, flops = int(1000 * (latency_ms or 0.0)), flops or int((latency_ms or 1.0) * 1e8)
    return Plan(
        (32, 48), width, top_k, {"depth": width}, flops, width, {"depth": None}, "flops",
        True, {"depth": 1.0}, "full", latency_ms=latency_ms,
    )  # fmt: skip


def make_ladder(milliseconds: Sequence[float] = NANO_MS, *, same_encoder: bool = False) -> Ladder:
    """A ladder of plans that take so long, from widest to narrowest; each with an encoder of its own, or all one."""
    plans = [make_plan(ms, width=round(1.0 - place / 100, 2)) for place, ms in enumerate(milliseconds)]
    rungs = tuple(rung_of(plan) for plan in plans)
    if same_encoder:
        rungs = tuple(type(rung)(rung.plan, rung.key, "one") for rung in rungs)
    return Ladder(rungs)


def make_ticket(
    ladder: Ladder | None = None,
    *,
    now_s: float = 0.0,
    within_s: float | None = None,
    priority: int = 0,
    client: str = "",
    patience_s: float = 10.0,
) -> Ticket:
    """A ticket that arrives at `now_s`, with a deadline `within_s` later if any."""
    deadline_s = None if within_s is None else now_s + within_s
    job = Job(Request(b""), deadline_s, priority, client)
    due_s = now_s + patience_s if deadline_s is None else deadline_s
    return Ticket(job, ladder or make_ladder(), now_s, due_s, lambda answer: None)


@dataclass
class Report:
    """How a simulated trace went. Each ticket is in one of the lists."""

    offered: int = 0
    in_time: list[Ticket] = field(default_factory=list)
    late: list[Ticket] = field(default_factory=list)
    refused: list[Ticket] = field(default_factory=list)
    costs_ms: list[float] = field(default_factory=list)  # of the plans of those in time
    batch_sizes: list[int] = field(default_factory=list)
    waits_s: dict[int, float] = field(default_factory=dict)  # by ticket's id
    retries_s: list[float] = field(default_factory=list)
    end_s: float = 0.0

    @property
    def attainment(self) -> float:
        return len(self.in_time) / self.offered

    def of(self, client: str) -> int:
        """Answers in time of one client."""
        return sum(ticket.client == client for ticket in self.in_time)

    @property
    def mean_cost_ms(self) -> float:
        return float(np.mean(self.costs_ms)) if self.costs_ms else 0.0


class Simulation:
    """Runs a trace against a desk.

    Args:
        service_s: what a batch really takes; None: what its plans say, with 5 % of noise.
    """

    def __init__(
        self,
        settings: SchedulerSettings | None = None,
        *,
        runners: int = 1,
        costs: Costs | None = None,
        service_s: Callable[[Batch, float], float] | None = None,
        seed: int = 0,
    ) -> None:
        self.settings = settings or SchedulerSettings(max_batch=1, per_client_limit=100_000)
        self.desk = Desk(self.settings, costs or Costs(), runners)
        self._rng = np.random.default_rng(seed)
        self._service_s = service_s or self._plain_service
        self._idle = set(range(runners))
        self.report = Report()

    def run(self, tickets: Iterable[Ticket]) -> Report:
        """Let the tickets arrive at their times, and answer until nothing is left."""
        events: list[tuple[float, int, int, object]] = []
        for number, ticket in enumerate(sorted(tickets, key=lambda ticket: ticket.arrived_s)):
            heapq.heappush(events, (ticket.arrived_s, 1, number, ticket))
        number = 1 << 30
        while events:
            now_s, _, _, what = heapq.heappop(events)
            self.report.end_s = now_s
            if isinstance(what, Ticket):
                self._arrive(what, now_s)
            elif what is not None:
                self._finish(*what, now_s)  # type: ignore[misc]
            for runner in sorted(self._idle):
                take = self.desk.take(runner, now_s)
                self.report.late += take.late
                number += 1
                if take.batch is not None:
                    self._idle.discard(runner)
                    seconds = self._service_s(take.batch, now_s)
                    heapq.heappush(events, (now_s + seconds, 0, number, (runner, take.batch, seconds)))
                elif take.wait_s is not None:
                    heapq.heappush(events, (now_s + take.wait_s, 2, number, None))
        return self.report

    def _arrive(self, ticket: Ticket, now_s: float) -> None:
        self.report.offered += 1
        try:
            displaced = self.desk.accept(ticket, now_s)
        except Refused as refused:
            self.report.refused.append(ticket)
            self.report.retries_s.append(refused.retry_after_s)
            return
        for other in displaced:
            self.desk.settled(other, "displaced")
            self.report.refused.append(other)

    def _finish(self, runner: int, batch: Batch, seconds: float, now_s: float) -> None:
        self._idle.add(runner)
        self.desk.finish(runner, batch, seconds)
        self.report.batch_sizes.append(len(batch.tickets))
        for ticket, rung in zip(batch.tickets, batch.rungs):
            self.report.waits_s[id(ticket)] = now_s - seconds - ticket.arrived_s
            late = ticket.has_deadline and now_s > ticket.due_s
            if self.desk.settled(ticket, "late" if late else "answered"):
                (self.report.late if late else self.report.in_time).append(ticket)
                if not late:
                    self.report.costs_ms.append(rung.plan.latency_ms or 0.0)

    def _plain_service(self, batch: Batch, now_s: float) -> float:
        seconds = sum((rung.plan.latency_ms or 0.0) / 1e3 for rung in batch.rungs)
        return seconds * float(np.exp(self._rng.normal(0.0, 0.05)))


def gamma_times(rate_per_s: float, seconds: float, *, cv2: float = 4.0, seed: int = 0) -> list[float]:
    """When requests come: gaps of a gamma distribution with that squared coefficient of variation (1: Poisson)."""
    rng = np.random.default_rng(seed)
    gaps = rng.gamma(1 / cv2, cv2 / rate_per_s, int(rate_per_s * seconds * 2) + 50)
    times = np.cumsum(gaps)
    return [float(time) for time in times[times < seconds]]


def outcome_of(ticket: Ticket, answers: list[Outcome | Exception]) -> None:
    """Collect what a ticket is told."""
    ticket.settle = answers.append
