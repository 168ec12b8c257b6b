from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from slimpath.runtime.bundles import protobuf
from slimpath.runtime.bundles.bundle import Bundle
from slimpath.runtime.bundles.onnx_edit import external_weights_as_inputs, graph_ports, routing_as_outputs
from slimpath.runtime.errors import GraphError


@pytest.fixture(scope="module")
def encoder(tiny_bundle) -> tuple[Bundle, bytes]:
    bundle = Bundle.open(tiny_bundle)
    return bundle, bundle.graph_bytes(bundle.graph("encoder", (32, 48), 0.5))


def test_external_weights_become_inputs_that_give_the_same_answers(encoder):
    bundle, data = encoder
    edited, weights = external_weights_as_inputs(data)
    onnx.checker.check_model(onnx.load_from_string(edited))
    assert {weight.name for weight in weights} == {"patch", "class_token", "up", "down", "experts", "detail_weight"}
    up = next(weight for weight in weights if weight.name == "up")
    assert (up.shape, up.dtype, up.location) == ((4, 8), np.float32, "weights.safetensors")  # half of [8, 8]
    rng = np.random.default_rng(0)
    feeds = {
        "image": rng.standard_normal((1, 3, 32, 48)).astype(np.float32),
        "image_index": np.array([0, 0]),
        "top_k": np.array([1, 2]),
        "router": rng.standard_normal((2, 1, 8, 4)).astype(np.float32),
        "router_bias": np.zeros((2, 1, 4), np.float32),
    }
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(bundle.path))
    expected = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"]).run(None, feeds)
    stored = np.fromfile(bundle.path / "weights.safetensors", np.uint8)
    for weight in weights:
        feeds[weight.name] = np.ndarray(weight.shape, weight.dtype, stored, weight.offset)
    answers = onnxruntime.InferenceSession(edited, providers=["CPUExecutionProvider"]).run(None, feeds)
    for answer, reference in zip(answers, expected, strict=True):
        np.testing.assert_allclose(
            np.asarray(answer), np.asarray(reference), atol=1e-5
        )  # MatMuls of constants are packed: other order of sums


def test_graph_without_external_weights_stays_as_it_is():
    model = _choosing_model()
    assert external_weights_as_inputs(model) == (model, [])


def test_routing_becomes_outputs_once_each_and_in_order():
    model = _choosing_model()
    edited, names = routing_as_outputs(model)
    assert names == ["scores", "doubled"]
    assert graph_ports(model) == (("x",), ("value", "doubled"))
    assert graph_ports(edited) == (("x",), ("value", "doubled", "scores"))  # "doubled" was one already
    session = onnxruntime.InferenceSession(edited, providers=["CPUExecutionProvider"])
    x = np.array([[1, 3, 2]], np.float32)
    value, doubled, scores = session.run(None, {"x": x})
    np.testing.assert_array_equal(scores, x + 1)
    np.testing.assert_array_equal(doubled, 2 * (x + 1))
    np.testing.assert_array_equal(value, [[8]])


def test_graph_that_chooses_nothing_gets_no_outputs(encoder):
    _, data = encoder
    assert routing_as_outputs(data) == (data, [])


@pytest.mark.parametrize("edit", [external_weights_as_inputs, routing_as_outputs, graph_ports])
def test_damaged_graph_is_refused(encoder, edit):
    _, data = encoder
    with pytest.raises(GraphError, match="not a whole ONNX file"):
        edit(data[: len(data) // 2])


def test_type_that_numpy_does_not_have_is_refused():
    tensor = TensorProto(name="w", data_type=TensorProto.BFLOAT16, dims=[2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="weights.safetensors")
    with pytest.raises(GraphError, match="tensor 'w' has the ONNX type 16"):
        external_weights_as_inputs(_model([], [tensor]))


@pytest.mark.parametrize("entries", [{}, {"location": "w", "offset": "far"}])
def test_tensor_without_a_place_is_refused(entries):
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    with pytest.raises(GraphError, match="tensor 'w' does not say where its data lie"):
        external_weights_as_inputs(_model([], [tensor]))


@given(field=st.integers(1, (1 << 29) - 1), number=st.integers(0, (1 << 64) - 1), payload=st.binary(max_size=300))
def test_what_is_written_is_read_back(field, number, payload):
    data = protobuf.write_varint(field, number) + protobuf.write_bytes(field, payload)
    (first, first_wire, begin, _), (second, second_wire, start, stop) = protobuf.fields(data, 0, len(data))
    assert (first, first_wire, second, second_wire) == (field, protobuf.VARINT, field, protobuf.BYTES)
    assert protobuf.varint(data, begin, len(data))[0] == number
    assert data[start:stop] == payload


def _model(nodes: list, initializers: list) -> bytes:
    ports = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])]
    graph = helper.make_graph(nodes, "g", ports, [], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


def _choosing_model() -> bytes:
    """Two TopK: of an inner value, and of one that is an output already."""
    one, two, k = (helper.make_tensor(n, t, s, v) for n, t, s, v in (
        ("one", TensorProto.FLOAT, [], [1.0]), ("two", TensorProto.FLOAT, [], [2.0]), ("k", TensorProto.INT64, [1], [1])
    ))  # fmt: skip
    nodes = [
        helper.make_node("Add", ["x", "one"], ["scores"]),
        helper.make_node("TopK", ["scores", "k"], ["_", "index"]),
        helper.make_node("Mul", ["scores", "two"], ["doubled"]),
        helper.make_node("TopK", ["doubled", "k"], ["value", "_2"]),
    ]
    ports = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])]
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("value", "doubled")]
    graph = helper.make_graph(nodes, "g", ports, outputs, [one, two, k])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()
