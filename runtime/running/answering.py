"""Requests -> answers: each is planned and prepared, those that can share encoder calls are run together.

One request's error is its own: where a shared call fails, its members are run again, each by itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from time import perf_counter

from ..bundles.bundle import Bundle
from ..errors import SlimpathError
from ..planning.plan import Plan
from ..request import Request
from ..result import Result
from .batching import Batch, Prepared, make_batches
from .choosing import Chooser
from .controller import plan_key
from .execution import Executor, graphs_of
from .preparing import PixelLimits, prepare
from .sessions import SessionPool

MAX_ROWS = 32  # of one encoder call: bounds its memory, and is past where batching still gains
Answer = Result | SlimpathError


class Answerer:
    """Answers batches of requests. Safe to use from several threads."""

    def __init__(self, bundle: Bundle, sessions: SessionPool, chooser: Chooser, limits: PixelLimits) -> None:
        self._bundle = bundle
        self._sessions = sessions
        self._chooser = chooser
        self._limits = limits
        self._executor = Executor(bundle, sessions)

    def run(self, requests: Iterable[Request], *, return_errors: bool) -> list[Answer]:
        """See `Engine.run_batch`."""
        started = perf_counter()
        answers: dict[int, Answer] = {}
        prepared: list[Prepared] = []
        for index, request in enumerate(requests):
            try:
                prepared.append(self._prepare(index, request))
            except SlimpathError as error:
                if not return_errors:
                    raise
                answers[index] = error
        for batch in self._batches(prepared):
            answers.update(self._answer(batch, return_errors))
        total_ms = (perf_counter() - started) * 1e3
        for answer in answers.values():
            if isinstance(answer, Result):
                answer.timings_ms["total"] = total_ms
        if len(answers) == 1:
            self._observe(answers[0])
        return [answers[index] for index in sorted(answers)]

    def rehearse(self, request: Request) -> None:
        """Run a request, telling nobody: the first run of a graph takes longer than those after it.

        Raises:
            SlimpathError: as `run` does.
        """
        for batch in self._batches([self._prepare(0, request)]):
            self._executor.run(batch)

    def _prepare(self, index: int, request: Request) -> Prepared:
        plan = self._chooser.plan(request.tasks, request.budget, size=request.size, strict=request.strict)
        return prepare(index, request, plan, self._bundle.manifest.preprocessing, self._limits)

    def _batches(self, prepared: Iterable[Prepared]) -> list[Batch]:
        return make_batches(prepared, rows_per_task=self._bundle.manifest.rows_per_task, max_rows=MAX_ROWS)

    def _answer(self, batch: Batch, return_errors: bool) -> dict[int, Answer]:
        try:
            return {item.index: result for item, result in zip(batch.items, self._executor.run(batch))}
        except SlimpathError as error:
            if not return_errors:
                raise
            if len(batch.items) == 1:
                return {batch.items[0].index: error}
        alone = [single for item in batch.items for single in self._batches([item])]
        return {index: answer for single in alone for index, answer in self._answer(single, True).items()}

    def _observe(self, answer: Answer) -> None:
        """Tell the controller what an answer took, once its graphs run as fast as they will."""
        controller = self._chooser.controller
        if controller is None or not isinstance(answer, Result) or answer.plan.latency_ms is None:
            return
        plan: Plan = answer.plan
        if all(self._sessions.settled(graph) for graph in graphs_of(self._bundle, plan)):
            measured_ms = answer.timings_ms["total"] - answer.timings_ms["decode"]
            controller.observe(answer.plan.latency_ms, measured_ms, key=plan_key(plan))
