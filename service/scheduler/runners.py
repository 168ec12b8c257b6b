"""The threads that call the engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ...runtime.errors import BackendError, SlimpathError
from ...runtime.request import Request
from ...runtime.result import Result
from ..lasting_threads import Running, start_thread
from .choice import Batch
from .ladder import Rung

if TYPE_CHECKING:
    from ...runtime.engine import Engine

Answer = Result | SlimpathError


class Runners:
    """Threads that ask for work, do it, and report; until they are told to stop.

    Args:
        next_batch: blocks until there is one for this runner; None: stop.
        done: is told (runner, batch, answers).
        died: is told (runner, error) where one of these two raised, which is a defect; the thread is gone then.
    """

    def __init__(
        self,
        count: int,
        answer: Callable[[Batch], list[Answer]],
        next_batch: Callable[[int], Batch | None],
        done: Callable[[int, Batch, list[Answer]], None],
        died: Callable[[int, BaseException], None],
    ) -> None:
        self._answer, self._next_batch, self._done, self._died = answer, next_batch, done, died
        self._count = count
        self._running: list[Running] = []

    def start(self) -> None:
        for number in range(self._count):
            self._running.append(start_thread(partial(self._run, number), f"slimpath-runner-{number}"))

    def join(self, timeout_s: float) -> bool:
        """Wait for the threads to end, for so long in all; False if some have not (their library hangs)."""
        ended = [running.join(timeout_s / self._count) for running in self._running]
        return all(ended)

    def _run(self, number: int) -> None:
        try:
            while (batch := self._next_batch(number)) is not None:
                self._done(number, batch, self._answers(batch))
        except BaseException as error:  # a thread that ends unseen would leave everybody waiting
            self._died(number, error)

    def _answers(self, batch: Batch) -> list[Answer]:
        try:
            return self._answer(batch)
        except BaseException as error:  # MemoryError, or a defect
            return [_failure(error) for _ in batch.tickets]


def answer_batch(engine: Engine, batch: Batch) -> list[Answer]:
    """Answer each member, or say what is wrong with it: what one of them makes fail does not fail the others."""
    requests = [_request(ticket.job.request, rung) for ticket, rung in zip(batch.tickets, batch.rungs)]
    return _run(engine, requests)


def _run(engine: Engine, requests: Sequence[Request]) -> list[Answer]:
    try:
        return list[Answer](engine.run_batch(requests, return_errors=True))
    except Exception as error:  # the engine returns its own errors by member; this is a defect of it or of a backend
        if len(requests) == 1:
            return [_failure(error)]
    return [answer for request in requests for answer in _run(engine, [request])]


def _request(request: Request, rung: Rung) -> Request:
    """The request with the plan that was chosen for it: tasks, size and floors are the plan's."""
    return replace(request, tasks=None, budget=rung.plan, size=None)


def _failure(error: BaseException) -> SlimpathError:
    # Its text may hold anything, paths among it: the log has it (the traceback of the cause), the client does not.
    failure = BackendError(f"the engine failed with {type(error).__name__}")
    failure.__cause__ = error
    return failure
