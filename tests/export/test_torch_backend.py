from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from slimpath.export import cuda_graphs, torch_backend
from slimpath.export.cuda_graphs import ReplayedCalls, StackedExperts, stack_experts
from slimpath.export.torch_backend import TorchBackend, TorchCudaBackend, shared_narrow
from slimpath.models.moe import SlimExperts
from slimpath.runtime import BackendError, Bundle, Engine
from slimpath.runtime.backends import make_backend
from slimpath.runtime.backends.ort import OrtBackend
from slimpath.runtime.profiling.parity import check_backend


@pytest.fixture(scope="module")
def backend() -> TorchBackend:
    return TorchBackend()


def _encoder(bundle: Bundle, width: float = 1.0) -> bytes:
    return bundle.graph_bytes(bundle.graph("encoder", bundle.manifest.sizes[0], width))


def test_every_graph_of_every_size_passes_the_gate(sized_bundle, backend):
    result = check_backend(sized_bundle, backend, reference=OrtBackend(threads=1), scope="all")
    assert result.failures() == []
    assert set(result.graphs) == {graph.file for graph in sized_bundle.manifest.graphs}
    assert result.routing_equal is None  # it answers graphs of the bundle as they are


def test_inputs_and_outputs_are_those_of_the_graph(sized_bundle, backend):
    for graph in sized_bundle.manifest.graphs:
        data = sized_bundle.graph_bytes(graph)
        session = backend.load(data, sized_bundle.path)
        reference = OrtBackend(threads=1).load(data, sized_bundle.path)
        assert (session.inputs, session.outputs) == (reference.inputs, reference.outputs)


def test_whole_requests_agree_with_onnxruntime(sized_bundle):
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    with Engine.load(sized_bundle, backend=make_backend("torch")) as engine:
        answers = engine(image, budget="width=0.5")
    with Engine.load(sized_bundle, threads=1) as engine:
        expected = engine(image, budget="width=0.5")
    np.testing.assert_allclose(answers["scene"], expected["scene"], atol=1e-4)


def test_bf16_passes_the_gate_below_fp32(sized_bundle):
    result = check_backend(sized_bundle, make_backend("torch-bf16"), reference=OrtBackend(threads=1))
    assert result.failures() == []
    assert (result.backend, result.precision, result.graphs) == ("torch-bf16", "bf16", {})


def test_widths_are_views_of_one_copy_of_the_weights(sized_bundle):
    backend = TorchBackend()
    for width in (0.5, 1.0):
        backend.load(_encoder(sized_bundle, width), sized_bundle.path)
    (network,) = backend._networks.values()  # of the one size
    whole = network._whole[None]
    narrow = shared_narrow(whole, 0.5)
    starts = {name: parameter.data_ptr() for name, parameter in whole.named_parameters()}
    sizes = {name: parameter.numel() for name, parameter in whole.named_parameters()}
    assert {name: parameter.data_ptr() for name, parameter in narrow.named_parameters()} == starts
    slimmed = [name for name, parameter in narrow.named_parameters() if parameter.numel() < sizes[name]]
    assert any(".experts.up." in name for name in slimmed)
    assert {name: parameter.numel() for name, parameter in whole.named_parameters()} == sizes  # itself as it was


def test_other_graphs_and_other_folders_are_refused(sized_bundle, backend, tmp_path):
    data = _encoder(sized_bundle)
    with pytest.raises(BackendError, match="runs only the graphs of a bundle as they are"):
        backend.load(data + b"\x08\x01", sized_bundle.path)
    with pytest.raises(BackendError, match="torch rebuilds networks from bundles"):
        backend.load(data, tmp_path)


def test_wrong_inputs_are_refused_and_read_only_ones_read(sized_bundle, backend):
    graph = sized_bundle.graph("head", sized_bundle.manifest.sizes[0], 1.0, "scene")
    session = backend.load(sized_bundle.graph_bytes(graph), sized_bundle.path)
    tokens = np.ones((2, 5, 32), np.float32)
    tokens.flags.writeable = False
    assert session.run({"tokens": tokens})["scene"].shape == (2, 4)
    with pytest.raises(BackendError, match="the graph has the inputs tokens, got token"):
        session.run({"token": tokens})
    with pytest.raises(BackendError, match="torch failed"):
        session.run({"tokens": np.ones((2, 5, 31), np.float32)})
    session.close()
    with pytest.raises(BackendError, match="closed"):
        session.run({"tokens": tokens})


def test_precision_and_threads_are_checked():
    with pytest.raises(BackendError, match="torch has no precision 'int8'; it has fp32, bf16"):
        TorchBackend(precision="int8")
    with pytest.raises(BackendError, match="threads must be at least 1"):
        TorchBackend(threads=0)
    assert TorchBackend(precision="auto").precision == "fp32"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_without_a_device_is_an_error_and_not_the_cpu():
    with pytest.raises(BackendError, match=r"finds no CUDA device; install a build of torch for CUDA"):
        make_backend("torch-cuda")


def test_stacked_experts_answer_as_the_others_at_any_width(two_task_model, sized_bundle, monkeypatch):
    """What runs on CUDA but for the device: stacked experts in static shapes, narrowed to views."""

    class Stacked(TorchBackend):
        def _place(self, model):
            stack_experts(model)
            assert not any(isinstance(module, SlimExperts) for module in model.modules())
            return model

    result = check_backend(sized_bundle, Stacked(), reference=OrtBackend(threads=1), scope="all")
    assert result.failures() == []


def test_stacked_experts_share_one_tensor_over_widths():
    stacked = StackedExperts(SlimExperts(dim=8, hidden=16, experts=4))
    narrow = shared_narrow(nn.Sequential(stacked), 0.5)[0]  # type: ignore[index]
    assert narrow.up.shape == (4, 8, 8)
    assert narrow.up.data_ptr() == stacked.up.data_ptr()
    assert stacked.up.shape == (4, 16, 8)


@pytest.fixture
def captured(monkeypatch):
    """ReplayedCalls with a capture that works on the CPU: buffers of its own, as a CUDA graph has."""
    shapes: list[tuple[int, ...]] = []

    def capture(function, feeds: Mapping[str, Tensor]):
        shapes.append(tuple(feeds["x"].shape))
        buffers = {name: value.clone() for name, value in feeds.items()}

        def replay(given: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
            for name, buffer in buffers.items():
                buffer.copy_(given[name])
            return function(buffers)

        return replay

    return ReplayedCalls(lambda feeds: (feeds["x"] * 2,), capture), shapes


def test_each_shape_is_captured_once_and_replayed(captured):
    calls, shapes = captured
    for value in (1.0, 2.0, 3.0):
        assert torch.equal(calls({"x": torch.full((2,), value)})[0], torch.full((2,), 2 * value))
    assert torch.equal(calls({"x": torch.ones(3)})[0], torch.full((3,), 2.0))
    assert shapes == [(2,), (3,)]


def test_the_shape_not_used_for_longest_is_forgotten(captured, monkeypatch):
    calls, shapes = captured
    monkeypatch.setattr(cuda_graphs, "MAX_SHAPES", 2)
    for size in (1, 2, 1, 3, 1, 2):
        calls({"x": torch.ones(size)})
    assert shapes == [(1,), (2,), (3,), (2,)]


def test_cuda_capture_warms_up_on_another_stream_and_answers_with_copies(monkeypatch):
    """The order of calls that torch's documentation asks for; on a device of our own."""
    log: list[str] = []

    class Stream:
        def __init__(self, name: str = "side") -> None:
            self.name = name

        def wait_stream(self, other: Stream) -> None:
            log.append(f"{self.name} waits for {other.name}")

        def __enter__(self) -> None:
            log.append("side starts")

        def __exit__(self, *_: object) -> None:
            log.append("side ends")

    class Graph:
        def replay(self) -> None:
            log.append("replay")
            outputs.copy_(inputs["x"] + 1)

    class Capturing:
        def __init__(self, graph: Graph) -> None: ...

        def __enter__(self) -> None:
            log.append("capture")

        def __exit__(self, *_: object) -> None:
            log.append("captured")

    main = Stream("main")
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: main)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", Capturing)
    inputs: dict[str, Tensor] = {}
    outputs = torch.zeros(2)

    def function(feeds: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        inputs.update(feeds)
        log.append("run")
        return (outputs,)

    replay = cuda_graphs.capture_cuda_graph(function, {"x": torch.zeros(2)})
    warm = ["side starts", "run", "run", "run", "side ends"]
    assert log == ["side waits for main", *warm, "main waits for side", "capture", "run", "captured"]
    first = replay({"x": torch.full((2,), 1.0)})[0]
    second = replay({"x": torch.full((2,), 5.0)})[0]
    assert (first.tolist(), second.tolist()) == ([2.0, 2.0], [6.0, 6.0])  # the first is not overwritten
    assert log[-2:] == ["replay", "replay"]


def test_backends_of_the_entry_points_are_these():
    from importlib.metadata import entry_points

    found = {entry.name: entry.load() for entry in entry_points(group="slimpath.backends")}
    assert found["torch"] is torch_backend.TorchBackend
    assert found["torch-cuda"] is TorchCudaBackend
