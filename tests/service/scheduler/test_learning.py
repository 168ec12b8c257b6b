"""What is known before the first request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from slimpath.runtime.cpus import usable_cpus
from slimpath.runtime.engine import Engine
from slimpath.runtime.request import Request
from slimpath.service.scheduler import Scheduler
from slimpath.service.scheduler.costs import Costs
from slimpath.service.scheduler.ladder import make_ladder
from slimpath.service.scheduler.learning import batch_prior, learn, runner_count
from slimpath.service.settings import SchedulerSettings


def test_the_ends_of_the_ladder_are_measured_and_a_batch(engine: Engine, request_for: Callable[..., Request]) -> None:
    costs = Costs()
    learn(engine, costs, SchedulerSettings())
    ladder = make_ladder(engine, request_for(), narrower=True)
    assert costs.calls >= 4
    assert all(rung.key in costs._biases for rung in ladder.rungs)
    assert (ladder.top.group, 2) in costs._gains


def test_a_slow_device_does_not_hold_up_the_start(engine: Engine, request_for: Callable[..., Request]) -> None:
    """Ten seconds a call: after the first experiment it is enough."""
    now_s = [0.0]

    def clock() -> float:
        now_s[0] += 10.0
        return now_s[0]

    costs = Costs()
    learn(engine, costs, SchedulerSettings(), clock)
    assert costs.calls == 1
    assert costs.alone_s(make_ladder(engine, request_for(), narrower=True).top) == pytest.approx(10.0)


def test_pinned_and_fifo_servers_learn_only_what_they_run(engine: Engine) -> None:
    costs = Costs()
    learn(engine, costs, SchedulerSettings(pinned_full_width=True))
    assert len(costs._biases) == 1
    costs = Costs()
    learn(engine, costs, SchedulerSettings(fifo=True))
    assert not costs._gains


def test_a_profile_prices_batches_before_they_were_run(engine: Engine, request_for: Callable[..., Request]) -> None:
    def price(latency_ms: float) -> Any:
        return SimpleNamespace(latency_ms=latency_ms)

    engine.profile = SimpleNamespace(  # type: ignore[assignment]  # what is asked of a profile here
        call=lambda size_hw, tasks: price(1.0),
        encoder=lambda graph, *, images, rows, top_k: price(6.0 + images),
        head=lambda graph, *, rows: price(2.0 * rows),
    )
    prior = batch_prior(engine)
    assert prior is not None
    ladder = make_ladder(engine, request_for("depth"), narrower=False)
    rung = ladder.top
    assert prior(rung, 4) is None  # the plan has no latency: another bundle's profile
    priced = type(rung)(type(rung.plan)(**{**rung.plan.__dict__, "latency_ms": 10.0}), rung.key, rung.group)
    assert prior(priced, 4) == pytest.approx((4 * 1.0 + 10.0 + 8.0) / 40.0)


def test_without_a_profile_there_is_no_prior(engine: Engine) -> None:
    assert batch_prior(engine) is None


def test_runners_are_as_set_or_as_many_as_the_engines_threads_leave_room_for(engine: Engine) -> None:
    assert runner_count(engine, SchedulerSettings(runners=3)) == 3
    assert runner_count(engine, SchedulerSettings()) == usable_cpus()  # its threads are 1


def test_an_engine_that_cannot_answer_fails_the_start(engine: Engine) -> None:
    async def run() -> None:
        scheduler = Scheduler(engine, SchedulerSettings(runners=1))
        engine.close()
        try:
            with pytest.raises(Exception, match="closed"):
                await scheduler.start()
            assert not scheduler.ready
        finally:
            scheduler.close()

    asyncio.run(run())
