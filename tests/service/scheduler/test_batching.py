"""Requests for different tasks share a call, and each gets what it would have got alone."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from slimpath.runtime.engine import Engine
from slimpath.runtime.request import Request
from slimpath.service.scheduler import Job, Outcome
from slimpath.tests.service.scheduler.gates import Gate, entered, forget, waiting

WISHES = [("depth", None), ("semseg", "top_k=1"), ("edge,scene", None), ("depth", "decoder_width=0.5")]


def test_a_batch_mixes_tasks_top_k_and_decoder_widths(started: Any, gate: Gate, engine: Engine) -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (40, 60, 3), dtype=np.uint8) for _ in WISHES]
    requests = [Request(picture, *wish) for picture, wish in zip(pictures, WISHES)]

    async def run() -> list[Outcome]:
        async with started(max_batch=4) as scheduler:
            groups = {scheduler._ladders.make(request).top.group for request in requests}
            assert len(groups) == 1  # of one encoder
            scheduler._desk.costs._gains.update({(group, n): 1.0 / n for group in groups for n in (2, 3, 4)})
            forget(gate)
            gate.open.clear()
            first = asyncio.create_task(scheduler.submit(Job(requests[0])))
            await entered(gate)  # the runner is at work: the others wait together
            others = [asyncio.create_task(scheduler.submit(Job(request))) for request in requests]
            await waiting(scheduler, len(requests))
            gate.open.set()
            await first
            return await asyncio.gather(*others)

    outcomes = asyncio.run(run())
    assert [outcome.batch_size for outcome in outcomes] == [4, 4, 4, 4]
    for request, outcome in zip(requests, outcomes):
        alone = engine(request.image, request.tasks, request.budget)
        assert outcome.result.plan == alone.plan
        for task in alone:
            assert np.allclose(outcome.result[task], alone[task], atol=1e-4)
