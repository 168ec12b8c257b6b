"""One engine on the fake machine: copies, recorded runs, shared scratch memory, and memory that is given back."""

from __future__ import annotations

import gc
import logging

import numpy as np
import pytest

from slimpath.runtime import Bundle
from slimpath.runtime.bundles.gpu_graphs import read_gpu_graph
from slimpath.runtime.errors import BackendError
from slimpath.runtime.tensorrt.building import BuildOptions, build_plan
from slimpath.runtime.tensorrt.checking import example_feeds
from slimpath.runtime.tensorrt.device import Device
from slimpath.runtime.tensorrt.engine import Engine
from slimpath.runtime.tensorrt.worker import find_spec

OPTIONS = BuildOptions(64 << 20)


@pytest.fixture
def bundle(gpu_bundle) -> Bundle:
    return Bundle.open(gpu_bundle)


def graph_file(bundle: Bundle, kind: str = "encoder", **wanted) -> str:
    assert bundle.manifest.gpu is not None
    wanted = {"precision": "fp32", "size_hw": (32, 48), "width": 1.0, **wanted}
    for graph in bundle.manifest.gpu.graphs:
        if graph.kind == kind and all(getattr(graph, name) == value for name, value in wanted.items()):
            return graph.file
    raise LookupError(wanted)


def plan_of(device: Device, bundle: Bundle, file: str, *, stripped: bool = False) -> bytes:
    graph = read_gpu_graph(bundle, find_spec(bundle, file))
    options = BuildOptions(64 << 20, stripped)
    return build_plan(device.trt, graph, bundle.path / file, options, device.log)[0]


def make(device: Device, bundle: Bundle, file: str) -> Engine:
    return Engine(device, plan_of(device, bundle, file))


def feeds_of(bundle: Bundle, file: str, seed: int = 0) -> dict[str, np.ndarray]:
    return example_feeds(bundle, find_spec(bundle, file), seed)


def test_runs_are_launches_of_one_recorded_graph(install, bundle):
    fake = install()
    device, file = Device(), graph_file(bundle, rows=5)
    engine = make(device, bundle, file)
    answers = [engine.run(feeds_of(bundle, file, seed))["tokens"] for seed in (0, 1, 0)]
    assert engine.uses_graph and fake.machine.launches == 3
    np.testing.assert_array_equal(answers[0], answers[2])
    assert not np.array_equal(answers[0], answers[1])
    # Once before recording, and once in each of the two recordings.
    assert len(fake.machine.named("IExecutionContext.execute_async_v3")) == 3


def test_answer_is_not_overwritten_by_the_next_run(install, bundle):
    install()
    file = graph_file(bundle)
    engine = make(Device(), bundle, file)
    first = engine.run(feeds_of(bundle, file, 0))["tokens"]
    kept = first.copy()
    engine.run(feeds_of(bundle, file, 1))
    np.testing.assert_array_equal(first, kept)


def test_routers_go_to_the_device_only_when_they_change(install, bundle):
    install()
    device, file = Device(), graph_file(bundle, rows=5)
    engine = make(device, bundle, file)
    feeds, other = feeds_of(bundle, file, 0), feeds_of(bundle, file, 1)
    assert not feeds["router"].flags.writeable and not feeds["router_bias"].flags.writeable
    wanted = engine.run(feeds)["tokens"]
    launched: list[bool] = []
    launch = engine._launch
    engine._launch = lambda *, all_inputs: (launched.append(all_inputs), launch(all_inputs=all_inputs))[1]  # type: ignore[method-assign]
    again = engine.run({**feeds})["tokens"]
    changed = engine.run({**feeds, "router": feeds["router"] * 2})["tokens"]
    back = engine.run(feeds)["tokens"]
    engine.run({**feeds, "image": other["image"]})
    assert launched == [False, True, True, False]
    np.testing.assert_array_equal(again, wanted)
    np.testing.assert_array_equal(back, wanted)
    assert not np.array_equal(changed, wanted)


def test_array_that_may_change_in_place_is_always_copied(install, bundle):
    install()
    file = graph_file(bundle, rows=5)
    engine = make(Device(), bundle, file)
    feeds = feeds_of(bundle, file)
    feeds["router"] = feeds["router"].copy()
    first = engine.run(feeds)["tokens"]
    feeds["router"] *= 3
    assert not np.array_equal(engine.run(feeds)["tokens"], first)


def test_engines_share_scratch_memory_as_large_as_the_largest_needs(install, bundle):
    fake = install()
    device = Device()
    files = [graph_file(bundle, "head", task="scene", width=0.5, rows=1), graph_file(bundle, rows=5)]
    small, large = (make(device, bundle, file) for file in files)
    before = small.run(feeds_of(bundle, files[0]))["scene"]
    held = device.scratch_bytes
    large.run(feeds_of(bundle, files[1]))
    assert device.scratch_bytes > held
    sizes = [size for address, (_, size, _) in fake.machine.blocks.items() if address == device.scratch]
    assert sizes == [device.scratch_bytes]
    # The block has moved: the small engine records anew, and does not touch the old one.
    np.testing.assert_array_equal(small.run(feeds_of(bundle, files[0]))["scene"], before)
    assert small.uses_graph


def test_run_that_cannot_be_recorded_is_run_directly_and_said(install, bundle, caplog):
    fake = install()
    device, file = Device(), graph_file(bundle)
    engine = make(device, bundle, file)
    wanted = engine.run(feeds_of(bundle, file))["tokens"]
    fake.machine.capture_fails = True
    other = make(device, bundle, file)
    with caplog.at_level(logging.WARNING):
        answers = [other.run(feeds_of(bundle, file, seed))["tokens"] for seed in (0, 1, 0)]
    assert not other.uses_graph and "runs without a CUDA graph" in caplog.text and len(caplog.records) == 1
    np.testing.assert_array_equal(answers[0], wanted)
    np.testing.assert_array_equal(answers[2], wanted)


@pytest.mark.parametrize("way", ["close", "collected"])
def test_memory_is_given_back(install, bundle, way):
    fake = install()
    device, file = Device(), graph_file(bundle, rows=5)
    engine = make(device, bundle, file)
    engine.run(feeds_of(bundle, file))
    assert engine.buffer_bytes > 0 and fake.machine.graphs
    if way == "close":
        engine.close()
        engine.close()
        with pytest.raises(BackendError, match="the engine is closed"):
            engine.run(feeds_of(bundle, file))
    else:
        del engine
        gc.collect()
    assert not fake.machine.graphs
    assert set(fake.machine.blocks) == {device.scratch}


def test_engine_collected_during_a_recording_is_freed_afterwards(install, bundle):
    fake = install()
    device, file = Device(), graph_file(bundle)
    engine = make(device, bundle, file)
    engine.run(feeds_of(bundle, file))
    blocks = len(fake.machine.blocks)
    with device.recording():
        engine.close()
        assert len(fake.machine.blocks) == blocks
    assert set(fake.machine.blocks) == {device.scratch}


def test_memory_that_runs_out_is_an_error_and_leaves_nothing(install, bundle):
    fake = install()
    device, file = Device(), graph_file(bundle, rows=5)
    plan = plan_of(device, bundle, file)
    fake.machine.limit_bytes = 20_000
    with pytest.raises(BackendError, match=r"cudaMalloc failed: cudaErrorMemoryAllocation .*memory is full"):
        Engine(device, plan)
    gc.collect()
    assert not fake.machine.blocks


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda feeds: feeds.pop("router"), "wants the input 'router'"),
        (lambda feeds: feeds.update(image=feeds["image"][:, :, :16]), r"takes image as \[1, 3, 32, 48\], got"),
        (lambda feeds: feeds.update(image_index=feeds["image_index"] + 0.5), "takes image_index as int32, got float64"),
    ],
)
def test_wrong_input_is_refused(install, bundle, change, words):
    install()
    file = graph_file(bundle, rows=5)
    engine = make(Device(), bundle, file)
    feeds = feeds_of(bundle, file)
    change(feeds)
    with pytest.raises(BackendError, match=words):
        engine.run(feeds)


def test_plan_of_another_version_is_refused_in_tensorrts_words(install, bundle):
    install("10.3.0")
    plan = plan_of(Device(), bundle, graph_file(bundle))
    install("10.16.1.11")
    with pytest.raises(BackendError, match=r"cannot load the engine: Serialization assertion.*slimpath compile"):
        Engine(Device(), plan)


def test_stripped_plan_takes_its_weights_from_the_bundle(fake, bundle):
    device, file = Device(), graph_file(bundle)
    whole = make(device, bundle, file)
    plan = plan_of(device, bundle, file, stripped=True)
    flags = [call["flag"].name for call in fake.machine.named("IBuilderConfig.set_flag")]
    assert flags == ["STRIP_PLAN", "REFIT_IDENTICAL"]
    graph = read_gpu_graph(bundle, find_spec(bundle, file))
    stripped = Engine(device, plan, stripped=True, graph=graph, where=bundle.path / file)
    feeds = feeds_of(bundle, file)
    np.testing.assert_array_equal(stripped.run(feeds)["tokens"], whole.run(feeds)["tokens"])
    with pytest.raises(BackendError, match="addresses, weights or device memory are not set"):
        Engine(device, plan).run(feeds)


def test_refit_with_another_graph_or_with_weights_missing_is_refused(install, bundle):
    fake = install()
    device, file = Device(), graph_file(bundle)
    plan = plan_of(device, bundle, file, stripped=True)
    other = graph_file(bundle, "head", task="depth")
    wrong = read_gpu_graph(bundle, find_spec(bundle, other))
    with pytest.raises(BackendError, match="cannot take these weights"):
        Engine(device, plan, stripped=True, graph=wrong, where=bundle.path / other)
    fake.misses_weights = True
    graph = read_gpu_graph(bundle, find_spec(bundle, file))
    with pytest.raises(BackendError, match=r"still lacks the weights 'block.0.up' and 1 more"):
        Engine(device, plan, stripped=True, graph=graph, where=bundle.path / file)
