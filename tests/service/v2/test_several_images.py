"""A request of several images is several jobs: all are answered, or none."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

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
