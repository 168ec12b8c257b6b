"""The desk behind an event loop: requests come from coroutines, runner threads answer them."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ...runtime.errors import SlimpathError
from ..settings import SchedulerSettings
from .choice import Batch
from .costs import Costs
from .desk import Desk, displaced_error, late_error
from .errors import Unavailable
from .job import Job, Outcome, State, Ticket
from .ladder import Ladder, Ladders
from .learning import batch_prior, learn, runner_count
from .pool import Pool
from .reserve import Reserve
from .runners import Answer, Runners, answer_batch
from .settling import hung_error, nobody, tell
from .stats import SchedulerMetrics, SchedulerStats
from .watchdog import Watchdog

if TYPE_CHECKING:
    from ...runtime.engine import Engine

LOG = logging.getLogger(__name__)
DRAIN_LOOK_S = 0.02
CLOSE_S = 5.0  # for calls at work; a thread whose library hangs is left behind
_Value = TypeVar("_Value")


class Scheduler:
    """Answers jobs with one engine. `submit`, `pool`, `start` and `drain` belong to one event loop.

    Args:
        engine: not closed here.
        clock: of deadlines, in seconds.
        metrics: told about engine calls.
    """

    def __init__(
        self,
        engine: Engine,
        settings: SchedulerSettings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        metrics: SchedulerMetrics | None = None,
    ) -> None:
        self.settings = settings or SchedulerSettings()
        self._engine = engine
        self._clock = clock
        self._metrics = metrics
        count = runner_count(engine, self.settings)
        self._desk = Desk(self.settings, Costs(batch_prior(engine)), count)
        self._ladders = Ladders(engine, narrower=self._desk.narrows)
        self._pool = Pool(self.settings.pool_threads, 2 * self.settings.queue_limit)
        self._runners = Runners(count, partial(answer_batch, engine), self._next_batch, self._done, self._died)
        self.reserve = Reserve()
        self._watchdog = Watchdog(self.settings.watchdog_s, self._look)
        self._changed = threading.Condition()  # and the lock of the desk
        self._started = self._draining = self._closed = False

    async def start(self) -> None:
        """Measure what was not measured yet (a second or two), then take jobs."""
        await self._pool.run_anyway(learn, self._engine, self._desk.costs, self.settings)
        if self._closed:
            raise Unavailable("the scheduler is closed")
        self._started = True
        self._runners.start()
        self._watchdog.start()

    @property
    def ready(self) -> bool:
        """Whether jobs are taken and every runner answers."""
        return self._started and not self._draining and not self._closed and not self._desk.fleet.hung

    def check(self, job: Job) -> None:
        """Refuse at once what `submit` would refuse, before its image is read or decoded (any image will do here).

        Raises:
            Refused, Unavailable: as `submit`. And the engine's own errors, where the request was seen before.
        """
        self._require_open()
        ladder = self._ladders.known(job.request)
        if ladder is not None:
            now_s = self._clock()
            with self._changed:
                self._desk.check(self._ticket(job, ladder, now_s, nobody), now_s, self._pool.backlog)

    async def submit(self, job: Job) -> Outcome:
        """Wait for the answer. Whoever is cancelled while waiting is dropped; batch mates are answered.

        Raises:
            Refused: not accepted: the queue is full, the client's share is used up, or the deadline cannot be met.
            Late: accepted, and then not answered before its deadline.
            Unavailable: stopping, not started, or the backend does not answer.
            SlimpathError: what the engine says about the request, or BackendError: the engine failed.
        """
        self._require_open()
        ladder = self._ladders.known(job.request)
        if ladder is None:
            ladder = await self._pool.run_anyway(self._ladders.make, job.request)
            self._ladders.keep(job.request, ladder)
            self._require_open()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome] = loop.create_future()
        ticket = self._ticket(job, ladder, self._clock(), lambda answer: tell(loop, future, answer))
        with self._changed:
            displaced = self._desk.accept(ticket, ticket.arrived_s)
            self._tell_all(displaced, displaced_error, "displaced")
            self._changed.notify()
        timer = None
        if job.deadline_s is not None and not self.settings.fifo:
            timer = loop.call_later(max(job.deadline_s - self._clock(), 0.0), self._expire, ticket)
        try:
            return await future
        except asyncio.CancelledError:
            with self._changed:
                self._desk.settled(ticket, "cancelled")
            raise
        finally:
            if timer is not None:
                timer.cancel()

    async def pool(self, function: Callable[..., _Value], *args: Any) -> _Value:
        """`function(*args)` in one of the pool's threads: decoding, encoding.

        Raises:
            Refused: too much waits for the pool.
            Unavailable: the scheduler is closed. And whatever the function raises.
        """
        return await self._pool.run(function, *args)

    def stats(self) -> SchedulerStats:
        """A snapshot."""
        desk = self._desk
        with self._changed:
            return SchedulerStats(
                waiting=len(desk.waiting),
                running=desk.fleet.running,
                runners=desk.fleet.count,
                busy=desk.fleet.busy,
                hung=desk.fleet.hung,
                pool_backlog=self._pool.backlog,
                ready=self.ready,
                draining=self._draining,
                load=desk.arrivals.load(self._clock()),
                margin=desk.costs.margin,
                **desk.counts,
            )

    async def drain(self, timeout_s: float) -> bool:
        """Take no more jobs, and wait until the accepted ones are answered; those that are left then are told so.

        Returns:
            Whether all were answered.
        """
        self._draining = True
        until_s = time.monotonic() + timeout_s
        while self._open_jobs() and time.monotonic() < until_s:
            await asyncio.sleep(DRAIN_LOOK_S)
        left = self._open_jobs()
        self._fail_all("the service is stopping")
        return not left

    def close(self) -> None:
        """Stop the threads; whoever still waits is told. A second call does nothing. The engine stays open."""
        self._draining = self._closed = True
        self._fail_all("the service has stopped")
        with self._changed:
            self._changed.notify_all()
        self._watchdog.stop()
        if self._started:
            self._runners.join(CLOSE_S)
        self._pool.close()

    def _require_open(self) -> None:
        if self._draining or self._closed:
            raise Unavailable("the service is stopping")
        if not self._started:
            raise Unavailable("the service is not ready yet")

    def _ticket(self, job: Job, ladder: Ladder, now_s: float, settle: Callable[[Outcome | Exception], None]) -> Ticket:
        due_s = now_s + self.settings.patience_s if job.deadline_s is None else job.deadline_s
        return Ticket(job, ladder, now_s, due_s, settle)

    def _next_batch(self, runner: int) -> Batch | None:
        with self._changed:
            while not self._closed:
                take = self._desk.take(runner, self._clock())
                for ticket in take.late:
                    ticket.settle(late_error())
                if take.batch is not None:
                    return take.batch
                self._changed.wait(take.wait_s)
        return None

    def _done(self, runner: int, batch: Batch, answers: list[Answer]) -> None:
        now_s = self._clock()
        with self._changed:
            began_s = self._desk.fleet.began_s(runner)
            whole = not any(isinstance(answer, SlimpathError) for answer in answers)
            seconds = now_s - began_s if whole and now_s - began_s <= self.settings.watchdog_s else None
            for place, answer in enumerate(answers):  # first: the event loop wakes up during what follows
                self._answer(batch, place, answer, began_s, now_s)
            self._desk.finish(runner, batch, seconds)
        if self._metrics is not None and seconds is not None:
            self._metrics.engine_called(batch_size=len(answers), seconds=seconds, predicted_s=batch.seconds)

    def _died(self, runner: int, error: BaseException) -> None:
        """A runner is gone for good; what it had is answered by the watchdog's rules."""
        LOG.error("scheduler runner %d ended: %s", runner, type(error).__name__, exc_info=error)
        with self._changed:
            self._give_up(self._desk.fleet.lose(runner))

    def _answer(self, batch: Batch, place: int, answer: Answer, began_s: float, now_s: float) -> None:
        ticket = batch.tickets[place]
        if isinstance(answer, SlimpathError):
            self._tell_all([ticket], lambda: answer, "failed")
            return
        deadline_s = ticket.job.deadline_s
        if deadline_s is not None and now_s > deadline_s and not self.settings.fifo:
            self._tell_all([ticket], late_error, "late")
            return
        degraded = batch.rungs[place] is not ticket.ladder.top
        if self._desk.settled(ticket, "answered"):
            self._desk.counts["degraded"] += degraded
            slack_ms = None if deadline_s is None else (deadline_s - now_s) * 1e3
            queue_ms = (began_s - ticket.arrived_s) * 1e3
            ticket.settle(Outcome(answer, queue_ms, len(batch.tickets), degraded, slack_ms))

    def _expire(self, ticket: Ticket) -> None:
        with self._changed:
            self._tell_all([ticket], late_error, "late")

    def _look(self, stood_still_s: float) -> None:
        """Of the watchdog: give up calls that do not end; if none of the runners is left, everybody."""
        with self._changed:
            self._desk.fleet.forgive(stood_still_s)
            overdue = self._desk.fleet.overdue(self._clock(), self.settings.watchdog_s)
            for runner, _ in overdue:
                LOG.error("an engine call has not ended after %g s (runner %d)", self.settings.watchdog_s, runner)
            self._give_up([ticket for _, batch in overdue for ticket in batch.tickets])

    def _give_up(self, tickets: list[Ticket]) -> None:
        self._tell_all(tickets, hung_error, "failed")
        if self._desk.fleet.hung == self._desk.fleet.count:
            self._tell_all(self._desk.waiting.all(), hung_error, "failed")

    def _open_jobs(self) -> int:
        with self._changed:
            return len(self._desk.waiting) + sum(t.state is State.RUNNING for t in self._desk.fleet.tickets())

    def _fail_all(self, why: str) -> None:
        with self._changed:
            tickets = [*self._desk.waiting.all(), *self._desk.fleet.tickets()]
            self._tell_all(tickets, lambda: Unavailable(why), "failed")

    def _tell_all(self, tickets: list[Ticket], make_error: Callable[[], SlimpathError], how: str) -> None:
        """Settle tickets with an error each; holding the lock."""
        for ticket in tickets:
            if self._desk.settled(ticket, how):
                ticket.settle(make_error())
