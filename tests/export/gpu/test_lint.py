"""The linter refuses what TensorRT cannot take, says why, and lets through what it can."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from slimpath.export.errors import ExportError
from slimpath.export.gpu.lint import Finding, lint_file, lint_model, rules, table

F32, F16, I32, I64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT32, TensorProto.INT64
Constants = dict[str, np.ndarray]


def model(
    nodes: Sequence[onnx.NodeProto],
    constants: Constants | None = None,
    *,
    inputs: Sequence[tuple[str, int, Sequence[int | str]]] = (("x", F32, (4, 8)),),
    output: tuple[str, int, Sequence[int]] = ("y", F32, (4, 8)),
    opset: int = 20,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "planted",
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(*output)],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def node(operator: str, given: Sequence[str], made: Sequence[str] = ("y",), **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, list(given), list(made), **attributes)


def cast(given: str, made: str, to: int) -> onnx.NodeProto:
    return node("Cast", [given], [made], to=to)


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def _branch(name: str) -> onnx.GraphProto:
    value = numpy_helper.from_array(np.zeros((4, 8), np.float32))
    made = helper.make_node("Constant", [], [name], value=value)
    return helper.make_graph([made], name, [], [helper.make_tensor_value_info(name, F32, (4, 8))])


ZEROS48 = np.zeros((4, 8), np.float32)
SCALE, ZERO8 = np.array(0.1, np.float32), np.array(0, np.int8)
PLANTED: dict[str, tuple[str, onnx.ModelProto]] = {
    "an operator that the parser does not have": (
        "operator",
        model([cast("x", "i", TensorProto.UINT32), node("BitShift", ["i", "s"], ["j"], direction="LEFT"),
               cast("j", "y", F32)], {"s": np.ones((4, 8), np.uint32)}),
    ),
    "an operator of another domain": ("operator", model([node("MoE", ["x"], domain="com.microsoft")])),
    "an engine in disguise": ("operator", model([node("EPContext", ["x"], domain="com.microsoft")])),
    "a newer opset": ("opset", model([node("Relu", ["x"])], opset=26)),
    "an older opset": ("opset", model([node("Relu", ["x"])], opset=8)),
    "a type that the operator does not take": (
        "type", model([cast("x", "d", TensorProto.DOUBLE), node("Relu", ["d"], ["e"]), cast("e", "y", F32)]),
    ),
    "a running sum of whole numbers": (
        "type",
        model([cast("x", "i", I32), node("CumSum", ["i", "a"], ["j"]), cast("j", "y", F32)],
              {"a": np.array(1, np.int64)}),
    ),
    "a running sum": ("loop_in_10", model([node("CumSum", ["x", "a"])], {"a": np.array(1, np.int64)})),
    "an input of int64": (
        "port_type", model([cast("i", "y", F32)], inputs=(("i", I64, (4, 8)),)),
    ),
    "an input of float16": ("port_type", model([cast("h", "y", F32)], inputs=(("h", F16, (4, 8)),))),
    "a batch of any size": ("shape", model([node("Relu", ["x"])], inputs=(("x", F32, ("B", 8)),))),
    "nine axes": (
        "shape",
        model([node("Reshape", ["x", "s"], ["z"]), node("Reshape", ["z", "t"])],
              {"s": ints(4, 1, 1, 1, 1, 1, 1, 1, 8), "t": ints(4, 8)}),
    ),
    "a tensor of over 2**31 elements": (
        "shape", model([node("Expand", ["x", "s"], ["z"]), node("ReduceMax", ["z", "a"], keepdims=0)],
                       {"s": ints(1 << 27, 4, 8), "a": ints(0)}),
    ),
    "a branch": (
        "no_waiting",
        model([node("ReduceMax", ["x"], ["m"], keepdims=0), cast("m", "c", TensorProto.BOOL),
               node("If", ["c"], then_branch=_branch("a"), else_branch=_branch("b"))]),
    ),
    "places that depend on the data": (
        "no_waiting", model([node("NonZero", ["x"], ["n"]), cast("n", "y", F32)], output=("y", F32, (2, 32))),
    ),
    "a scatter of unknown places": (
        "unique_writes",
        model([cast("i", "j", I64), node("ScatterND", ["x", "j", "u"])], {"u": np.zeros((3, 8), np.float32)},
              inputs=(("x", F32, (4, 8)), ("i", I32, (3, 1)))),
    ),
    "a scatter to one place twice": (
        "unique_writes",
        model([node("ScatterND", ["x", "i", "u"])], {"i": ints(1, 1).reshape(2, 1), "u": np.zeros((2, 8), np.float32)}),
    ),
    "elements scattered to one place twice": (
        "unique_writes",
        model([node("ScatterElements", ["x", "i", "u"], axis=0)],
              {"i": np.zeros((2, 8), np.int64), "u": np.zeros((2, 8), np.float32)}),
    ),
    "a scatter that adds": (
        "no_reduction",
        model([node("ScatterND", ["x", "i", "u"], reduction="add")],
              {"i": ints(0, 1).reshape(2, 1), "u": np.zeros((2, 8), np.float32)}),
    ),
    "elements scattered and added": (
        "unique_writes",
        model([node("ScatterElements", ["x", "i", "u"], axis=0, reduction="add")],
              {"i": np.zeros((1, 8), np.int64), "u": np.zeros((1, 8), np.float32)}),
    ),
    "indices in int64": (
        "short_indices",
        model([cast("x", "i", I64), node("Add", ["i", "i"], ["j"]), cast("j", "y", F32)]),
    ),
    "the places of TopK in int64": (
        "short_indices",
        model([node("TopK", ["x", "k"], ["v", "i"]), node("GatherElements", ["x", "i"])], {"k": ints(8)}),
    ),
    "a norm in float16": (
        "kept_in_float32",
        model([cast("x", "h", F16), node("LayerNormalization", ["h", "s"], ["n"]), cast("n", "y", F32)],
              {"s": np.ones(8, np.float16)}),
    ),
    "a softmax in float16": (
        "kept_in_float32", model([cast("x", "h", F16), node("Softmax", ["h"], ["n"]), cast("n", "y", F32)]),
    ),
    "a choice in float16": (
        "kept_in_float32",
        model([cast("x", "h", F16), node("TopK", ["h", "k"], ["v", "i"]), cast("v", "y", F32)], {"k": ints(8)}),
    ),
    "two types in one product": (
        "one_type", model([cast("x", "h", F16), node("MatMul", ["h", "w"])], {"w": np.zeros((8, 8), np.float32)}),
    ),
    "a k that is not known": (
        "topk",
        model([cast("i", "k", I64), node("TopK", ["x", "k"], ["y", "j"])],
              inputs=(("x", F32, (4, 8)), ("i", I32, (1,)))),
    ),
    "a k that is too large": (
        "topk",
        model([node("TopK", ["x", "k"], ["y", "j"])], {"k": ints(4000)}, inputs=(("x", F32, (4, 5000)),),
              output=("y", F32, (4, 4000))),
    ),
    "an unsorted choice": ("topk", model([node("TopK", ["x", "k"], ["y", "j"], sorted=0)], {"k": ints(8)})),
    "cubic interpolation": (
        "resize",
        model([node("Resize", ["x", "", "s"], mode="cubic")], {"s": np.array([1, 1, 2, 2], np.float32)},
              inputs=(("x", F32, (1, 1, 4, 4)),), output=("y", F32, (1, 1, 8, 8))),
    ),
    "an antialiased resize": (
        "resize",
        model([node("Resize", ["x", "", "s"], mode="linear", antialias=1)], {"s": np.array([1, 1, 2, 2], np.float32)},
              inputs=(("x", F32, (1, 1, 4, 4)),), output=("y", F32, (1, 1, 8, 8))),
    ),
    "codes of uint8": (
        "quantize",
        model([node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"])],
              {"s": SCALE, "z": np.array(0, np.uint8)}),
    ),
    "no zero point": (
        "quantize",
        model([node("QuantizeLinear", ["x", "s"], ["q"]), node("DequantizeLinear", ["q", "s"])], {"s": SCALE}),
    ),
    "a zero point that is not 0": (
        "quantize",
        model([node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"])],
              {"s": SCALE, "z": np.array(3, np.int8)}),
    ),
    "a scale that is computed": (
        "quantize",
        model([node("ReduceMax", ["x"], ["s"], keepdims=0), node("QuantizeLinear", ["x", "s", "z"], ["q"]),
               node("DequantizeLinear", ["q", "s", "z"])], {"z": ZERO8}),
    ),
    "statistics of a norm": (
        "one_output",
        model([node("LayerNormalization", ["x", "s"], ["n", "m", "i"]), node("Add", ["n", "m"])],
              {"s": np.ones(8, np.float32)}),
    ),
    "a dilated pool": (
        "pool",
        model([node("MaxPool", ["x"], kernel_shape=[2, 2], dilations=[2, 2])], inputs=(("x", F32, (1, 1, 4, 4)),),
              output=("y", F32, (1, 1, 2, 2))),
    ),
    "axes that are computed": (
        "constant_1",
        model([cast("i", "a", I64), node("ReduceSum", ["x", "a"], keepdims=1)],
              inputs=(("x", F32, (4, 8)), ("i", I32, (1,))), output=("y", F32, (4, 1))),
    ),
    "dropout in training": (
        "inference",
        model([node("Dropout", ["x", "r", "t"])], {"r": np.array(0.5, np.float32), "t": np.array(True)}),
    ),
    "a grid of six axes": (
        "rank_4",
        model([node("GridSample", ["x", "g"])], {"g": np.zeros((1, 2, 2, 2, 3), np.float32)},
              inputs=(("x", F32, (1, 1, 2, 2, 2)),), output=("y", F32, (1, 1, 2, 2, 2))),
    ),
    "a product that is scaled in float16": (
        "gemm_scale",
        model([cast("x", "h", F16), node("Gemm", ["h", "w"], ["g"], alpha=0.5), cast("g", "y", F32)],
              {"w": np.zeros((8, 8), np.float16)}),
    ),
}  # fmt: skip


def found_by(proto: onnx.ModelProto, rule: str) -> list[Finding]:
    return [finding for finding in lint_model(proto, "planted.onnx") if finding.rule == rule]


@pytest.mark.parametrize("name", PLANTED)
def test_refuses_with_a_reason_and_a_way_on(name: str) -> None:
    rule, proto = PLANTED[name]
    findings = found_by(proto, rule)
    assert findings, lint_model(proto, "planted.onnx")
    for finding in findings:
        assert len(finding.problem) > 5 and len(finding.way_on) > 5
        assert finding.releases and finding.node and str(finding).startswith("planted.onnx: ")


def test_every_rule_has_something_planted_against_it() -> None:
    general = {rule.__name__ for rule in rules.EVERYWHERE}
    linter = {"operator", "opset", "type", "port_type", "shape"}
    assert {rule for rule, _ in PLANTED.values()} == general | set(rules.NAMED) | linter


CLEAN: dict[str, onnx.ModelProto] = {
    "a product": model([node("MatMul", ["x", "w"])], {"w": np.zeros((8, 8), np.float32)}),
    "a norm in float32 inside float16": model(
        [cast("x", "h", F16), node("Relu", ["h"], ["r"]), cast("r", "f", F32),
         node("LayerNormalization", ["f", "s"])], {"s": np.ones(8, np.float32)}),
    "a choice whose places are cast at once": model(
        [node("TopK", ["x", "k"], ["v", "i"]), cast("i", "j", I32), node("GatherElements", ["x", "j"])],
        {"k": ints(8)}),
    "codes of int8": model(
        [node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"])],
        {"s": SCALE, "z": ZERO8}),
    "a scatter to different places": model(
        [node("ScatterElements", ["x", "i", "u"], axis=0)],
        {"i": np.repeat(ints(2, 0)[:, None], 8, axis=1), "u": np.zeros((2, 8), np.float32)}),
    "shapes in int64": model([node("Reshape", ["x", "s"], ["z"]), node("Reshape", ["z", "t"])],
                             {"s": ints(32), "t": ints(4, 8)}),
}  # fmt: skip


@pytest.mark.parametrize("name", CLEAN)
def test_lets_through_what_tensorrt_takes(name: str) -> None:
    assert lint_model(CLEAN[name], "clean.onnx") == []


def test_names_the_releases_that_refuse() -> None:
    (summed,) = found_by(PLANTED["a running sum"][1], "loop_in_10")
    assert summed.releases == ("10",)
    newer = model([node("Relu", ["x"])], opset=23)
    assert [finding.releases for finding in lint_model(newer, "m")] == [("10",)]
    assert lint_model(newer, "m", wanted=("11",)) == []


def test_weights_elsewhere_are_refused_and_not_read(tmp_path: Path) -> None:
    proto = model([node("MatMul", ["x", "w"])], {"w": np.zeros((8, 8), np.float32)})
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "../secret"), ("offset", "0"), ("length", "256")):
        tensor.external_data.add(key=key, value=value)
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    (finding,) = lint_file(tmp_path / "m.onnx")
    assert finding.rule == "weights" and "../secret" in finding.problem


@pytest.mark.parametrize("data", [b"", b"not a model", b"\x08\x01"])
def test_a_file_that_is_no_model_is_an_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(data)
    with pytest.raises(ExportError, match=r"m\.onnx"):
        lint_file(tmp_path / "m.onnx")


def test_the_table_names_its_sources_and_only_rules_that_exist() -> None:
    document = json.loads((Path(table.__file__).parent / "tensorrt.json").read_text(encoding="utf-8"))
    assert all(source["where"] and source["date"] for source in document["sources"]) and document["collected"]
    assert {release.name for release in table.releases()} == set(table.RELEASES)
    for release in table.releases():
        assert {name for names in release.rules.values() for name in names} <= set(rules.NAMED)
        assert release.types["MatMul"] == {"float32", "float16", "bfloat16"}
