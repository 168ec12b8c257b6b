"""The scheduler with its threads, on a real engine whose calls are made slow, failing or hanging."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from slimpath.runtime.engine import Engine
from slimpath.runtime.errors import BackendError, BudgetError, ImageError, TaskError
from slimpath.runtime.request import Request
from slimpath.service.scheduler import Job, Late, Outcome, Refused, Scheduler, Unavailable
from slimpath.service.settings import SchedulerSettings
from slimpath.tests.service.scheduler.gates import SOON_S, Gate, entered, forget, waiting


def test_an_answer_is_the_engines(started: Any, engine: Engine, request_for: Callable[..., Request]) -> None:
    async def run() -> Outcome:
        async with started() as scheduler:
            return await scheduler.submit(Job(request_for("depth", "width=0.5")))

    outcome = asyncio.run(run())
    expected = engine(request_for().image, "depth", "width=0.5")
    assert np.array_equal(outcome.result["depth"], expected["depth"])
    assert outcome.result.plan == expected.plan
    assert (outcome.degraded, outcome.batch_size, outcome.slack_ms) == (False, 1, None)
    assert outcome.queue_ms >= 0


def test_preferences_floors_and_output_options_reach_the_engine(
    started: Any, request_for: Callable[..., Request]
) -> None:
    async def run() -> Outcome:
        async with started() as scheduler:
            wanted = request_for({"depth": "2>=0.1", "semseg": 1}, None, output_size="original", features=True)
            return await scheduler.submit(Job(wanted))

    result = asyncio.run(run()).result
    assert result.plan.tasks == {"depth": 2.0, "semseg": 1.0}
    assert result.plan.floors == {"depth": 0.1}
    assert result["depth"].shape == (40, 60)
    assert result.features is not None


def test_many_at_once_are_all_answered(started: Any, request_for: Callable[..., Request]) -> None:
    async def run() -> tuple[list[Outcome], Any]:
        async with started(runners=2) as scheduler:
            names = ["depth", "semseg", "depth,semseg"]
            jobs = [Job(request_for(names[n % 3]), client=str(n % 5), priority=n % 2) for n in range(40)]
            return await asyncio.gather(*map(scheduler.submit, jobs)), scheduler.stats()

    outcomes, stats = asyncio.run(run())
    assert [set(outcome.result) for outcome in outcomes[:3]] == [{"depth"}, {"semseg"}, {"depth", "semseg"}]
    assert (stats.accepted, stats.answered, stats.waiting, stats.running) == (40, 40, 0, 0)


def test_the_engines_own_errors_come_back_unchanged(started: Any, request_for: Callable[..., Request]) -> None:
    async def run(request: Request) -> None:
        async with started() as scheduler:
            await scheduler.submit(Job(request))

    with pytest.raises(TaskError, match="teapot"):
        asyncio.run(run(request_for("teapot")))
    with pytest.raises(BudgetError, match="slimpath calibrate"):
        asyncio.run(run(request_for(None, "20ms")))
    with pytest.raises(ImageError):
        asyncio.run(run(Request(np.zeros((4, 4, 7), np.uint8))))


def test_a_tight_deadline_is_answered_narrower_and_says_so(
    started: Any, gate: Gate, request_for: Callable[..., Request]
) -> None:
    async def run() -> tuple[Outcome, Outcome]:
        async with started() as scheduler:
            full = await scheduler.submit(Job(request_for()))
            costs = scheduler._desk.costs
            ladder = scheduler._ladders.known(request_for())
            assert ladder is not None and len(ladder.rungs) > 1
            # The device has become slow: the full plan takes 20 s, the narrowest a thousandth of what is left.
            for rung in ladder.rungs:
                costs._biases.pop(rung.key, None)
                costs.observe([rung], 20.0 if rung is ladder.top else 0.01)
            return full, await scheduler.submit(Job(request_for(), time.monotonic() + 10.0))

    full, tight = asyncio.run(run())
    assert not full.degraded
    assert tight.degraded
    assert tight.result.plan.flops < full.result.plan.flops
    assert tight.slack_ms is not None and 0 < tight.slack_ms < 10_000


def test_what_cannot_be_done_in_time_is_refused_at_once_with_the_reason(
    started: Any, gate: Gate, request_for: Callable[..., Request]
) -> None:
    async def run() -> Refused:
        async with started() as scheduler:
            scheduler._desk._probed_s = time.monotonic()  # no probe: one was just made
            with pytest.raises(Refused) as caught:
                await scheduler.submit(Job(request_for(), time.monotonic() + 1e-5))
            return caught.value

    refused = asyncio.run(run())
    assert "quickest plan takes" in str(refused)
    assert refused.retry_after_s > 0
    assert not refused.per_client


def test_a_full_queue_refuses_and_says_when_to_retry(
    started: Any, gate: Gate, request_for: Callable[..., Request]
) -> None:
    async def run() -> Refused:
        async with started(queue_limit=3, max_batch=1) as scheduler:
            forget(gate)
            gate.open.clear()
            tasks = [asyncio.create_task(scheduler.submit(Job(request_for())))]
            await entered(gate)  # it runs: the others find an empty queue
            tasks += [asyncio.create_task(scheduler.submit(Job(request_for()))) for _ in range(3)]
            await waiting(scheduler, 3)
            with pytest.raises(Refused, match="queue is full") as caught:
                await scheduler.submit(Job(request_for()))
            gate.open.set()
            await asyncio.gather(*tasks)
            return caught.value

    assert asyncio.run(run()).retry_after_s > 0


def test_one_clients_limit_leaves_room_for_others(
    started: Any, gate: Gate, request_for: Callable[..., Request]
) -> None:
    async def run() -> Refused:
        async with started(per_client_limit=2, max_batch=1) as scheduler:
            forget(gate)
            gate.open.clear()
            tasks = [asyncio.create_task(scheduler.submit(Job(request_for(), client="a"))) for _ in range(2)]
            await entered(gate)
            await waiting(scheduler, 1)
            with pytest.raises(Refused) as caught:
                await scheduler.submit(Job(request_for(), client="a"))
            tasks.append(asyncio.create_task(scheduler.submit(Job(request_for(), client="b"))))
            await waiting(scheduler, 2)
            gate.open.set()
            await asyncio.gather(*tasks)
            await scheduler.submit(Job(request_for(), client="a"))  # its share is free again
            return caught.value

    assert asyncio.run(run()).per_client


def test_late_is_told_at_the_deadline_not_when_the_call_ends(
    started: Any, gate: Gate, request_for: Callable[..., Request]
) -> None:
    async def run() -> bool:
        async with started() as scheduler:
            forget(gate)
            gate.open.clear()
            with pytest.raises(Late):
                await scheduler.submit(Job(request_for(), time.monotonic() + 0.5))
            still_running = not gate.open.is_set()
            gate.open.set()
            return still_running

    assert asyncio.run(run())


def test_an_answer_that_is_ready_after_its_deadline_is_none(
    gate: Gate, engine: Engine, request_for: Callable[..., Request]
) -> None:
    """On the scheduler's own clock, which jumps; the event loop's timer has not come yet."""
    now_s = [1000.0]

    async def run() -> None:
        scheduler = Scheduler(engine, SchedulerSettings(runners=1), clock=lambda: now_s[0])
        try:
            await scheduler.start()
            forget(gate)
            gate.open.clear()
            answer = asyncio.create_task(scheduler.submit(Job(request_for("depth"), 1000.0 + 500.0)))
            await entered(gate)
            now_s[0] += 600.0
            gate.open.set()
            with pytest.raises(Late):
                await asyncio.wait_for(answer, SOON_S)
        finally:
            scheduler.close()

    asyncio.run(run())


def test_cancelled_request_leaves_batch_mates_answered(
    started: Any, gate: Gate, request_for: Callable[..., Request]
) -> None:
    async def run() -> tuple[list[Outcome], int, Any]:
        async with started(max_batch=4) as scheduler:
            for group in {rung.group for rung in scheduler._ladders.make(request_for("depth")).rungs}:
                scheduler._desk.costs._gains.update({(group, images): 1.0 / images for images in (2, 3, 4)})
            forget(gate)
            gate.open.clear()
            first = asyncio.create_task(scheduler.submit(Job(request_for("depth"))))
            await entered(gate)
            mates = [asyncio.create_task(scheduler.submit(Job(request_for("depth")))) for _ in range(3)]
            gone = asyncio.create_task(scheduler.submit(Job(request_for("depth"))))
            await waiting(scheduler, 4)
            gone.cancel()  # while it waits
            with pytest.raises(asyncio.CancelledError):
                await gone
            gate.open.set()
            outcomes = await asyncio.gather(first, *mates)
            return outcomes, len(gate.calls[1]), scheduler.stats()

    outcomes, size, stats = asyncio.run(run())
    assert [outcome.batch_size for outcome in outcomes] == [1, 3, 3, 3]
    assert size == 3  # nothing was computed for the one that went
    assert (stats.answered, stats.cancelled) == (4, 1)


def test_cancelled_while_it_runs_leaves_batch_mates_answered(
    started: Any, gate: Gate, request_for: Callable[..., Request]
) -> None:
    async def run() -> tuple[Outcome, Any]:
        async with started(max_batch=2) as scheduler:
            for group in {rung.group for rung in scheduler._ladders.make(request_for("depth")).rungs}:
                scheduler._desk.costs._gains[group, 2] = 0.5
            forget(gate)
            gate.open.clear()
            first = asyncio.create_task(scheduler.submit(Job(request_for("depth"))))
            await entered(gate)
            mates = [asyncio.create_task(scheduler.submit(Job(request_for("depth")))) for _ in range(2)]
            await waiting(scheduler, 2)
            gate.permits.release()
            await first
            await entered(gate)  # both are in the second call, which is held
            mates[0].cancel()
            with pytest.raises(asyncio.CancelledError):
                await mates[0]
            gate.open.set()
            return await mates[1], scheduler.stats()

    outcome, stats = asyncio.run(run())
    assert outcome.batch_size == 2
    assert (stats.answered, stats.cancelled) == (2, 1)


def test_only_the_guilty_one_of_a_batch_fails(
    started: Any, engine: Engine, monkeypatch: pytest.MonkeyPatch, request_for: Callable[..., Request]
) -> None:
    """An exception that the engine should not have raised at all, in a batch: its members are run one by one."""
    run_batch = engine.run_batch
    poison = np.zeros((8, 8, 3), np.uint8)

    def brittle(requests: Any, *, return_errors: bool = False) -> Any:
        if any(request.image is poison for request in requests):
            raise RuntimeError("/secret/path exploded")
        return run_batch(requests, return_errors=return_errors)

    async def run() -> list[Any]:
        async with started(max_batch=4) as scheduler:
            monkeypatch.setattr(engine, "run_batch", brittle)
            for group in {rung.group for rung in scheduler._ladders.make(request_for("depth")).rungs}:
                scheduler._desk.costs._gains.update({(group, images): 1.0 / images for images in (2, 3, 4)})
            jobs = [Job(request_for("depth")) for _ in range(4)]
            jobs[2].request = Request(poison, "depth")
            return await asyncio.gather(*map(scheduler.submit, jobs), return_exceptions=True)

    answers = asyncio.run(run())
    assert [isinstance(answer, Outcome) for answer in answers] == [True, True, False, True]
    assert isinstance(answers[2], BackendError)
    assert "secret" not in str(answers[2])
    assert isinstance(answers[2].__cause__, RuntimeError)


def test_running_out_of_memory_is_an_answer_and_the_next_is_served(
    started: Any, engine: Engine, monkeypatch: pytest.MonkeyPatch, request_for: Callable[..., Request]
) -> None:
    run_batch = engine.run_batch
    broken = [True]

    def exhausted(requests: Any, *, return_errors: bool = False) -> Any:
        if broken:
            broken.clear()
            raise MemoryError
        return run_batch(requests, return_errors=return_errors)

    async def run() -> Outcome:
        async with started() as scheduler:
            monkeypatch.setattr(engine, "run_batch", exhausted)
            with pytest.raises(BackendError, match="MemoryError"):
                await scheduler.submit(Job(request_for("depth")))
            return await scheduler.submit(Job(request_for("depth")))

    assert asyncio.run(run()).result["depth"].size


def test_a_hung_backend_is_seen_its_requests_are_told_and_readiness_goes_off(
    started: Any, gate: Gate, request_for: Callable[..., Request]
) -> None:
    async def run() -> None:
        async with started(watchdog_s=0.3, max_batch=1) as scheduler:
            forget(gate)
            gate.open.clear()
            jobs = [asyncio.create_task(scheduler.submit(Job(request_for()))) for _ in range(3)]
            answers = await asyncio.wait_for(asyncio.gather(*jobs, return_exceptions=True), SOON_S)
            assert [type(answer) for answer in answers] == [Unavailable] * 3
            assert not scheduler.ready
            assert scheduler.stats().hung == 1
            with pytest.raises(Unavailable, match="does not answer"):
                await scheduler.submit(Job(request_for()))
            gate.open.set()  # it comes back after all
            until_s = time.monotonic() + SOON_S
            while not scheduler.ready and time.monotonic() < until_s:
                await asyncio.sleep(0.01)
            assert (await scheduler.submit(Job(request_for()))).result

    asyncio.run(run())


def test_one_hung_runner_of_two_leaves_the_other_answering(
    started: Any, gate: Gate, engine: Engine, monkeypatch: pytest.MonkeyPatch, request_for: Callable[..., Request]
) -> None:
    async def run() -> None:
        async with started(runners=2, watchdog_s=0.3, max_batch=1) as scheduler:
            forget(gate)
            gate.open.clear()
            hung = asyncio.create_task(scheduler.submit(Job(request_for())))
            await entered(gate)
            monkeypatch.setattr(engine, "run_batch", gate._run_batch)
            with pytest.raises(Unavailable):
                await asyncio.wait_for(hung, SOON_S)
            assert (await asyncio.wait_for(scheduler.submit(Job(request_for())), SOON_S)).result
            assert not scheduler.ready  # somebody has to look
            gate.open.set()

    asyncio.run(run())


def test_a_defect_of_the_scheduler_itself_leaves_nobody_waiting(
    started: Any, monkeypatch: pytest.MonkeyPatch, request_for: Callable[..., Request]
) -> None:
    async def run() -> None:
        async with started() as scheduler:
            await scheduler.submit(Job(request_for()))

            def defect(runner: int, now_s: float) -> None:
                raise ZeroDivisionError

            monkeypatch.setattr(scheduler._desk, "take", defect)
            with pytest.raises(Unavailable):
                await asyncio.wait_for(scheduler.submit(Job(request_for())), SOON_S)
            assert not scheduler.ready

    asyncio.run(run())


def test_drain_answers_what_was_accepted_and_takes_no_more(
    started: Any, gate: Gate, request_for: Callable[..., Request]
) -> None:
    async def run() -> None:
        async with started(max_batch=1) as scheduler:
            forget(gate)
            gate.open.clear()
            jobs = [asyncio.create_task(scheduler.submit(Job(request_for()))) for _ in range(4)]
            await entered(gate)
            await waiting(scheduler, 3)
            draining = asyncio.create_task(scheduler.drain(SOON_S))
            await asyncio.sleep(0.05)
            with pytest.raises(Unavailable, match="stopping"):
                await scheduler.submit(Job(request_for()))
            assert not scheduler.ready
            gate.open.set()
            assert await draining is True
            assert all(isinstance(outcome, Outcome) for outcome in await asyncio.gather(*jobs))

    asyncio.run(run())


def test_drain_that_takes_too_long_tells_those_that_are_left(
    started: Any, gate: Gate, request_for: Callable[..., Request]
) -> None:
    async def run() -> None:
        async with started(max_batch=1) as scheduler:
            forget(gate)
            gate.open.clear()
            jobs = [asyncio.create_task(scheduler.submit(Job(request_for()))) for _ in range(3)]
            await entered(gate)
            await waiting(scheduler, 2)
            assert await scheduler.drain(0.1) is False
            answers = await asyncio.gather(*jobs, return_exceptions=True)
            assert [type(answer) for answer in answers] == [Unavailable] * 3
            gate.open.set()

    asyncio.run(run())


def test_before_the_start_and_after_the_end_nothing_is_taken(
    engine: Engine, request_for: Callable[..., Request]
) -> None:
    async def run() -> None:
        scheduler = Scheduler(engine, SchedulerSettings(runners=1))
        assert not scheduler.ready
        with pytest.raises(Unavailable, match="not ready"):
            await scheduler.submit(Job(request_for()))
        await scheduler.start()
        assert scheduler.ready
        scheduler.close()
        scheduler.close()
        with pytest.raises(Unavailable, match="stopping"):
            await scheduler.submit(Job(request_for()))

    asyncio.run(run())


def test_close_leaves_no_threads_behind(started: Any, request_for: Callable[..., Request]) -> None:
    async def run() -> None:
        async with started(runners=2) as scheduler:
            await scheduler.submit(Job(request_for()))

    asyncio.run(run())
    left = {
        thread.name for thread in threading.enumerate() if thread.name.startswith(("slimpath-run", "slimpath-watch"))
    }
    assert not left


def test_check_refuses_what_submit_would_before_the_image_is_there(
    started: Any, gate: Gate, request_for: Callable[..., Request]
) -> None:
    async def run() -> None:
        async with started(queue_limit=2, max_batch=1) as scheduler:
            nothing = Request(b"", None)
            scheduler.check(Job(nothing))  # not seen yet: nothing is known
            forget(gate)
            gate.open.clear()
            jobs = [asyncio.create_task(scheduler.submit(Job(request_for())))]
            await entered(gate)  # it runs: the others find an empty queue
            jobs += [asyncio.create_task(scheduler.submit(Job(request_for()))) for _ in range(2)]
            await waiting(scheduler, 2)
            with pytest.raises(Refused, match="queue is full"):
                scheduler.check(Job(nothing))
            gate.open.set()
            await asyncio.gather(*jobs)
            scheduler.check(Job(nothing))
            assert scheduler.stats().refused == 1

    asyncio.run(run())


def test_a_first_in_first_out_server_answers_everything_however_late(
    started: Any, gate: Gate, request_for: Callable[..., Request]
) -> None:
    async def run() -> list[Outcome]:
        async with started(fifo=True, queue_limit=1) as scheduler:
            forget(gate)
            gate.open.clear()
            jobs = [Job(request_for(), time.monotonic() + 0.05) for _ in range(5)]
            tasks = [asyncio.create_task(scheduler.submit(job)) for job in jobs]
            await asyncio.sleep(0.1)
            gate.open.set()
            return await asyncio.gather(*tasks)

    outcomes = asyncio.run(run())
    assert not any(outcome.degraded for outcome in outcomes)
    assert all(outcome.slack_ms is not None and outcome.slack_ms < 0 for outcome in outcomes)


def test_the_pool_runs_functions_and_passes_errors_on(started: Any) -> None:
    async def run() -> int:
        async with started() as scheduler:
            with pytest.raises(ZeroDivisionError):
                await scheduler.pool(lambda: 1 / 0)
            return await scheduler.pool(max, 3, 7)

    assert asyncio.run(run()) == 7


def test_the_pools_backlog_is_bounded(started: Any) -> None:
    async def run() -> None:
        async with started(queue_limit=2, pool_threads=1) as scheduler:
            release = threading.Event()
            tasks = [asyncio.create_task(scheduler.pool(release.wait, SOON_S)) for _ in range(4)]
            await asyncio.sleep(0)
            with pytest.raises(Refused):
                await scheduler.pool(release.wait, SOON_S)
            release.set()
            await asyncio.gather(*tasks)

    asyncio.run(run())
