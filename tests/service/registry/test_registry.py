"""Loading, hot reload and unloading, on engines that only remember what was done to them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from slimpath.runtime.errors import BackendError, BundleError
from slimpath.service.model_errors import LoadFailed, NotReady, UnknownModel
from slimpath.service.registry import ModelRegistry
from slimpath.tests.service.registry.fakes import Opened

JOB: Any = object()


@pytest.fixture
def opened() -> Opened:
    return Opened()


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 60))


def only(registry: ModelRegistry) -> tuple[str, str]:
    (entry,) = registry.index()
    return entry.state, entry.reason


def test_it_is_ready_once_every_model_is_open_and_not_before(opened: Opened, bundle: Path) -> None:
    async def work() -> None:
        registry = opened.registry(f"a={bundle}", f"b={bundle}")
        assert not registry.ready()
        with pytest.raises(NotReady, match="never loaded"):
            registry.get("a")
        seen: list[bool] = []
        opened.before_open = lambda folder: seen.append(registry.ready())
        await registry.start()
        assert registry.ready() and seen == [False, False]
        assert [model.name for model in registry.models()] == ["a", "b"]
        assert registry.get().name == "a"  # the first one is meant where none is named
        await registry.close()
        assert not registry.ready()

    run(work)


def test_a_model_is_called_as_its_manifest_says_or_as_the_source_says(opened: Opened, bundle: Path) -> None:
    assert opened.registry(bundle).index()[0].name == "tiny"
    assert opened.registry(f"rooms={bundle}").index()[0].name == "rooms"


def test_a_folder_with_an_equals_sign_is_a_folder(opened: Opened, copied_bundle: Path) -> None:
    odd = copied_bundle.rename(copied_bundle.with_name("a=b"))
    assert opened.registry(odd).index()[0].name == "tiny"


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "a b", "x" * 129, "\0"])
def test_names_that_do_not_fit_into_a_url_are_refused(opened: Opened, bundle: Path, name: str) -> None:
    with pytest.raises(LoadFailed, match="name must be letters"):
        opened.registry(f"{name}={bundle}")


def test_two_models_of_one_name_are_refused(opened: Opened, bundle: Path) -> None:
    with pytest.raises(LoadFailed, match="two models are called 'tiny'; name one of them"):
        opened.registry(bundle, bundle)


def test_a_bundle_that_is_none_is_refused_at_the_start(opened: Opened, tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        opened.registry(tmp_path)


def test_a_start_that_fails_says_why_and_leaves_nothing_open(opened: Opened, bundle: Path) -> None:
    async def work() -> None:
        registry = opened.registry(f"a={bundle}", f"b={bundle}")

        def fail_second(folder: Path) -> None:
            if opened.engines:
                raise BackendError("the library is missing")

        opened.before_open = fail_second
        with pytest.raises(LoadFailed, match="model 'b' was not loaded: the library is missing"):
            await registry.start()
        assert not registry.ready()
        await registry.close()
        assert [engine.closed for engine in opened.engines] == [True]

    run(work)


def test_a_scheduler_that_cannot_start_is_closed_before_its_engine(opened: Opened, bundle: Path) -> None:
    async def work() -> None:
        registry = opened.registry(bundle)
        await registry.start()
        schedule = registry._make_scheduler

        def make(name: str, engine: Any) -> Any:
            scheduler = schedule(name, engine)

            async def start() -> None:
                raise BackendError("it answers nothing")

            def close() -> None:
                assert not engine.closed
                opened.schedulers[-1].log.append("close")

            opened.schedulers[-1].start, opened.schedulers[-1].close = start, close  # type: ignore[method-assign]
            return scheduler

        registry._make_scheduler = make
        with pytest.raises(LoadFailed, match="it answers nothing"):
            await registry.reload()
        assert [engine.closed for engine in opened.engines] == [False, True]
        assert opened.schedulers[1].log == ["close"]
        assert registry.get().engine is opened.engines[0]
        await registry.close()

    run(work)


def test_a_reload_keeps_the_old_engine_until_the_new_one_is_warm(opened: Opened, bundle: Path) -> None:
    async def work() -> None:
        registry = opened.registry(bundle)
        await registry.start()
        old = registry.get()
        opening, go_on = threading.Event(), threading.Event()

        def wait(folder: Path) -> None:
            opening.set()
            assert go_on.wait(30)

        opened.before_open = wait
        reload = asyncio.ensure_future(registry.reload())
        while not opening.is_set():
            await asyncio.sleep(0.005)
        assert registry.get() is old and registry.ready()
        assert await old.scheduler.submit(JOB) is opened.schedulers[0]
        go_on.set()
        await reload
        new = registry.get()
        assert new is not old and registry.ready() and only(registry) == ("READY", "")
        assert registry.counts() == {"tiny": (2, 0)}
        await registry.close()
        assert [engine.closed for engine in opened.engines] == [True, True]

    run(work)


def test_a_broken_bundle_is_refused_and_the_old_one_stays(opened: Opened, copied_bundle: Path) -> None:
    async def work() -> None:
        registry = opened.registry(copied_bundle)
        await registry.start()
        old = registry.get()
        (copied_bundle / "manifest.json").write_text("{")
        with pytest.raises(LoadFailed, match=r"not JSON|schema_version") as error:
            await registry.reload()
        assert str(copied_bundle) not in str(error.value)  # it may go over the network
        assert registry.get() is old and registry.ready()
        state, reason = only(registry)
        assert state == "READY" and "manifest" in reason
        assert registry.counts() == {"tiny": (1, 1)}
        assert not opened.engines[0].closed
        await registry.close()

    run(work)


def test_whatever_a_bundle_makes_a_library_raise_is_a_refusal(opened: Opened, bundle: Path) -> None:
    async def work() -> None:
        registry = opened.registry(bundle)
        await registry.start()

        def explode(folder: Path) -> None:
            raise MemoryError(f"no room for {folder}")

        opened.before_open = explode
        with pytest.raises(LoadFailed, match=r"internal error \(MemoryError\)") as error:
            await registry.load("tiny")
        assert str(bundle) not in str(error.value)
        assert registry.ready()
        await registry.close()

    run(work)


def test_of_several_models_one_that_is_broken_does_not_hinder_the_others(opened: Opened, bundle: Path) -> None:
    async def work() -> None:
        registry = opened.registry(f"a={bundle}", f"b={bundle}")
        await registry.start()
        a, b = registry.get("a"), registry.get("b")
        calls: list[int] = []

        def fail_first(folder: Path) -> None:
            calls.append(1)
            if len(calls) == 1:
                raise BundleError("broken")

        opened.before_open = fail_first
        with pytest.raises(LoadFailed, match="'a' was not loaded"):
            await registry.reload()
        assert registry.get("a") is a and registry.get("b") is not b
        await registry.close()

    run(work)


def test_a_request_in_flight_keeps_its_engine_through_a_reload(opened: Opened, bundle: Path) -> None:
    async def work() -> None:
        registry = opened.registry(bundle)
        await registry.start()
        opened.schedulers[0].gate.clear()

        async def request() -> Any:
            async with registry.use() as model:
                await asyncio.sleep(0.05)  # as a decode takes
                return await model.scheduler.submit(JOB)

        waiting = asyncio.ensure_future(request())
        await asyncio.sleep(0)
        await registry.reload()
        assert not opened.engines[0].closed and not opened.schedulers[0].log[1:]
        opened.schedulers[0].gate.set()
        assert await waiting is opened.schedulers[0]
        while not opened.engines[0].closed:
            await asyncio.sleep(0.005)
        assert opened.schedulers[0].log == ["start", "drain", "close"]
        await registry.close()

    run(work)


def test_unloading_answers_what_was_accepted_then_frees_everything(opened: Opened, bundle: Path) -> None:
    async def work() -> None:
        registry = opened.registry(f"a={bundle}", f"b={bundle}")
        await registry.start()
        model = registry.get("a")
        opened.schedulers[0].gate.clear()

        async def request() -> Any:
            async with registry.use("a") as model:
                return await model.scheduler.submit(JOB)

        waiting = asyncio.ensure_future(request())
        await asyncio.sleep(0.01)
        unloading = asyncio.ensure_future(registry.unload("a"))
        await asyncio.sleep(0.02)
        assert registry.index()[0].state == "UNLOADING" and not opened.engines[0].closed
        with pytest.raises(NotReady, match="unloading"):
            registry.get("a")
        opened.schedulers[0].gate.set()
        await unloading
        assert await waiting is opened.schedulers[0]
        assert opened.engines[0].closed and not model.ready
        assert registry.index()[0].state == "UNAVAILABLE"
        assert registry.ready()  # b is wanted, a no longer
        await registry.load("a")
        assert registry.get("a").ready
        await registry.close()

    run(work)


def test_requests_that_never_end_do_not_hold_a_shutdown_forever(opened: Opened, bundle: Path) -> None:
    async def work() -> None:
        registry = opened.registry(bundle)
        await registry.start()
        opened.schedulers[0].gate.clear()

        async def request() -> None:
            async with registry.use() as model:
                await model.scheduler.submit(JOB)

        waiting = asyncio.ensure_future(request())
        await asyncio.sleep(0.01)
        await registry.close(drain_timeout_s=0.1)
        assert opened.engines[0].closed
        waiting.cancel()

    run(work)


def test_closing_while_a_model_loads_closes_that_one_too(opened: Opened, bundle: Path) -> None:
    async def work() -> None:
        registry = opened.registry(bundle)
        opening, go_on = threading.Event(), threading.Event()

        def wait(folder: Path) -> None:
            opening.set()
            assert go_on.wait(30)

        opened.before_open = wait
        starting = asyncio.ensure_future(registry.start())
        while not opening.is_set():
            await asyncio.sleep(0.005)
        await registry.close()
        go_on.set()
        await asyncio.gather(starting, return_exceptions=True)
        while not (opened.engines and opened.engines[0].closed):
            await asyncio.sleep(0.005)

    run(work)


def test_a_caller_that_hangs_up_does_not_leave_a_model_half_loaded(opened: Opened, bundle: Path) -> None:
    async def work() -> None:
        registry = opened.registry(bundle)
        await registry.start()
        go_on = threading.Event()

        def wait(folder: Path) -> None:
            assert go_on.wait(30)

        opened.before_open = wait
        loading = asyncio.ensure_future(registry.load("tiny"))
        await asyncio.sleep(0.02)
        loading.cancel()
        go_on.set()
        while registry.counts()["tiny"] != (2, 0):
            await asyncio.sleep(0.005)
        assert registry.get().engine is opened.engines[1]
        await registry.close()

    run(work)


def test_loads_of_one_model_come_one_after_the_other(opened: Opened, bundle: Path) -> None:
    async def work() -> None:
        registry = opened.registry(bundle)
        at_once, most = [0], [0]
        lock = threading.Lock()

        def count(folder: Path) -> None:
            with lock:
                at_once[0] += 1
                most[0] = max(most[0], at_once[0])
            threading.Event().wait(0.01)
            with lock:
                at_once[0] -= 1

        opened.before_open = count
        await asyncio.gather(*(registry.load("tiny") for _ in range(4)))
        assert most == [1] and registry.counts() == {"tiny": (4, 0)}
        await registry.close()
        assert all(engine.closed for engine in opened.engines)

    run(work)


def test_a_bundle_can_be_added_while_serving(opened: Opened, bundle: Path) -> None:
    async def work() -> None:
        registry = opened.registry(f"a={bundle}")
        await registry.start()
        model = await registry.load(bundle)  # a Path, not a name
        assert model.name == "tiny" and registry.get("tiny") is model
        await registry.close()

    run(work)


def test_unknown_names_are_told_what_there_is(opened: Opened, bundle: Path) -> None:
    registry = opened.registry(bundle)
    with pytest.raises(UnknownModel, match="unknown model 'nobody'; this server has tiny"):
        registry.get("nobody")
    with pytest.raises(UnknownModel) as error:
        registry.get("\x1b[31m" + "x" * 5000)
    assert len(str(error.value)) < 300 and "\x1b" not in str(error.value)


def test_a_model_that_takes_long_to_close_does_not_stop_the_event_loop(opened: Opened, bundle: Path) -> None:
    loop_goes_on = threading.Event()
    waited: list[bool] = []

    async def work() -> None:
        registry = opened.registry(f"a={bundle}")
        await registry.start()
        opened.schedulers[0].close = lambda: waited.append(loop_goes_on.wait(20))  # as it joins a runner that hangs
        unloading = asyncio.ensure_future(registry.unload("a"))
        while not waited and not unloading.done():
            await asyncio.sleep(0.01)
            loop_goes_on.set()
        await unloading
        await registry.close()

    run(work)
    assert waited == [True] and opened.engines[0].closed
