"""End to end on the fake: build, check, keep, load, run; in every version of TensorRT whose bindings were read."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from slimpath.runtime import Bundle, Engine
from slimpath.runtime.backends import make_backend
from slimpath.runtime.errors import BackendError, BudgetError
from slimpath.runtime.tensorrt import worker
from slimpath.runtime.tensorrt.engine_file import engine_path, read_header
from slimpath.tests.runtime.tensorrt.fake_machine import Machine


def job(bundle: Bundle, file: str, **changes) -> worker.Job:
    settings = {"stripped": False, "memory_bytes": 256 << 20, "optimization_level": 3, "threads": 1, **changes}
    return worker.Job(bundle=str(bundle.path), file=file, **settings)


def first_encoder(bundle: Bundle, precision: str = "fp32") -> str:
    assert bundle.manifest.gpu is not None
    return next(g.file for g in bundle.manifest.gpu.graphs if g.kind == "encoder" and g.precision == precision)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("stripped", [False, True])
def test_engine_is_built_typed_by_its_graph_and_kept_with_what_the_check_found(fake, gpu_bundle, precision, stripped):
    bundle = Bundle.open(gpu_bundle)
    file = first_encoder(bundle, precision)
    told: list[tuple[str, int, int]] = []
    worker.build(job(bundle, file, stripped=stripped), lambda *what: told.append(what))
    header = read_header(engine_path(bundle.digest, file))
    assert header.file == file and header.stripped is stripped
    assert header.fingerprint.tensorrt == fake.version and header.fingerprint.sm == "8.7"
    assert header.checked.max_abs_error < 1e-5 and header.checked.reference.startswith("onnxruntime")
    assert set(header.checked.layer_types) == {"FP32" if precision == "fp32" else "FP16"}
    assert ("Building Engine", 1, 2) in told and ("Timing", 0, 5) not in told
    flags = [call["flag"].name for call in fake.machine.named("IBuilderConfig.clear_flag")]
    assert flags == ["TF32"]
    limits = {c["pool"].name: c["pool_size"] for c in fake.machine.named("IBuilderConfig.set_memory_pool_limit")}
    assert limits == {"WORKSPACE": 256 << 20, "TACTIC_DRAM": 256 << 20}
    (created,) = fake.machine.named("Builder.create_network")
    assert created["flags"] == (2 if fake.version.startswith("10") else 0)


@pytest.mark.parametrize("integrated", [False, True])
def test_engine_answers_like_onnx_runtime(install, engines, gpu_bundle, photo, integrated):
    fake = install(machine=Machine(integrated=integrated))
    bundle = Bundle.open(gpu_bundle)
    with (
        Engine.load(bundle, backend=make_backend("tensorrt"), tier="packed") as engine,
        Engine.load(bundle, threads=1, tier="packed") as reference,
    ):
        for tasks in ("depth,edge", "semseg,depth,normals,edge,scene", "scene"):
            for budget in ("width=1,top_k=2", "width=1,top_k=1", "width=0.5,top_k=1"):
                answer = engine(photo(seed=3), tasks=tasks, budget=budget, size=(32, 48))
                wanted = reference(photo(seed=3), tasks=tasks, budget=budget, size=(32, 48))
                for task, value in wanted.items():
                    np.testing.assert_allclose(answer[task], value, atol=1e-4)
    assert fake.machine.launches > 0
    kinds = {kind for _, _, kind in fake.machine.blocks.values()}
    assert kinds <= ({"mapped", "device"} if integrated else {"pinned", "device"})
    if integrated:
        assert not fake.machine.named("cudaMemcpyAsync")


def test_missing_engine_is_an_error_that_names_the_command(fake, gpu_bundle):
    bundle = Bundle.open(gpu_bundle)
    encoder = bundle.manifest.graphs[0]
    with pytest.raises(BackendError, match=r"no engine was built.*slimpath compile .* --backend tensorrt"):
        make_backend("tensorrt").load(bundle.graph_bytes(encoder), bundle.path)
    assert not fake.machine.named("Builder.build_serialized_network")


def test_plans_keep_to_the_encoders_that_there_are_engines_of(install, engines, gpu_bundle):
    install()
    bundle = Bundle.open(gpu_bundle)
    with Engine.load(bundle, backend=make_backend("tensorrt"), tier="packed") as engine:
        offered = {(0.5, 1), (1.0, 1), (1.0, 2)}
        plans = [engine.plan("depth", budget, size=(32, 48)) for budget in (None, "min", 0.9, 0.7, 0.5, 0.3)]
        assert {(plan.encoder_width, plan.top_k) for plan in plans} <= offered
        assert (plans[0].encoder_width, plans[0].top_k, plans[0].share) == (1.0, 2, 1.0)
        with pytest.raises(BudgetError, match=r"no encoder of that width and top_k; it has width=0.5 with top_k=1, "):
            engine.plan("depth", "width=0.5,top_k=2")


def test_bundle_without_graphs_for_gpus_is_refused_when_the_engine_is_made(install, tiny_bundle):
    install()
    with pytest.raises(BackendError, match=r"no graphs for GPUs; .*--target gpu"):
        Engine.load(tiny_bundle, backend=make_backend("tensorrt"))


@pytest.mark.parametrize("field", ["sm", "name", "driver"])
def test_engine_of_another_device_is_refused_before_it_is_deserialised(install, engines, gpu_bundle, field):
    bundle = Bundle.open(gpu_bundle)
    changes = {"sm": {"sm": (8, 9)}, "name": {"name": "Thor"}, "driver": {"driver": 12080}}
    fake = install(machine=Machine(**changes[field]))
    with pytest.raises(BackendError, match=r"built for another device or bundle: .*, here .*slimpath compile"):
        make_backend("tensorrt").load(bundle.graph_bytes(bundle.manifest.graphs[0]), bundle.path)
    assert not fake.machine.named("Runtime.deserialize_cuda_engine")


def test_engine_of_another_tensorrt_is_refused_before_it_is_deserialised(install, engines, gpu_bundle):
    bundle = Bundle.open(gpu_bundle)
    fake = install("10.16.1.11")
    with pytest.raises(BackendError, match=r"TensorRT 11.4.0.106, here 10.16.1.11"):
        make_backend("tensorrt").load(bundle.graph_bytes(bundle.manifest.graphs[0]), bundle.path)
    assert not fake.machine.named("Runtime.deserialize_cuda_engine")


def test_graph_that_the_bundle_does_not_have_is_refused(install, gpu_bundle):
    install()
    with pytest.raises(BackendError, match="not one of the bundle's"):
        make_backend("tensorrt").load(b"edited", gpu_bundle)


def test_precision_is_part_of_the_name_and_of_what_is_looked_for(install, engines, gpu_bundle):
    install()
    bundle = Bundle.open(gpu_bundle)
    graph = bundle.graph_bytes(bundle.manifest.graphs[0])
    for name, precision in (("tensorrt-fp16", "fp32"), ("tensorrt", "fp16"), ("tensorrt", "auto")):
        backend = make_backend(name, precision=precision)
        assert (backend.name, backend.precision) == ("tensorrt-fp16", "fp16")
        assert backend.load(graph, bundle.path).outputs == ("tokens", "detail")
    other = next(graph for graph in bundle.manifest.graphs if graph.size_hw != bundle.manifest.sizes[0])
    with pytest.raises(BackendError, match="no engine was built for it"):
        make_backend("tensorrt").load(bundle.graph_bytes(other), bundle.path)
    with pytest.raises(BackendError, match=r"has no GPU graph in int8 .*; it has fp32, fp16"):
        make_backend("tensorrt-int8").load(graph, bundle.path)
    with pytest.raises(BackendError, match="TensorRT engines are in fp32, fp16, int8, not in bf16"):
        make_backend("tensorrt", precision="bf16")


def test_dropped_sessions_give_their_memory_back(install, engines, gpu_bundle):
    fake = install()
    bundle = Bundle.open(gpu_bundle)
    backend = make_backend("tensorrt")
    session = backend.load(bundle.graph_bytes(bundle.manifest.graphs[0]), bundle.path)
    assert session.memory_bytes()
    held = len(fake.machine.blocks)
    del session
    gc.collect()
    assert len(fake.machine.blocks) < held
