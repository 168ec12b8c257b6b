"""A request of several images is several jobs: all are answered, or none."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from slimpath.runtime.engine import Engine
from slimpath.runtime.errors import BackendError
from slimpath.service.v2.router import _submit_all


class Model:
    """Answers numbers; 13 fails once the others are waiting."""

    def __init__(self) -> None:
        self.cancelled: list[Any] = []

    async def submit(self, job: Any) -> Any:
        try:
            await asyncio.sleep(0.01 if job == 13 else 0.02 if job < 13 else 60)
        except asyncio.CancelledError:
            self.cancelled.append(job)
            raise
        if job == 13:
            raise BackendError("unlucky")
        return -job


def submit(model: Model, jobs: list[Any]) -> list[Any]:
    return asyncio.run(asyncio.wait_for(_submit_all(model, jobs), 30))  # type: ignore[arg-type]  # a fake


def test_answers_come_in_the_order_of_the_images() -> None:
    assert submit(Model(), [1]) == [-1]
    assert submit(Model(), [3, 1, 2]) == [-3, -1, -2]


def test_the_first_error_drops_the_others_at_once() -> None:
    model = Model()
    with pytest.raises(BackendError, match="unlucky"):
        submit(model, [99, 13, 98])
    assert sorted(model.cancelled) == [98, 99]


def test_a_client_that_hangs_up_drops_all_of_them() -> None:
    model = Model()

    async def work() -> None:
        asking = asyncio.ensure_future(_submit_all(model, [98, 99]))  # type: ignore[arg-type]  # a fake
        await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(asyncio.wait_for(work(), 30))
    assert sorted(model.cancelled) == [98, 99]


def test_planning_for_several_images_does_not_hold_up_the_event_loop(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Engine.plan
    in_loop: list[bool] = []

    def watched(self: Any, *arguments: Any, **options: Any) -> Any:
        in_loop.append(asyncio._get_running_loop() is not None)
        return plan(self, *arguments, **options)

    monkeypatch.setattr(Engine, "plan", watched)
    tensor = {"name": "image", "shape": [2, 1, 1, 3], "datatype": "UINT8", "data": [0] * 6}
    answer = httpx.post(f"http://127.0.0.1:{port}/v2/models/tiny/infer", json={"inputs": [tensor]}, timeout=60)
    assert answer.status_code == 200 and in_loop and not any(in_loop)
