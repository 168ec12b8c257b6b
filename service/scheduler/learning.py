"""What is known about costs before the first request: from the profile, and from a few calls at the start."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ...runtime.cpus import usable_cpus
from ...runtime.request import Request
from ...runtime.running.execution import encoder_graph, head_graph
from ...runtime.running.warming import grey_request
from ..settings import SchedulerSettings
from .costs import BatchPrior, Costs
from .ladder import Ladder, Rung, make_ladder

if TYPE_CHECKING:
    from ...runtime.engine import Engine

LEARN_S = 4.0
SINGLE_ROUNDS = 2  # beside one that is not counted
GIVE_UP_GAIN = 0.98  # where twice as many are not cheaper per image, more of them are not tried


def runner_count(engine: Engine, settings: SchedulerSettings) -> int:
    """As set, or as many as fit: each call keeps the engine's threads busy."""
    if settings.runners is not None:
        return settings.runners
    cpus, threads = usable_cpus(), engine.backend.threads
    return max(1, cpus // threads) if threads else 1


def batch_prior(engine: Engine) -> BatchPrior | None:
    """Gains of batches from the profile; None without one."""
    profile = engine.profile
    if profile is None:
        return None
    rows_per_task = engine.bundle.manifest.rows_per_task

    def gain(rung: Rung, images: int) -> float | None:
        plan = rung.plan
        rows = images * (len(plan.decoder_widths) if rows_per_task else 1)
        graph = encoder_graph(engine.bundle, plan)
        call = profile.call(plan.size_hw, list(plan.decoder_widths)).latency_ms
        parts = [None if call is None else images * call]
        parts.append(profile.encoder(graph, images=images, rows=rows, top_k=plan.top_k).latency_ms)
        for task, width in plan.decoder_widths.items():
            parts.append(profile.head(head_graph(engine.bundle, plan, task, width), rows=images).latency_ms)
        known = [part for part in parts if part is not None]
        if len(known) < len(parts) or not plan.latency_ms:
            return None
        return sum(known) / (images * plan.latency_ms)

    return gain


def learn(engine: Engine, costs: Costs, settings: SchedulerSettings, clock: Callable[[], float] = time.monotonic) -> (
    None
):  # fmt: skip
    """Run the plans of a request for all tasks a few times, then batches, for some seconds at most.

    Raises:
        SlimpathError: the engine cannot answer at all.
    """
    ladder = make_ladder(engine, Request(b""), narrower=settings.degrade and not settings.pinned_full_width)
    until_s = clock() + LEARN_S
    for rungs in _experiments(ladder, costs, settings):
        if costs.calls and clock() > until_s:
            return
        seconds = _timed(engine, rungs, clock)
        costs.observe(rungs, seconds)


def _experiments(ladder: Ladder, costs: Costs, settings: SchedulerSettings) -> Iterator[list[Rung]]:
    """The ends of the ladder first, then batches of its top, then what lies between."""
    ends = list(dict.fromkeys((ladder.top, ladder.bottom)))
    for _ in range(SINGLE_ROUNDS):
        yield from ([rung] for rung in ends)
    images = 2
    while images <= settings.max_batch and not settings.fifo:
        yield [ladder.top] * images
        if costs.gain(ladder.top, images) > GIVE_UP_GAIN:
            break
        images *= 2
    for rung in ladder.rungs[1:-1]:
        yield [rung]


def _timed(engine: Engine, rungs: list[Rung], clock: Callable[[], float]) -> float:
    requests = [grey_request(rung.plan) for rung in rungs]
    engine.run_batch(requests)  # the first run of a graph takes longer
    started_s = clock()
    engine.run_batch(requests)
    return clock() - started_s
