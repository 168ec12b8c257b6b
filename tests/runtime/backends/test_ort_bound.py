"""Graphs for GPUs in ONNX Runtime: tensors bound once, runs recorded. Its interface is the real one, on the CPU."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from slimpath.runtime import Bundle, Engine
from slimpath.runtime.backends import providers as providers_module
from slimpath.runtime.backends.gpu_session import GpuSession
from slimpath.runtime.backends.ort_bound import WARMING_RUNS, BoundEngine, load_recorded
from slimpath.runtime.backends.providers import OrtCudaBackend, OrtTensorrtBackend
from slimpath.runtime.bundles.gpu_graphs import read_gpu_graph
from slimpath.runtime.bundles.gpu_spec import GpuGraphSpec
from slimpath.runtime.errors import BackendError
from slimpath.runtime.tensorrt.checking import example_feeds
from slimpath.tests.runtime.tensorrt.gpu_bundle import build_gpu_bundle

CPU = "CPUExecutionProvider"


@pytest.fixture(scope="module")
def gpu_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_gpu_bundle(tmp_path_factory.mktemp("gpu") / "moe")


class OnTheCpu(OrtCudaBackend):
    """The CUDA backend with another provider in its place: all but the device is what it does."""

    provider = CPU

    def _providers(self, *, recorded: bool = False) -> list[Any]:
        return [CPU]

    def _place(self) -> tuple[str, int]:
        return "cpu", 0

    def _require_placement(self, ort: Any, session: Any) -> None:
        assert session.get_providers() == [CPU]


def spec_of(bundle: Bundle, rows: int = 5) -> GpuGraphSpec:
    assert bundle.manifest.gpu is not None
    found = bundle.manifest.gpu.graph("encoder", (32, 48), 1.0, precision="fp32", top_k=2, images=1, rows=rows)
    assert found is not None
    return found


def bound(bundle: Bundle) -> tuple[BoundEngine, GpuGraphSpec]:
    spec = spec_of(bundle)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(bundle.path))
    session = onnxruntime.InferenceSession(read_gpu_graph(bundle, spec), options, providers=[CPU])
    return BoundEngine(onnxruntime, session, spec, ("cpu", 0)), spec


def test_engine_answers_like_the_graphs_for_cpus(gpu_bundle, photo):
    bundle = Bundle.open(gpu_bundle)
    with (
        Engine.load(bundle, backend=OnTheCpu(threads=1), tier="packed") as engine,
        Engine.load(bundle, threads=1, tier="packed") as reference,
    ):
        for tasks in ("depth,edge", "semseg,depth,normals,edge,scene"):
            for budget in ("width=1,top_k=2", "width=0.5,top_k=1"):
                answer = engine(photo(seed=3), tasks=tasks, budget=budget, size=(32, 48))
                wanted = reference(photo(seed=3), tasks=tasks, budget=budget, size=(32, 48))
                for task, value in wanted.items():
                    np.testing.assert_allclose(answer[task], value, atol=1e-4)


def test_bundle_without_graphs_for_gpus_runs_those_for_cpus(tiny_bundle):
    bundle = Bundle.open(tiny_bundle)
    backend = OnTheCpu(threads=1)
    assert backend.offered_encoders(bundle) is None
    session = backend.load(bundle.graph_bytes(bundle.manifest.graphs[0]), bundle.path)
    assert not isinstance(session, GpuSession)


def test_edited_graph_runs_as_it_is(gpu_bundle):
    from slimpath.runtime.bundles.onnx_edit import routing_as_outputs

    bundle = Bundle.open(gpu_bundle)
    backend = OnTheCpu(threads=1)
    graph = bundle.graph_bytes(bundle.manifest.graphs[0])
    assert isinstance(backend.load(graph, bundle.path), GpuSession)
    edited, routing = routing_as_outputs(graph)
    assert set(routing) <= set(backend.load(edited, bundle.path).outputs)


def test_tensors_keep_their_addresses_and_answers_are_copies(gpu_bundle):
    bundle = Bundle.open(gpu_bundle)
    engine, spec = bound(bundle)
    addresses = {name: value.data_ptr() for name, value in (engine._inputs | engine._outputs).items()}
    first = engine.run(example_feeds(bundle, spec, 0))["tokens"]
    kept = first.copy()
    second = engine.run(example_feeds(bundle, spec, 1))["tokens"]
    np.testing.assert_array_equal(first, kept)
    assert not np.array_equal(first, second)
    assert addresses == {name: value.data_ptr() for name, value in (engine._inputs | engine._outputs).items()}
    assert engine.buffer_bytes == sum(4 * int(np.prod(port.shape)) for port in (*spec.inputs, *spec.outputs))


def test_only_what_may_have_changed_is_copied(gpu_bundle, monkeypatch):
    bundle = Bundle.open(gpu_bundle)
    engine, spec = bound(bundle)
    feeds = example_feeds(bundle, spec, 0)
    feeds["router_bias"] = feeds["router_bias"].copy()
    assert feeds["router_bias"].flags.writeable and not feeds["router"].flags.writeable
    copied: list[str] = []
    for name, value in engine._inputs.items():
        update = value.update_inplace
        note = lambda data, name=name, update=update: (copied.append(name), update(data))  # noqa: E731
        monkeypatch.setattr(value, "update_inplace", note, raising=False)
    wanted = engine.run(feeds)["tokens"]
    assert sorted(copied) == ["image", "image_index", "router", "router_bias"]
    copied.clear()
    np.testing.assert_array_equal(engine.run(feeds)["tokens"], wanted)
    assert sorted(copied) == ["image", "image_index", "router_bias"]
    changed = engine.run({**feeds, "router": feeds["router"] * 2})["tokens"]
    assert not np.array_equal(changed, wanted)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda feeds: feeds.pop("router"), "wants the input 'router'"),
        (lambda feeds: feeds.update(image=feeds["image"][:, :, :16]), r"takes image as float32 \[1, 3, 32, 48\], got"),
        (lambda feeds: feeds.update(image_index=np.zeros(5)), "takes image_index as int32 .*, got float64"),
    ],
)
def test_wrong_input_is_refused(gpu_bundle, change, words):
    engine, spec = bound(bundle := Bundle.open(gpu_bundle))
    feeds = example_feeds(bundle, spec, 0)
    change(feeds)
    with pytest.raises(BackendError, match=words):
        engine.run(feeds)


def test_closed_engine_refuses_to_run(gpu_bundle):
    engine, spec = bound(bundle := Bundle.open(gpu_bundle))
    engine.close()
    with pytest.raises(BackendError, match="the session is closed"):
        engine.run(example_feeds(bundle, spec, 0))


def test_graph_that_cannot_be_recorded_is_run_plainly_and_said(caplog):
    asked: list[Any] = []

    def session(graph: bytes, options: Any, *, providers: Any, enable_fallback: int) -> str:
        asked.append((options, providers))
        if providers == "recorded":
            raise RuntimeError("This session cannot use the graph capture feature: nodes are on the CPU")
        return "plain session"

    fresh = iter(range(9))
    ort = SimpleNamespace(InferenceSession=session)
    with caplog.at_level(logging.WARNING):
        found = load_recorded(ort, b"", lambda: next(fresh), "recorded", "plain")
    assert found == "plain session" and asked == [(0, "recorded"), (1, "plain")]
    assert "runs without a CUDA graph" in caplog.text and "nodes are on the CPU" in caplog.text


class FakeSession:
    """Of a graph for GPUs: notes what is bound where, and how often it ran."""

    def __init__(self) -> None:
        self.bound: dict[str, Any] = {}
        self.runs = 0

    def get_providers(self) -> list[str]:
        return ["TensorrtExecutionProvider", "CUDAExecutionProvider", CPU]

    def get_provider_graph_assignment_info(self) -> list[Any]:
        return []

    def disable_fallback(self) -> None:
        pass

    def io_binding(self) -> Any:
        return SimpleNamespace(bind_ortvalue_input=self.bound.__setitem__, bind_ortvalue_output=self.bound.__setitem__)

    def run_with_iobinding(self, binding: Any) -> None:
        self.runs += 1


@pytest.mark.parametrize(
    ("backend", "option"),
    [(OrtCudaBackend, "enable_cuda_graph"), (OrtTensorrtBackend, "trt_cuda_graph_enable")],
)
def test_cuda_is_asked_for_recorded_runs_on_its_own_memory(gpu_bundle, monkeypatch, backend, option):
    bundle = Bundle.open(gpu_bundle)
    sessions: list[tuple[Any, FakeSession]] = []

    class Value:
        def __init__(self, shape: list[int], dtype: np.dtype, kind: str, device: int) -> None:
            self.where, self.array = (kind, device), np.zeros(shape, dtype)

        def update_inplace(self, data: np.ndarray) -> None:
            self.array[...] = data

        def numpy(self) -> np.ndarray:
            return self.array.copy()

    def make(graph: bytes, options: Any, *, providers: Any, enable_fallback: int) -> FakeSession:
        sessions.append((providers, FakeSession()))
        return sessions[-1][1]

    monkeypatch.setattr(FakeSession, "get_providers", lambda self: [backend.provider, CPU])
    ort = SimpleNamespace(
        __version__="1.31.1",
        get_available_providers=lambda: [backend.provider, CPU],
        InferenceSession=make,
        OrtValue=SimpleNamespace(ortvalue_from_shape_and_type=Value),
        SessionOptions=lambda: SimpleNamespace(add_session_config_entry=lambda *_: None),
    )
    monkeypatch.setattr(providers_module, "_import_ort", lambda: ort)
    session = backend(threads=1, device=1).load(bundle.graph_bytes(bundle.manifest.graphs[0]), bundle.path)
    ((providers, loaded),) = sessions
    assert providers[0][0] == backend.provider and providers[0][1][option] == "1"
    assert {value.where for value in loaded.bound.values()} == {("cuda", 1)}
    assert set(loaded.bound) == {"image", "image_index", "router", "router_bias", "tokens", "detail"}
    assert loaded.runs == WARMING_RUNS
    assert session.inputs == ("image", "image_index", "router", "router_bias", "top_k")
