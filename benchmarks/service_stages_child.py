"""The server of service_stages.py: notes when requests pass its places. VARIANT FILE, then `slimpath`'s arguments."""

from __future__ import annotations

import atexit
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from slimpath.cli.app import main
from slimpath.runtime.engine import Engine
from slimpath.service import limits, malloc, protocol
from slimpath.service.scheduler.desk import Desk
from slimpath.service.scheduler.scheduler import Scheduler
from slimpath.service.v1 import infer as v1_infer
from slimpath.service.v2 import router

KEPT_AFTER = 5  # answers of the engine, then the last one again and again

_stamps: list[dict[str, float]] = []


def note(place: str) -> None:
    """The request that is being answered passes a place; there is one at a time."""
    if place == "whole":
        _stamps.append({})
    if _stamps:
        _stamps[-1].setdefault(place, time.perf_counter())


def before(owner: Any, name: str, place: str) -> None:
    """Note a place whenever a function is called."""
    function = getattr(owner, name)

    def noted(*args: Any, **options: Any) -> Any:
        note(place)
        return function(*args, **options)

    setattr(owner, name, noted)


def after(owner: Any, name: str, place: str) -> None:
    """Note a place whenever a coroutine has ended."""
    function = getattr(owner, name)

    async def noted(*args: Any, **options: Any) -> Any:
        answer = await function(*args, **options)
        note(place)
        return answer

    setattr(owner, name, noted)


def watch_places() -> None:
    """The places of service_stages.STAGES."""
    before(HttpToolsProtocol, "on_message_complete", "whole")
    before(router, "_infer", "handled")
    before(router, "_submit_all", "submitted")
    after(router, "_submit_all", "told")
    after(router, "_write", "written")
    run_batch = Engine.run_batch

    def noted(self: Engine, *args: Any, **options: Any) -> Any:
        note("engine")
        answers = run_batch(self, *args, **options)
        note("answered")
        return answers

    Engine.run_batch = noted  # type: ignore[method-assign]


def keep_answers() -> None:
    """The engine answers a few times, then gives its last answer again."""
    run_batch = Engine.run_batch
    answers: list[Any] = []

    def run(self: Engine, *args: Any, **options: Any) -> Any:
        if len(_stamps) <= KEPT_AFTER:
            answers[:] = run_batch(self, *args, **options)
        return list(answers)

    Engine.run_batch = run  # type: ignore[method-assign]


def copy_bodies() -> None:
    """uvicorn's way with bodies, Starlette's with the whole one, and answers put together."""
    protocol._GuardedProtocol.on_body = HttpToolsProtocol.on_body  # type: ignore[method-assign]

    async def whole_body(request: Any) -> bytes:
        return await request.body()

    for module in (limits, router, v1_infer):
        setattr(module, "whole_body", whole_body)  # noqa: B010  # a function of another type is put in its place

    def joined(pieces: Any, headers: Any) -> Response:
        return Response(b"".join(pieces), headers=headers)

    router.Pieces = joined  # type: ignore[assignment]


def trim_heaps() -> None:
    malloc.KEPT_BYTES = 128 << 10  # what glibc has without being told


def check_twice() -> None:
    """Also where nothing has to be decoded, as the router once did."""
    submit_all = router._submit_all

    async def checked(model: Any, jobs: Any) -> Any:
        model.check(jobs[0])
        return await submit_all(model, jobs)

    router._submit_all = checked


def learn_first() -> None:
    """Costs are observed before the event loop is told."""
    finish, done = Desk.finish, Scheduler._done

    def done_later(self: Scheduler, runner: int, batch: Any, answers: Any) -> None:
        seconds = time.monotonic() - self._desk.fleet.began_s(runner)
        self._desk.costs.observe(batch.rungs, seconds)
        done(self, runner, batch, answers)

    def finish_only(self: Desk, runner: int, batch: Any, seconds: float | None) -> None:
        finish(self, runner, batch, None)

    Scheduler._done = done_later  # type: ignore[method-assign]
    Desk.finish = finish_only  # type: ignore[method-assign]


VARIANTS: dict[str, Callable[[], None]] = {
    "copies": copy_bodies,
    "trim": trim_heaps,
    "check": check_twice,
    "last": learn_first,
    "switch": lambda: sys.setswitchinterval(0.0005),
    "the engine answers at once": keep_answers,
}

if __name__ == "__main__":
    variant, path = sys.argv[1], Path(sys.argv[2])
    if variant != "uvloop":
        sys.modules["uvloop"] = None  # type: ignore[assignment]  # or uvicorn would take it
    if variant in VARIANTS:
        VARIANTS[variant]()
    watch_places()
    atexit.register(lambda: path.write_text(json.dumps(_stamps)))
    sys.argv = ["slimpath", *sys.argv[3:]]
    main()
