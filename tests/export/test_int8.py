"""int8 beside fp32: what is stored, what is computed, and what stays as it was."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx.external_data_helper import ExternalDataInfo
from safetensors.numpy import load_file

from slimpath.export import ParityError, export_model, export_standalone, int8_bundle
from slimpath.export.int8 import LIMIT, quantise
from slimpath.export.int8_graph import to_int8
from slimpath.export.reload import model_from_bundle
from slimpath.models import HeadConfig, MultiTaskModel, save_checkpoint
from slimpath.runtime import Bundle, Engine
from slimpath.runtime.backends import ort
from slimpath.runtime.backends.ort import OrtBackend
from slimpath.runtime.bundles.graph_spec import GraphSpec
from slimpath.runtime.footprint.residency import WeightMap
from slimpath.runtime.running.routing import Routers

from . import int8_reference
from .conftest import random_model

TASKS = (HeadConfig("depth", "depth", 1), HeadConfig("edge", "probability", 1))
SIZE, WIDTHS = (32, 32), [0.5, 1.0]
PRODUCTS = {"attn.qkv", "attn.proj", "mlp.up", "mlp.down", "experts.up", "experts.down"}


@pytest.fixture(scope="module")
def model() -> MultiTaskModel:
    return random_model("m3vit_micro", TASKS)


@pytest.fixture(scope="module")
def bundle(model: MultiTaskModel, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("bundles") / "int8"
    export_model(model, {}, out, widths=WIDTHS, int8=True, name="int8")
    return Bundle.open(out, verify=True)


def encoder(bundle: Bundle, width: float, precision: str = "int8") -> GraphSpec:
    return bundle.graph("encoder", SIZE, width, precision=precision)


def references(bundle: Bundle, graph: GraphSpec) -> dict[str, tuple[int, int]]:
    """Initializer -> offset and length of its bytes in the weights file."""
    proto = onnx.load(bundle.path / graph.file, load_external_data=False)
    infos = {tensor.name: ExternalDataInfo(tensor) for tensor in proto.graph.initializer if tensor.external_data}
    return {name: (info.offset or 0, info.length or 0) for name, info in infos.items()}


def feeds_of(bundle: Bundle, tasks: list[str], top_k: list[int]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    feeds = {"image": rng.standard_normal((len(tasks), 3, *SIZE), dtype=np.float32)}
    feeds |= {"image_index": np.arange(len(tasks)), "top_k": np.array(top_k)}
    feeds["router"], feeds["router_bias"] = Routers(bundle).stack(tasks)
    return feeds


@settings(max_examples=50, deadline=None)
@given(
    weight=arrays(np.float32, (5, 7), elements=st.floats(-10, 10, width=32)),
    name=st.sampled_from(["encoder.blocks.0.mlp.up", "encoder.blocks.1.experts.down.12", "encoder.blocks.0.attn.proj"]),
)
def test_an_int8_weight_is_within_half_a_step_and_uses_the_whole_range(weight: np.ndarray, name: str) -> None:
    found = quantise(name, weight)
    assert found is not None and found.values.dtype == np.int8
    axis = 1 if found.rows_are_outputs else 0
    assert found.rows_are_outputs == name.endswith("up")
    step = found.scale[:, None] if found.rows_are_outputs else found.scale
    assert (np.abs(found.dequantised() - weight) <= 0.5001 * step).all()
    largest = np.abs(found.values.astype(int)).max(axis=axis)
    assert set(largest[np.abs(weight).max(axis=axis) > 1e-30]) <= {LIMIT} and largest.max() <= LIMIT


@pytest.mark.parametrize(
    "name", ["encoder.blocks.0.norm1.weight", "encoder.detail.up", "routers.depth.weight.0", "heads.depth.mlp.up"]
)
def test_what_is_no_large_product_of_the_encoder_stays_fp32(name: str) -> None:
    assert quantise(name, np.ones((4, 4), np.float32)) is None


def test_every_encoder_is_there_in_both_precisions_and_heads_in_fp32(bundle: Bundle) -> None:
    found = Counter((graph.kind, graph.precision) for graph in bundle.manifest.graphs)
    assert found == {("encoder", "fp32"): 2, ("encoder", "int8"): 2, ("head", "fp32"): 4}
    assert bundle.manifest.precisions == ("fp32", "int8")
    for width in WIDTHS:
        fp32, int8 = encoder(bundle, width, "fp32"), encoder(bundle, width)
        assert (int8.cost, int8.units, int8.parameters) == (fp32.cost, fp32.units, fp32.parameters)


def test_products_are_stored_once_in_int8_and_all_widths_refer_to_prefixes(bundle: Bundle) -> None:
    stored = load_file(bundle.path / bundle.manifest.weights.file)
    wide, narrow = references(bundle, encoder(bundle, 1.0)), references(bundle, encoder(bundle, 0.5))
    products = {name.removesuffix(".int8") for name in stored if name.endswith(".int8")}
    assert {".".join(name.split(".")[3:5]) for name in products} == PRODUCTS
    assert len(products) == 4 * 2 + 2 * 2 + 2 * 8  # attention of 4 blocks, 2 with an MLP, 2 with 4 experts
    for name in products:
        assert stored[f"{name}.int8"].dtype == np.int8 and name not in wide, name
        for suffix in (".int8", ".int8_scale"):
            (offset, length), (narrow_offset, narrow_length) = wide[name + suffix], narrow[name + suffix]
            assert offset == narrow_offset and length == stored[name + suffix].nbytes, name
            halved = suffix == ".int8" or name.split(".")[4] in ("qkv", "up")
            assert narrow_length * (2 if halved else 1) == length, name
    assert encoder(bundle, 1.0).weight_bytes == sum(length for _, length in wide.values())
    assert encoder(bundle, 1.0).weight_bytes < 0.6 * encoder(bundle, 1.0, "fp32").weight_bytes


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("tier", ["packed", "mapped"])
def test_onnx_runtime_computes_what_numpy_does_with_the_same_rounding(bundle: Bundle, width: float, tier: str) -> None:
    graph, feeds = encoder(bundle, width), feeds_of(bundle, ["depth", "edge", "depth"], [1, 2, 2])
    found = OrtBackend(threads=1).load(bundle.graph_bytes(graph), bundle.path, tier=tier).run(feeds)  # type: ignore[arg-type]
    expected = int8_reference.run(onnx.load(bundle.path / graph.file), feeds)
    for answer, wanted in zip(found.values(), expected, strict=True):
        assert answer == pytest.approx(wanted, abs=1e-4)


def test_kernels_that_cannot_overflow_give_the_same_answers(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, feeds = encoder(bundle, 1.0), feeds_of(bundle, ["depth", "edge"], [2, 2])
    plain = OrtBackend(threads=1).load(bundle.graph_bytes(graph), bundle.path).run(feeds)
    monkeypatch.setattr(ort, "_int8_overflows", lambda: True)
    exact = OrtBackend(threads=1).load(bundle.graph_bytes(graph), bundle.path).run(feeds)
    assert exact["tokens"] == pytest.approx(plain["tokens"], abs=1e-5)


def test_experts_without_tokens_are_no_trouble(bundle: Bundle) -> None:
    feeds = feeds_of(bundle, ["depth"], [1])
    feeds["router_bias"] = np.full_like(feeds["router_bias"], -100.0)
    feeds["router_bias"][..., 2] = 100.0
    answer = OrtBackend(threads=1).load(bundle.graph_bytes(encoder(bundle, 1.0)), bundle.path).run(feeds)
    assert np.isfinite(answer["tokens"]).all()


def test_tokens_of_all_experts_are_quantised_once_and_routers_read_fp32(bundle: Bundle) -> None:
    graph = onnx.load(bundle.path / encoder(bundle, 1.0).file, load_external_data=False).graph
    kinds = Counter(node.op_type for node in graph.node)
    blocks, experts = 4, 4
    assert kinds["Gemm"] == 0 and kinds["QGemm"] == blocks + 2 + 2 * experts  # qkv, up of the MLPs, up of the experts
    assert kinds["DynamicQuantizeMatMul"] == kinds["QGemm"]  # proj and down
    assert kinds["DynamicQuantizeLinear"] == 2 * blocks  # before qkv, and before the MLP or all experts of a block
    router = [node for node in graph.node if "router" in " ".join(node.input)]
    assert router and not any(node.op_type.startswith(("QGemm", "Dynamic")) for node in router)


def test_int8_answers_are_near_those_of_fp32_and_another_path_of_the_engine(bundle: Bundle) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    with Engine.load(bundle, threads=1, profile=None) as engine:
        fp32, int8 = engine(image), engine(image, budget="precision=int8")
    assert (fp32.plan.precision, int8.plan.precision) == ("fp32", "int8")
    for task in ("depth", "edge"):
        change = np.abs(int8[task] - fp32[task]).mean() / np.abs(fp32[task]).mean()
        assert 0 < change < 0.05, task


def test_weights_of_int8_experts_belong_to_the_experts_of_a_task(bundle: Bundle) -> None:
    fp32 = WeightMap(bundle).residency(["depth"]).tasks["depth"]
    int8 = WeightMap(bundle, precision="int8").residency(["depth"]).tasks["depth"]
    assert int8.experts < 0.4 * fp32.experts and int8.head == fp32.head


def test_the_network_comes_back_from_a_bundle_with_int8(bundle: Bundle, model: MultiTaskModel) -> None:
    again, _ = model_from_bundle(bundle)
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_a_graph_far_from_fp32_is_refused_and_leaves_nothing(
    model: MultiTaskModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8_bundle, "LARGEST_DIFFERENCE", 1e-9)
    with pytest.raises(ParityError, match=r"int8\.onnx: 'tokens' differs from fp32 by"):
        export_model(model, {}, tmp_path / "out", widths=[1.0], int8=True)
    assert not list(tmp_path.iterdir())


def test_a_stand_alone_file_in_int8_is_a_third_of_the_size_or_less(tmp_path: Path) -> None:
    network = random_model("vit_micro", TASKS[:1], dim=64, decoder_channels=4, decoder_hidden=4)
    checkpoint = save_checkpoint(tmp_path / "vit.safetensors", network, {})
    reports = {int8: export_standalone(checkpoint, tmp_path / f"{int8}.onnx", int8=int8) for int8 in (False, True)}
    fp32, kinds = (
        Counter(node.op_type for node in onnx.load(tmp_path / f"{int8}.onnx").graph.node) for int8 in (False, True)
    )
    assert kinds["QGemm"] == kinds["DynamicQuantizeMatMul"] == 8 and fp32["Gemm"] - kinds["Gemm"] == 16
    saved = reports[False].size_bytes - reports[True].size_bytes
    products = 4 * (3 + 1 + 4 + 4) * 64 * 64
    assert saved == pytest.approx(3 * products, rel=0.15)
    worst = reports[True].worst_error
    assert worst is not None and 0 < worst < 0.1


def test_a_gemm_becomes_int8_whatever_follows_it() -> None:
    """With bias and Gelu, with bias alone, without bias; gathered and split rows are those of the whole."""
    rng = np.random.default_rng(0)
    up, down = (rng.standard_normal((8, 6)).astype(np.float32) for _ in range(2))
    text = """
        <ir_version: 9, opset_import: ["" : 20]>
        net (float[T, 6] x, int64[P] rows) => (float[P, 6] y, float[T, 8] plain)
        <float[8, 6] encoder.mlp.up = {UP}, float[8, 6] encoder.mlp.down = {DOWN}, float[8] bias = {1,2,3,4,5,6,7,8}>
        {
            own = Gather <axis: int = 0> (x, rows)
            hidden = Gemm <transB: int = 1> (own, encoder.mlp.up, bias)
            active = Gelu (hidden)
            y = Gemm (active, encoder.mlp.down)
            plain0 = Gemm <transB: int = 1> (x, encoder.mlp.up)
            plain = Relu (plain0)
        }
    """
    for name, value in {"{UP}": up, "{DOWN}": down}.items():
        text = text.replace(name, "{" + ",".join(map(repr, value.ravel().tolist())) + "}")
    text = text.replace("encoder.mlp.up", "w_up").replace("encoder.mlp.down", "w_down")
    model = ir.from_onnx_text(text)
    named = {"w_up": "encoder.mlp.up", "w_down": "encoder.mlp.down"}
    assert to_int8(model, lambda name, weight: quantise(named[name], weight)) == 3
    proto = ir.to_proto(model)
    assert Counter(node.op_type for node in proto.graph.node)["DynamicQuantizeLinear"] == 1
    feeds = {"x": rng.standard_normal((5, 6)).astype(np.float32), "rows": np.array([4, 0, 0])}
    import onnxruntime

    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for answer, wanted in zip(session.run(None, feeds), int8_reference.run(proto, feeds), strict=True):
        assert answer == pytest.approx(wanted, abs=1e-4)
