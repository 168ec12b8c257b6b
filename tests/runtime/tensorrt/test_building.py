"""Builds: what TensorRT is asked for, what it refuses, and what is learnt for the next build."""

from __future__ import annotations

import numpy as np
import pytest

from slimpath.runtime import Bundle
from slimpath.runtime.bundles.gpu_graphs import read_gpu_graph
from slimpath.runtime.errors import BackendError
from slimpath.runtime.tensorrt import checking
from slimpath.runtime.tensorrt.building import BuildOptions, build_plan
from slimpath.runtime.tensorrt.checking import TOLERANCES, example_feeds, require_precision
from slimpath.runtime.tensorrt.device import Device
from slimpath.runtime.tensorrt.engine_file import engine_path, timing_cache_path, write_private
from slimpath.runtime.tensorrt.fingerprint import take_fingerprint
from slimpath.runtime.tensorrt.worker import Job, build, find_spec

OPTIONS = BuildOptions(64 << 20)


@pytest.fixture
def bundle(gpu_bundle) -> Bundle:
    return Bundle.open(gpu_bundle)


def encoder_file(bundle: Bundle, precision: str = "fp32") -> str:
    assert bundle.manifest.gpu is not None
    return next(g.file for g in bundle.manifest.gpu.graphs if g.kind == "encoder" and g.precision == precision)


def run_job(bundle: Bundle, file: str) -> None:
    build(Job(str(bundle.path), file, False, None, 3, 1), lambda *_: None)


def plan_from(device: Device, bundle: Bundle, file: str, **settings) -> tuple[bytes, bytes]:
    graph = read_gpu_graph(bundle, find_spec(bundle, file))
    return build_plan(device.trt, graph, bundle.path / file, OPTIONS, device.log, **settings)


def test_node_that_tensorrt_does_not_have_is_named(fake, bundle):
    fake.refuses_nodes = {"Softmax"}
    with pytest.raises(
        BackendError, match=r"cannot read this graph: Softmax .*no importer registered.*--lint tensorrt"
    ):
        plan_from(Device(), bundle, encoder_file(bundle))


def test_build_that_fails_gives_tensorrts_reason(fake, bundle):
    fake.build_fails = "Could not find any implementation for node {ForeignNode}."
    with pytest.raises(BackendError, match="cannot build this graph: Could not find any implementation"):
        run_job(bundle, encoder_file(bundle))
    assert not engine_path(bundle.digest, encoder_file(bundle)).exists()


def test_graph_with_open_shapes_is_refused(install, bundle):
    device = (install(), Device())[1]
    cpu = bundle.manifest.graphs[0]
    with pytest.raises(BackendError, match=r"inputs of open shapes: image \[-1, 3, 32, 48\].*--target gpu"):
        build_plan(device.trt, bundle.graph_bytes(cpu), bundle.path / cpu.file, OPTIONS, device.log)


def test_half_of_the_free_memory_is_the_default_limit(install, bundle):
    fake = install()
    run_job(bundle, encoder_file(bundle))
    limits = {call["pool_size"] for call in fake.machine.named("IBuilderConfig.set_memory_pool_limit")}
    assert limits == {fake.machine.free_bytes // 2}


def test_timings_of_one_build_help_the_next(fake, bundle):
    file = encoder_file(bundle)
    run_job(bundle, file)
    run_job(bundle, file)
    given = [call["serialized_timing_cache"] for call in fake.machine.named("IBuilderConfig.create_timing_cache")]
    assert given == [b"", b"t"]
    (kept,) = engine_path(bundle.digest, file).parent.parent.glob("timing-*.cache")
    assert kept.read_bytes() == b"tt" and kept.stat().st_mode & 0o077 == 0


def test_timings_that_do_not_fit_are_begun_anew(fake, bundle):
    device = Device()
    plan, learnt = plan_from(device, bundle, encoder_file(bundle), timing_cache=b"foreign")
    assert plan and learnt == b"t"


def test_timings_that_others_can_write_are_not_read(install, bundle):
    fake = install()
    device = Device()
    fingerprint = take_fingerprint(device.cuda.facts, device.version, bundle="", graph_sha256="")
    path = timing_cache_path(fingerprint)
    write_private(path, b"planted")
    path.chmod(0o666)
    run_job(bundle, encoder_file(bundle))
    assert fake.machine.named("IBuilderConfig.create_timing_cache")[0]["serialized_timing_cache"] == b""


@pytest.mark.parametrize("noise", [0.01, float("nan"), float("inf")])
def test_engine_with_other_answers_is_not_kept(install, bundle, noise):
    fake = install()
    fake.noise = noise
    with pytest.raises(BackendError, match=r"does not give the graph's answers.*nothing was kept"):
        run_job(bundle, encoder_file(bundle))
    assert not engine_path(bundle.digest, encoder_file(bundle)).exists()


def test_below_fp32_the_bound_is_on_the_mean_error(install, bundle):
    fake = install()
    file = encoder_file(bundle, "fp16")
    fake.noise = 0.01  # some per cent of the values: rounding of fp16 does as much
    run_job(bundle, file)
    fake.noise = 0.5
    with pytest.raises(BackendError, match="root mean square"):
        run_job(bundle, file)


def test_one_input_of_three_may_disagree_and_no_more(install, bundle, monkeypatch):
    install()
    worst = TOLERANCES["fp32"] * 10
    errors = [(0.0, 0.0, 1.0), (worst, worst, 1.0), (0.0, 0.0, 1.0)]
    monkeypatch.setattr(checking, "_error", lambda *_: errors.pop())
    run_job(bundle, encoder_file(bundle))
    errors += [(worst, worst, 1.0), (worst, worst, 1.0), (0.0, 0.0, 1.0)]
    with pytest.raises(BackendError, match="does not give the graph's answers"):
        run_job(bundle, encoder_file(bundle))


@pytest.mark.parametrize(("precision", "word"), [("fp32", "Half"), ("fp32", "BF16"), ("fp16", "Int8"), ("fp16", "FP8")])
def test_engine_in_less_than_its_graphs_types_is_not_kept(install, bundle, precision, word):
    fake = install()
    fake.layer_word = word
    file = encoder_file(bundle, precision)
    with pytest.raises(BackendError, match=f"is {precision}, and the engine has layers in"):
        run_job(bundle, file)
    assert not engine_path(bundle.digest, file).exists()


def test_precision_may_be_higher_than_asked_for(gpu_bundle):
    spec = find_spec(bundle := Bundle.open(gpu_bundle), encoder_file(bundle, "fp16"))
    require_precision(spec, {"FP32": 9})
    require_precision(spec, {})


def test_example_inputs_fit_every_graph(bundle, dense_gpu_bundle):
    for opened in (bundle, Bundle.open(dense_gpu_bundle)):
        assert opened.manifest.gpu is not None
        for spec in opened.manifest.gpu.graphs:
            feeds = example_feeds(opened, spec, 3)
            assert {name: (value.shape, value.dtype.name) for name, value in feeds.items()} == {
                port.name: (port.shape, port.dtype) for port in spec.inputs
            }
            if "image_index" in feeds:
                assert set(feeds["image_index"]) == set(range(spec.images))
            assert not any(
                np.array_equal(v, example_feeds(opened, spec, 4)[n]) for n, v in feeds.items() if n == "image"
            )
