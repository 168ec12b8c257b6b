"""Tasks that join and leave a running engine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from slimpath.runtime.backends.ort import OrtBackend, OrtSession
from slimpath.runtime.bundles.bundle import Bundle
from slimpath.runtime.engine import Engine
from slimpath.runtime.errors import BackendError, PackError, TaskError
from slimpath.runtime.packs.pack import Pack
from slimpath.runtime.request import Request
from slimpath.runtime.tasks import TaskSpec
from slimpath.tests.runtime.tiny_bundle import TASKS
from slimpath.tests.runtime.tiny_pack import LAYOUT, build_tiny_pack

OLD = [task.name for task in TASKS]


@pytest.fixture(scope="module")
def pack(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_pack(tmp_path_factory.mktemp("packs") / "layout", tiny_bundle)


@pytest.fixture(params=["mapped", "packed"])
def tiered(request: pytest.FixtureRequest, tiny_bundle: Path) -> Iterator[Engine]:
    """Of each tier: a promotion in between would change the last bits."""
    with Engine.load(tiny_bundle, threads=1, tier=request.param) as engine:
        yield engine


def test_old_tasks_answer_bit_identically_with_a_pack(
    tiered: Engine, pack: Path, photo: Callable[..., np.ndarray]
) -> None:
    pictures = [photo(seed=seed) for seed in range(3)]
    before = [[tiered(p, OLD, budget)[t] for p in pictures for t in OLD] for budget in (None, "width=0.5", "top_k=1")]
    tiered.add_pack(pack)
    after = [[tiered(p, OLD, budget)[t] for p in pictures for t in OLD] for budget in (None, "width=0.5", "top_k=1")]
    for found, expected in zip(after, before):
        assert all(np.array_equal(a, b) for a, b in zip(found, expected))


def test_old_tasks_answer_bit_identically_beside_the_new_one(
    tiered: Engine, pack: Path, photo: Callable[..., np.ndarray]
) -> None:
    pictures = [photo(seed=seed) for seed in range(3)]
    before = tiered.run_batch([Request(picture, OLD) for picture in pictures])
    tiered.add_pack(pack)
    mixed = tiered.run_batch([Request(picture, [*OLD, "layout"]) for picture in pictures])
    for old, new in zip(before, mixed):
        assert all(np.array_equal(old[task], new[task]) for task in OLD)


def test_the_new_task_depends_on_its_own_router_and_head(
    tiny_bundle: Path, pack: Path, tmp_path: Path, photo: Callable[..., np.ndarray]
) -> None:
    other = build_tiny_pack(tmp_path / "other", tiny_bundle, seed=8)
    answers = []
    for path in (pack, other):
        with Engine.load(tiny_bundle, threads=1, packs=[path]) as engine:
            answers.append(engine(photo(), "layout", probabilities=True).probabilities["layout"])
    assert answers[0].shape == (3, 32, 48)
    assert not np.array_equal(*answers)


def test_a_pack_taken_off_leaves_nothing(engine: Engine, pack: Path, photo: Callable[..., np.ndarray]) -> None:
    before = engine(photo(), OLD)
    assert engine.add_pack(pack).name == "layout"
    engine(photo(), "layout")
    files = {loaded.graph.file for loaded in engine.sessions.loaded()}
    assert any("layout" in file for file in files)
    engine.remove_pack("layout")
    assert list(engine.tasks) == OLD
    assert not engine.packs
    assert not any("layout" in loaded.graph.file for loaded in engine.sessions.loaded())
    with pytest.raises(TaskError, match="unknown task 'layout'"):
        engine(photo(), "layout")
    after = engine(photo(), OLD)
    assert all(np.array_equal(before[task], after[task]) for task in OLD)


def test_a_request_under_way_ends_on_the_pack_that_was_taken_off(
    engine: Engine, pack: Path, photo: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has begun, its head is not loaded yet, the pack goes: it is answered, and only then is the pack let go."""
    engine.add_pack(pack)
    expected = engine(photo(), "layout", "decoder_width=1")["layout"]
    engine.sessions.forget(engine.packs["layout"])  # as if the head had never been loaded
    engine.sessions.lend(engine.packs["layout"])
    encoding, removed = threading.Event(), threading.Event()
    answerer = engine._views.current.answerer
    encode = answerer._executor._encode

    def slow(*arguments: object) -> object:
        encoding.set()
        assert removed.wait(30)
        return encode(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(answerer._executor, "_encode", slow)
    answers: list[np.ndarray] = []
    thread = threading.Thread(target=lambda: answers.append(engine(photo(), "layout", "decoder_width=1")["layout"]))
    thread.start()
    assert encoding.wait(30)
    engine.remove_pack("layout")
    assert "layout" not in engine.tasks
    removed.set()
    thread.join(30)
    assert np.array_equal(answers[0], expected)
    assert not any("layout" in loaded.graph.file for loaded in engine.sessions.loaded())
    assert not engine.sessions._lent


def test_loading_ahead_goes_on_for_a_pack_that_was_taken_off(engine: Engine, pack: Path) -> None:
    engine.add_pack(pack)

    def take_off(what: str, done: int, total: int) -> None:
        if "layout" in engine.packs:
            engine.remove_pack("layout")

    plans = engine.warm("layout", progress=take_off)
    assert plans and all(list(plan.decoder_widths) == ["layout"] for plan in plans)
    assert "layout" not in engine.tasks and not engine.sessions._lent


def test_packing_that_fails_after_a_pack_is_gone_does_not_stand_in_its_way(
    tiny_bundle: Path, pack: Path, photo: Callable[..., np.ndarray]
) -> None:
    starter = OrtBackend(threads=1)
    final = OrtBackend(threads=1)
    with Engine(Bundle.open(tiny_bundle), final, tier="packed") as engine:
        engine.add_pack(pack)
        pool = engine.sessions
        pool._first = (starter, "mapped")
        graph = next(graph for graph in engine.bundle.manifest.graphs if graph.task == "layout")
        pool.get(graph)
        (loaded,) = [one for one in pool.loaded() if one.graph.file == graph.file]
        loaded.tier = "mapped"

        def gone(*_: object, **__: object) -> OrtSession:
            engine.remove_pack("layout")
            raise BackendError("its pack was removed")

        final.load = gone  # type: ignore[method-assign]
        pool._promote(loaded)
        del final.load
        assert not pool._broken
        engine.add_pack(pack)
        assert engine(photo(), "layout")["layout"].size


def test_packs_come_and_go_while_threads_ask(tiny_bundle: Path, pack: Path, photo: Callable[..., np.ndarray]) -> None:
    """Every answer is right or a TaskError for a task that is not there, and old tasks never change."""
    with Engine.load(tiny_bundle, threads=1, tier="mapped") as engine:
        expected = engine(photo(), OLD)
        engine.add_pack(pack)
        layout = engine(photo(), "layout")["layout"]
        engine.remove_pack("layout")
        wrong: list[object] = []
        stop = threading.Event()

        def ask(tasks: list[str]) -> None:
            while not stop.is_set():
                try:
                    found = engine(photo(), tasks)
                except TaskError:
                    continue
                except Exception as error:  # reported below, in the test's own thread
                    wrong.append(error)
                    return
                truth = {**expected, "layout": layout}
                wrong.extend(task for task in found if not np.array_equal(found[task], truth[task]))

        threads = [threading.Thread(target=ask, args=(tasks,)) for tasks in (OLD[:2], ["layout"], ["depth", "layout"])]
        for thread in threads:
            thread.start()
        for _ in range(20):
            engine.add_pack(pack)
            engine.remove_pack("layout")
        stop.set()
        for thread in threads:
            thread.join(30)
        assert not wrong
        assert list(engine.tasks) == OLD


def test_several_packs_answer_together(
    tiny_bundle: Path, pack: Path, tmp_path: Path, photo: Callable[..., np.ndarray]
) -> None:
    second = build_tiny_pack(tmp_path / "mood", tiny_bundle, TaskSpec("mood", "image_classes", 4))
    with Engine.load(tiny_bundle, threads=1, tier="packed", packs=[pack]) as engine:
        alone = engine(photo(), "layout")["layout"]
        engine.add_pack(second)
        both = engine(photo(), ["mood", "layout", "depth"])
        assert np.array_equal(both["layout"], alone)
        assert both["mood"].shape == (4,)
        engine.remove_pack("layout")
        assert list(engine.packs) == ["mood"]


def test_the_planner_counts_the_new_head(engine: Engine, pack: Path) -> None:
    depth = engine.plan("depth")
    engine.add_pack(pack)
    plan = engine.plan("depth,layout")
    assert plan.flops > depth.flops
    assert plan.accuracies["layout"] is None  # nobody measured it
    assert plan.scored_by == "flops"
    assert dict(plan.parts)["layout"].flops == max(graph.cost.flops_row for graph in Pack.open(pack).graphs
                                                   if graph.size_hw == plan.size_hw)  # fmt: skip
    assert engine.plan("depth") == depth
    assert engine.plan("layout", 0.4).flops < engine.plan("layout").flops


def test_a_task_that_exists_is_refused(engine: Engine, tiny_bundle: Path, pack: Path, tmp_path: Path) -> None:
    engine.add_pack(pack)
    with pytest.raises(PackError, match="there is a task 'layout' already"):
        engine.add_pack(pack)
    depth = build_tiny_pack(tmp_path / "depth", tiny_bundle, TaskSpec("depth", "depth", 1))
    with pytest.raises(PackError, match="there is a task 'depth' already"):
        engine.add_pack(depth)
    assert list(engine.tasks) == [*OLD, "layout"]


def test_a_pack_of_another_bundle_is_refused(engine: Engine, dense_bundle: Path, tmp_path: Path) -> None:
    foreign = build_tiny_pack(tmp_path / "foreign", dense_bundle, LAYOUT)
    with pytest.raises(PackError, match="was trained for another bundle") as caught:
        engine.add_pack(foreign)
    assert "add-task" in caught.value.hint
    assert list(engine.tasks) == OLD
    assert not engine.sessions._lent


def test_only_packs_can_be_taken_off(engine: Engine) -> None:
    with pytest.raises(TaskError, match="no pack brought a task 'depth'"):
        engine.remove_pack("depth")


def test_a_backend_that_cannot_run_a_pack_says_so_at_once(
    engine: Engine, pack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> object:
        raise BackendError("engines are built ahead")

    monkeypatch.setattr(engine.sessions._final[0], "load", refuse)
    with pytest.raises(PackError, match=r"cannot run it: .*engines are built ahead"):
        engine.add_pack(pack)
    assert "layout" not in engine.tasks
    assert not engine.sessions._lent


def test_a_closed_engine_takes_no_pack(tiny_bundle: Path, pack: Path) -> None:
    engine = Engine.load(tiny_bundle, threads=1)
    engine.close()
    with pytest.raises(BackendError, match="closed"):
        engine.add_pack(pack)


def test_weights_replaced_after_opening_are_not_read(engine: Engine, tiny_bundle: Path, tmp_path: Path) -> None:
    opened = Pack.open(build_tiny_pack(tmp_path / "one", tiny_bundle))
    replaced = build_tiny_pack(tmp_path / "two", tiny_bundle, seed=9)
    (replaced / "weights.safetensors").replace(tmp_path / "one" / "weights.safetensors")
    with pytest.raises(PackError, match="was replaced after"):
        engine.add_pack(opened)
    assert "layout" not in engine.tasks


def test_a_dense_bundle_takes_a_pack_that_is_a_head_alone(
    dense_bundle: Path, tmp_path: Path, photo: Callable[..., np.ndarray]
) -> None:
    pack = build_tiny_pack(tmp_path / "pack", dense_bundle)
    with Engine.load(dense_bundle, threads=1, tier="packed") as engine:
        before = engine(photo(), OLD)
        engine.add_pack(pack)
        after = engine(photo(), [*OLD, "layout"])
        assert all(np.array_equal(before[task], after[task]) for task in OLD)
        assert after["layout"].shape == (32, 48)
