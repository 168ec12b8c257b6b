"""A bundle with graphs for GPUs: what is in it, that it computes what the network does, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import onnx
import pytest
from onnx.external_data_helper import ExternalDataInfo

from slimpath.export import ExportError, ParityError, TargetExistsError
from slimpath.export.gpu import GpuReport, add_gpu_graphs, lint_files, verify
from slimpath.runtime import Bundle
from slimpath.runtime.bundles.gpu_graphs import check_gpu_weights, gpu_spec, read_gpu_graph
from slimpath.runtime.bundles.gpu_spec import GPU_WEIGHTS_FILE, GpuGraphSpec, smallest_batch
from slimpath.runtime.errors import BundleError, GraphError, WeightsError


def specs(bundle: Bundle, **wanted: object) -> list[GpuGraphSpec]:
    """Graphs whose fields have these values."""
    assert bundle.manifest.gpu is not None
    return [
        graph
        for graph in bundle.manifest.gpu.graphs
        if all(getattr(graph, field) == value for field, value in wanted.items())
    ]


def test_everything_else_of_the_bundle_is_kept(plain_bundle: Bundle, gpu_bundle: Bundle) -> None:
    without = msgspec.structs.replace(gpu_bundle.manifest, gpu=None)
    assert without == plain_bundle.manifest
    for name in plain_bundle.manifest.files:
        assert (gpu_bundle.path / name).read_bytes() == (plain_bundle.path / name).read_bytes()
    assert {file.name for file in gpu_bundle.path.iterdir()} == {*gpu_bundle.manifest.files, "manifest.json"}


def test_there_is_an_encoder_for_every_configuration_batch_and_precision(gpu_bundle: Bundle) -> None:
    encoders = {(g.width, g.top_k, g.images, g.rows, g.precision) for g in specs(gpu_bundle, kind="encoder")}
    assert encoders == {
        (width, top_k, 1, 2, precision)
        for width, top_k in ((0.5, 1), (1.0, 2))
        for precision in ("fp32", "fp16", "int8")
    }
    heads = {(g.task, g.width, g.rows, g.precision) for g in specs(gpu_bundle, kind="head")}
    assert heads == {
        (task, width, 1, precision)
        for task in gpu_bundle.manifest.task_names
        for width in (0.5, 1.0)
        for precision in ("fp32", "fp16", "int8")
    }


def test_float32_graphs_pass_the_parity_gate(gpu_bundle: Bundle, gpu_report: GpuReport) -> None:
    for graph in specs(gpu_bundle, precision="fp32"):
        assert graph.parity is not None and graph.parity.passed and graph.parity.tolerance == 1e-4, graph.file
        if graph.kind == "encoder":
            assert graph.parity.min_gap is None or graph.parity.min_gap >= 2e-5
    assert gpu_report.worst_error is not None and gpu_report.worst_error < 1e-4


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_answers_below_float32_are_within_the_stated_bounds(gpu_bundle: Bundle, precision: str) -> None:
    spec = gpu_spec(gpu_bundle)
    agreed = [one for one in spec.agreements if one.precision == precision]
    assert {(one.task, one.width, one.top_k) for one in agreed} == {
        (task, *configuration) for task in gpu_bundle.manifest.task_names for configuration in spec.configurations
    }
    assert all(one.passed for one in agreed)
    bounds = {one.task: one.bound for one in agreed}
    expected = {"fp16": {"depth": 0.0025, "scene": 0.005}}
    expected["int8"] = {"depth": 0.05, "scene": 0.1}
    assert bounds == expected[precision]


def test_the_linter_passes_on_every_graph(gpu_bundle: Bundle) -> None:
    assert lint_files(gpu_bundle.path / graph.file for graph in specs(gpu_bundle)) == []


def test_ports_are_what_the_files_say_with_fixed_shapes(gpu_bundle: Bundle) -> None:
    kinds: dict[int, str] = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.INT32: "int32"}
    for spec in specs(gpu_bundle):
        graph = onnx.load(gpu_bundle.path / spec.file, load_external_data=False).graph
        for ports, values in ((spec.inputs, graph.input), (spec.outputs, graph.output)):
            found = [
                (v.name, kinds[v.type.tensor_type.elem_type], tuple(d.dim_value for d in v.type.tensor_type.shape.dim))
                for v in values
            ]
            assert found == [(port.name, port.dtype, port.shape) for port in ports], spec.file
            assert all(axis > 0 for port in ports for axis in port.shape)
    (encoder,) = specs(gpu_bundle, kind="encoder", width=1.0, precision="fp16")
    shapes = {port.name: port.shape for port in (*encoder.inputs, *encoder.outputs)}
    assert shapes == {
        "image": (1, 3, 32, 32), "image_index": (2,), "router": (2, 2, 32, 4), "router_bias": (2, 2, 4),
        "tokens": (2, 5, 32), "detail": (1, 8, 8, 8),
    }  # fmt: skip


def test_weights_lie_once_per_type_and_narrow_graphs_read_prefixes(gpu_bundle: Bundle) -> None:
    ranges: dict[str, set[tuple[int, int]]] = {}
    for spec in specs(gpu_bundle):
        for tensor in onnx.load(gpu_bundle.path / spec.file, load_external_data=False).graph.initializer:
            if tensor.external_data:
                info = ExternalDataInfo(tensor)
                assert info.location == GPU_WEIGHTS_FILE and info.offset is not None and info.length is not None
                ranges.setdefault(tensor.name, set()).add((info.offset, info.length))
            else:
                assert len(tensor.raw_data) <= 1024, tensor.name
    assert all(len({offset for offset, _ in found}) == 1 for found in ranges.values())
    stacked = "float16/encoder.blocks.1.experts.up"
    assert sorted(length for _, length in ranges[stacked]) == [
        16 * 4 * 32 * 2,
        32 * 4 * 32 * 2,
    ]  # units, experts, dim, bytes
    size = (gpu_bundle.path / GPU_WEIGHTS_FILE).stat().st_size
    distinct = sum(max(length for _, length in found) for found in ranges.values())
    assert size < 1.2 * distinct + 20_000  # nothing but these, once, and a header


def test_norms_and_routers_are_float32_and_products_float16(gpu_bundle: Bundle) -> None:
    (spec,) = specs(gpu_bundle, kind="encoder", width=1.0, precision="fp16")
    graph = onnx.shape_inference.infer_shapes(onnx.load(gpu_bundle.path / spec.file, load_external_data=False)).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)}
    half, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    for node in graph.node:
        if node.op_type in ("LayerNormalization", "Softmax", "TopK"):
            assert types[node.input[0]] == single, node.op_type
        if node.op_type in ("Gemm", "Conv", "ConvTranspose", "Gelu"):
            assert types[node.output[0]] == half, node.op_type


def test_int8_graphs_have_int8_products(gpu_bundle: Bundle) -> None:
    for kind, least in (("encoder", 12), ("head", 1)):
        for spec in specs(gpu_bundle, kind=kind, precision="int8"):
            graph = onnx.load(gpu_bundle.path / spec.file, load_external_data=False).graph
            made = {name: node.op_type for node in graph.node for name in node.output}
            quantised = [
                node for node in graph.node if [made.get(name) for name in node.input[:2]] == ["DequantizeLinear"] * 2
            ]
            assert len(quantised) >= least, spec.file


def test_graphs_are_checked_when_they_are_read(gpu_bundle: Bundle, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(gpu_bundle.path, copy)
    bundle = Bundle.open(copy)
    graph = gpu_spec(bundle).graphs[0]
    assert read_gpu_graph(bundle, graph) == (gpu_bundle.path / graph.file).read_bytes()
    assert check_gpu_weights(bundle, verify=True) == copy / GPU_WEIGHTS_FILE
    data = bytearray((copy / graph.file).read_bytes())
    data[-1] ^= 1
    (copy / graph.file).write_bytes(data)
    with pytest.raises(GraphError, match="manifest describes"):
        read_gpu_graph(bundle, graph)
    weights = bytearray((copy / GPU_WEIGHTS_FILE).read_bytes())
    weights[-1] ^= 1
    (copy / GPU_WEIGHTS_FILE).write_bytes(weights)
    with pytest.raises(WeightsError, match="SHA-256"):
        check_gpu_weights(bundle, verify=True)


def test_a_bundle_without_graphs_for_gpus_says_so(plain_bundle: Bundle) -> None:
    assert plain_bundle.manifest.gpu is None
    with pytest.raises(BundleError, match="no graphs for GPUs") as caught:
        gpu_spec(plain_bundle)
    assert "--target gpu" in str(caught.value.hint)


def test_the_smallest_batch_that_holds_a_request_is_found(gpu_bundle: Bundle) -> None:
    spec = gpu_spec(gpu_bundle)
    assert smallest_batch(spec, 1, 1) == smallest_batch(spec, 1, 2) == (1, 2)
    assert smallest_batch(spec, 2, 2) is None
    several = msgspec.structs.replace(spec, batches=((1, 1), (1, 4), (2, 4)))
    assert smallest_batch(several, 1, 2) == (1, 4) and smallest_batch(several, 2, 2) == (2, 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precisions": ("fp8",)}, "precisions must be"),
        ({"precisions": ()}, "precisions must be"),
        ({"precisions": ("int8",)}, "calibration pictures"),
        ({"configurations": [(0.3, 1)]}, "no encoder of width 0.3"),
        ({"configurations": [(0.5, 3)]}, "top-k must be 1 to 2, got 3"),
        ({"batches": [(2, 1)]}, "at least one image and a row for each"),
    ],
)
def test_refuses_what_the_model_cannot_have(
    plain_bundle: Bundle, tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ExportError, match=message):
        add_gpu_graphs(plain_bundle, tmp_path / "out", **settings)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_differs_leaves_nothing_behind(
    plain_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = verify.check.encoder_parity

    def wrong(*arguments: object) -> object:
        return msgspec.structs.replace(right(*arguments), passed=False)  # type: ignore[arg-type]

    monkeypatch.setattr(verify.check, "encoder_parity", wrong)
    with pytest.raises(ParityError, match="differs from the network"):
        add_gpu_graphs(plain_bundle, tmp_path / "out", configurations=[(0.5, 1)], batches=[(1, 1)])
    assert list(tmp_path.iterdir()) == []


def test_never_writes_over_anything(plain_bundle: Bundle) -> None:
    with pytest.raises(TargetExistsError):
        add_gpu_graphs(plain_bundle, plain_bundle.path)
