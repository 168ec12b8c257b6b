from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from slimpath.runtime.bundles.onnx_guard import check_external_data
from slimpath.runtime.errors import GraphError

WEIGHTS, WEIGHTS_BYTES = "weights.safetensors", 1000
GOOD = {"location": WEIGHTS, "offset": "600", "length": "24"}


def external(**entries: str) -> TensorProto:
    """A float tensor [2, 3] named secret, with these entries of external data."""
    kind, place = TensorProto.FLOAT, TensorProto.EXTERNAL
    tensor = TensorProto(name="secret", data_type=kind, dims=(2, 3), data_location=place)
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def graph_of(*initializers: TensorProto, nodes: tuple[onnx.NodeProto, ...] = ()) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), "g", [], [], list(initializers))


def in_initializer(tensor: TensorProto) -> onnx.ModelProto:
    return helper.make_model(graph_of(helper.make_tensor("inside", 1, [1], [3.0]), tensor))


def in_attribute(tensor: TensorProto) -> onnx.ModelProto:
    return helper.make_model(graph_of(nodes=(helper.make_node("Constant", [], ["y"], value=tensor),)))


def in_attribute_list(tensor: TensorProto) -> onnx.ModelProto:
    return helper.make_model(graph_of(nodes=(helper.make_node("Op", [], ["y"], values=[tensor]),)))


def in_subgraph(tensor: TensorProto) -> onnx.ModelProto:
    inner = helper.make_node("If", ["c"], ["y"], then_branch=graph_of(tensor), else_branch=graph_of())
    outer = helper.make_node("Loop", ["n"], ["y"], body=graph_of(nodes=(inner,)))
    return helper.make_model(graph_of(nodes=(outer,)))


def in_graph_list(tensor: TensorProto) -> onnx.ModelProto:
    return helper.make_model(graph_of(nodes=(helper.make_node("Op", [], ["y"], bodies=[graph_of(tensor)]),)))


def in_function(tensor: TensorProto) -> onnx.ModelProto:
    node = helper.make_node("Constant", [], ["y"], value=tensor)
    function = helper.make_function("local", "F", [], ["y"], [node], [helper.make_opsetid("", 18)])
    return helper.make_model(graph_of(), functions=[function])


def in_function_default(tensor: TensorProto) -> onnx.ModelProto:
    function = helper.make_function("local", "F", [], ["y"], [], [helper.make_opsetid("", 18)])
    function.attribute_proto.append(helper.make_attribute("value", tensor))
    return helper.make_model(graph_of(), functions=[function])


def _sparse(tensor: TensorProto) -> onnx.SparseTensorProto:
    return helper.make_sparse_tensor(tensor, helper.make_tensor("i", TensorProto.INT64, [1], [0]), [9])


def in_sparse_initializer(tensor: TensorProto) -> onnx.ModelProto:
    graph = graph_of()
    graph.sparse_initializer.append(_sparse(tensor))
    return helper.make_model(graph)


def in_sparse_attribute(tensor: TensorProto) -> onnx.ModelProto:
    return helper.make_model(graph_of(nodes=(helper.make_node("Constant", [], ["y"], sparse_value=_sparse(tensor)),)))


def in_training_info(tensor: TensorProto) -> onnx.ModelProto:
    model = helper.make_model(graph_of())
    model.training_info.add().initialization.CopyFrom(graph_of(tensor))
    model.training_info.add().algorithm.CopyFrom(graph_of())
    return model


PLACES = [
    in_initializer,
    in_attribute,
    in_attribute_list,
    in_subgraph,
    in_graph_list,
    in_function,
    in_function_default,
    in_sparse_initializer,
    in_sparse_attribute,
    in_training_info,
]


def check(model: onnx.ModelProto | bytes):
    data = model if isinstance(model, bytes) else model.SerializeToString()
    return check_external_data(data, WEIGHTS, WEIGHTS_BYTES)


@pytest.mark.parametrize("place", PLACES)
def test_reference_into_the_weights_is_found_wherever_it_hides(place):
    (found,) = check(place(external(**GOOD)))
    assert (found.name, found.offset, found.length) == ("secret", 600, 24)


LOCATIONS = ["../weights.safetensors", "/etc/passwd", "./weights.safetensors", "sub/w", "", "WEIGHTS.safetensors"]
LOCATIONS += ["weights.safetensors\0", "*/_ORT_MEM_ADDR_/*", "weights.safetensors/", "C:\\w"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("location", LOCATIONS)
def test_location_outside_the_bundle_is_refused_wherever_it_hides(place, location):
    with pytest.raises(GraphError, match=r"tensor 'secret' has its data in .*outside the bundle"):
        check(place(external(**{**GOOD, "location": location})))


@pytest.mark.parametrize("place", PLACES)
def test_data_past_the_end_of_the_weights_are_refused(place):
    with pytest.raises(GraphError, match=r"'secret'.*bytes 980 to 1004.*only 1000"):
        check(place(external(**{**GOOD, "offset": "980"})))


def test_data_up_to_the_last_byte_are_accepted():
    assert check(in_initializer(external(**{**GOOD, "offset": "976"})))[0].offset == 976


@pytest.mark.parametrize("key", ["offset", "length"])
@pytest.mark.parametrize("value", ["-1", "1.5", "0x10", " 4", "4 ", "+4", "04", "", "1e3", "\u0664", "9" * 30])
def test_offset_that_is_no_plain_number_is_refused(key, value):
    with pytest.raises(GraphError, match=f"the {key} of its data must be a whole number"):
        check(in_initializer(external(**{**GOOD, key: value})))


@pytest.mark.parametrize("key", ["offset", "length"])
def test_missing_offset_is_refused(key):
    entries = {name: value for name, value in GOOD.items() if name != key}
    with pytest.raises(GraphError, match=f"the {key} of its data"):
        check(in_initializer(external(**entries)))


def test_external_tensor_without_entries_is_refused():
    with pytest.raises(GraphError, match="'secret' has its data in ''"):
        check(in_initializer(external()))


def test_entries_count_even_where_the_tensor_denies_to_be_external():
    tensor = external(**{**GOOD, "location": "/etc/passwd"})
    tensor.data_location = TensorProto.DEFAULT
    with pytest.raises(GraphError, match="outside the bundle"):
        check(in_initializer(tensor))


def test_entry_stated_twice_is_refused():
    tensor = external(**GOOD)
    tensor.external_data.add(key="location", value="/etc/passwd")
    with pytest.raises(GraphError, match="states the location of its external data twice"):
        check(in_initializer(tensor))


def test_unknown_entry_is_refused():
    with pytest.raises(GraphError, match="unknown entries: basepath"):
        check(in_initializer(external(**GOOD, basepath="/etc")))


def test_length_that_does_not_fill_the_shape_is_refused():
    with pytest.raises(GraphError, match="28 bytes of data, but its shape takes 24"):
        check(in_initializer(external(**{**GOOD, "length": "28"})))


def test_graph_field_that_is_repeated_is_refused():
    model = in_initializer(external(**GOOD)).SerializeToString()
    with pytest.raises(GraphError, match="repeated"):
        check(model + model)


def test_every_truncation_is_refused_or_holds_only_checked_references():
    data = in_subgraph(external(**GOOD)).SerializeToString()
    refused = 0
    for end in range(len(data)):
        try:
            assert all(tensor.offset + tensor.length <= WEIGHTS_BYTES for tensor in check(data[:end]))
        except GraphError:
            refused += 1
    assert refused > len(data) * 0.9


def test_nesting_without_end_is_refused():
    message = b""
    for number in range(300):  # a graph in an attribute of a node of a graph ..., from the inside out
        field = (b"\x32", b"\x2a", b"\x0a")[number % 3]
        message = field + _varint(len(message)) + message
    with pytest.raises(GraphError, match="nested more than 100 deep"):
        check(b"\x3a" + _varint(len(message)) + message)


def _varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + _varint(value >> 7)


@pytest.mark.parametrize("data", [b"", b"\x08", b"\x3a\x05ab", b"\x3b", b"\xff" * 20, b"not a graph", b"\x02\x00"])
def test_bytes_that_are_no_graph_are_refused(data):
    with pytest.raises(GraphError, match="not a whole ONNX file"):
        check(data)


def _all_external(message) -> list[TensorProto]:
    """onnx's own reading of a model: every TensorProto with external entries, by walking the descriptors."""
    found = []
    if isinstance(message, TensorProto):
        found = [message] if message.external_data or message.data_location == TensorProto.EXTERNAL else []
    for field, value in message.ListFields():
        if field.message_type is not None:
            items = value if not hasattr(value, "ListFields") else [value]
            for item in items:
                if hasattr(item, "ListFields"):
                    found += _all_external(item)
    return found


BASES = [place(external(**GOOD)).SerializeToString() for place in PLACES]


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(BASES), st.integers(0, 10_000), st.binary(max_size=6), st.integers(0, 4))
@example(BASES[0], 0, b"", 0)
def test_what_onnx_reads_from_damaged_bytes_the_guard_has_seen(base, position, noise, cut):
    """Whatever the bytes: if the guard lets them pass, every external tensor that onnx finds was proven safe."""
    position %= len(base)
    data = base[:position] + noise + base[position + cut :]
    try:
        passed = check(data)
    except GraphError:
        return
    try:
        model = onnx.ModelProto.FromString(data)
    except Exception:  # protobuf refuses more than the guard: nothing would be loaded
        return
    found = _all_external(model)
    assert len(found) == len(passed)
    for tensor in found:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        assert entries["location"] == WEIGHTS
        assert int(entries["offset"]) + int(entries["length"]) <= WEIGHTS_BYTES


def test_packed_and_unpacked_dims_are_both_read():
    tensor = external(**GOOD)
    unpacked = bytes([0x08, 2, 0x08, 3])
    rest = TensorProto()
    rest.CopyFrom(tensor)
    del rest.dims[:]
    raw = unpacked + rest.SerializeToString()
    assert list(TensorProto.FromString(raw).dims) == [2, 3]
    graph = bytes([0x2A, len(raw)]) + raw
    model = bytes([0x3A, len(graph)]) + graph
    assert check(model)[0].length == 24
    np.testing.assert_array_equal(onnx.ModelProto.FromString(model).graph.initializer[0].dims, [2, 3])


def test_compiled_blobs_are_refused():
    node = helper.make_node("EPContext", [], ["y"], domain="com.microsoft", embed_mode=1, ep_cache_context=b"code")
    model = helper.make_model(graph_of(nodes=(node,)))
    with pytest.raises(GraphError, match="EPContext"):
        check_external_data(model.SerializeToString(), "weights.safetensors", 100)
