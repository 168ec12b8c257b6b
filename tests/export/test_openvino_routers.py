"""OpenVINO on real exported graphs: experts that nobody visits, and routers that stay in fp32 below it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("openvino", reason="the openvino extra is not installed")

from slimpath.runtime import Bundle, Engine
from slimpath.runtime.backends import make_backend, openvino_model
from slimpath.runtime.backends.openvino import OpenvinoBackend
from slimpath.runtime.backends.ort import OrtBackend
from slimpath.runtime.bundles.onnx_edit import routing_as_outputs
from slimpath.runtime.profiling.parity import check_backend
from slimpath.runtime.profiling.parity_cases import example_plane, routing_gap, visited_experts
from slimpath.runtime.running.routing import Routers

BF16_GAP = 0.05  # in log-probability: what tokens that came through bf16 blocks do not bridge

needs_bf16 = pytest.mark.skipif(
    "bf16" not in OpenvinoBackend(threads=1).precisions, reason="this CPU does not compute in bf16"
)


def _feeds(bundle: Bundle, seed: int = 0, top_k: int = 2) -> dict[str, np.ndarray]:
    """One image, a row of each task."""
    tasks = bundle.manifest.task_names
    router, bias = Routers(bundle).stack(tasks)
    return {
        "image": example_plane(bundle.manifest.sizes[0], seed)[None],
        "image_index": np.zeros(len(tasks), np.int64),
        "top_k": np.full(len(tasks), top_k, np.int64),
        "router": router,
        "router_bias": bias,
    }


def _encoder(bundle: Bundle, width: float = 1.0) -> bytes:
    return bundle.graph_bytes(bundle.graph("encoder", bundle.manifest.sizes[0], width))


def test_every_graph_passes_the_gate_in_fp32(sized_bundle):
    result = check_backend(sized_bundle, OpenvinoBackend(threads=1), scope="all")
    assert result.failures() == []
    assert result.routing_equal == 1.0
    assert len(result.graphs) == len(sized_bundle.manifest.graphs)


def test_experts_that_nobody_visits_are_fine(sized_bundle):
    data = _encoder(sized_bundle)
    session = OpenvinoBackend(threads=1).load(data, sized_bundle.path)
    reference = OrtBackend(threads=1).load(data, sized_bundle.path)
    for favoured in range(4):
        feeds = _feeds(sized_bundle, top_k=1)
        feeds["router_bias"] = np.zeros_like(feeds["router_bias"])
        feeds["router_bias"][..., favoured] = 100.0  # all tokens to one expert, in every block
        np.testing.assert_allclose(session.run(feeds)["tokens"], reference.run(feeds)["tokens"], atol=1e-4)


@needs_bf16
@pytest.mark.parametrize("width", [0.5, 1.0])
def test_bf16_leaves_every_router_in_fp32_and_nothing_else(sized_bundle, width):
    session = OpenvinoBackend(threads=1, precision="bf16").load(_encoder(sized_bundle, width), sized_bundle.path)
    assert session.precision == "bf16"
    nodes = session._compiled.get_runtime_model().get_ops()
    precisions = {
        (kind, openvino_model._runtime_info(node, "runtimePrecision"))
        for node in nodes
        if (kind := openvino_model._kind(node)) in ("TopK", "Softmax", "FullyConnected", "Convolution")
    }
    assert ("TopK", "f32") in precisions
    assert ("Softmax", "f32") in precisions
    assert ("TopK", "bf16") not in precisions
    assert ("FullyConnected", "bf16") in precisions
    assert ("Convolution", "bf16") in precisions
    assert openvino_model.kept_in_fp32(session._compiled)


@needs_bf16
def test_bf16_routes_as_fp32_does_where_the_gap_is_clear(sized_bundle):
    data, names = routing_as_outputs(_encoder(sized_bundle))
    assert len(names) == len(sized_bundle.manifest.encoder.moe_blocks)
    reference = OrtBackend(threads=1).load(data, sized_bundle.path)
    session = OpenvinoBackend(threads=1, precision="bf16").load(data, sized_bundle.path)
    clear = 0
    for seed in range(40):
        feeds = _feeds(sized_bundle, seed)
        expected, got = reference.run(feeds), session.run(feeds)
        gap_B = routing_gap([expected[name] for name in names], feeds["top_k"])
        for row in np.flatnonzero(gap_B >= BF16_GAP):
            clear += 1
            for name in names:
                np.testing.assert_array_equal(
                    visited_experts(got[name][row : row + 1], 2), visited_experts(expected[name][row : row + 1], 2)
                )
    assert clear >= 10  # seeds are fixed: so many rows have nothing to hide behind


@needs_bf16
def test_unmarked_model_is_recognised_and_compiled_in_fp32(sized_bundle, monkeypatch):
    monkeypatch.setattr(openvino_model, "_KEEP", ())
    backend = OpenvinoBackend(threads=1, precision="bf16")
    session = backend.load(_encoder(sized_bundle), sized_bundle.path)
    assert session.precision == "fp32"
    reference = OrtBackend(threads=1).load(_encoder(sized_bundle), sized_bundle.path)
    feeds = _feeds(sized_bundle)
    np.testing.assert_allclose(session.run(feeds)["tokens"], reference.run(feeds)["tokens"], atol=1e-4)


@needs_bf16
def test_routers_weights_and_biases_are_not_rounded_in_bf16(sized_bundle):
    """Two experts that only fp32 can tell apart: in bf16 they would tie, and the first would get all tokens.

    Seen from the answers alone: a graph that shows its routing is compiled in another way near its outputs.
    """
    data = _encoder(sized_bundle)
    session = OpenvinoBackend(threads=1, precision="bf16").load(data, sized_bundle.path)
    reference = OrtBackend(threads=1).load(data, sized_bundle.path)
    for by in ("bias", "weight"):
        feeds = _feeds(sized_bundle, top_k=1)
        feeds["router"], feeds["router_bias"] = np.zeros_like(feeds["router"]), np.zeros_like(feeds["router_bias"])
        if by == "bias":
            feeds["router_bias"][..., 1], feeds["router_bias"][..., 3] = 1.0, 1.0 + 2.0**-9
        else:  # all inputs equal, so that the sign of a token's sum decides between them
            feeds["router"][..., 1], feeds["router"][..., 3] = 1.0, 1.0 + 2.0**-9
            feeds["router_bias"][..., 0] = feeds["router_bias"][..., 2] = -100.0
        expected, got = reference.run(feeds)["tokens"], session.run(feeds)["tokens"]
        feeds["router_bias"][..., 1] += 50.0
        first_for_all = reference.run(feeds)["tokens"]
        assert np.abs(got - expected).mean() < 0.05 * np.abs(first_for_all - expected).mean()


@needs_bf16
def test_tokens_of_an_expert_are_counted_exactly_in_bf16(sized_bundle):
    """Above 256 a bf16 number skips odd ones; a batch of a few images has more tokens for one expert than that."""
    session = OpenvinoBackend(threads=1, precision="bf16").load(_encoder(sized_bundle), sized_bundle.path)
    one, images = _feeds(sized_bundle, top_k=1), 101
    feeds = {
        "image": np.repeat(one["image"], images, axis=0),
        "image_index": np.arange(images),
        "top_k": np.ones(images, np.int64),
        "router": np.repeat(one["router"][:1], images, axis=0),
        "router_bias": np.zeros((images, *one["router_bias"].shape[1:]), np.float32),
    }
    feeds["router_bias"][..., 0] = 100.0
    tokens_BND = session.run(feeds)["tokens"]
    assert images * tokens_BND.shape[1] > 256 and images * tokens_BND.shape[1] % 2 == 1
    assert np.abs(tokens_BND - tokens_BND[:1]).max() <= 0.05 * np.abs(tokens_BND).max()


@needs_bf16
def test_whole_requests_run_in_bf16(sized_bundle):
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    with Engine.load(sized_bundle, backend=make_backend("openvino-bf16", threads=1)) as engine:
        answers = engine(image)
    with Engine.load(sized_bundle, threads=1) as engine:
        expected = engine(image)
    np.testing.assert_allclose(answers["scene"], expected["scene"], atol=0.02)
    assert answers["semseg"].shape == expected["semseg"].shape
