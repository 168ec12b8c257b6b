"""A Swin with branches, exported: every task and width through graphs and engine, one call for all tasks."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx.external_data_helper import ExternalDataInfo
from safetensors.numpy import load_file

from slimpath.export import ExportError, export_model, export_standalone, parity
from slimpath.export.reload import model_from_bundle
from slimpath.export.weights import WEIGHTS_FILE
from slimpath.models import HeadConfig, MultiTaskModel, folded, save_checkpoint
from slimpath.models.encoder import narrowed
from slimpath.runtime import Bundle, Engine, Request
from slimpath.tests.export.answering import check_engine_answers, plane_of

from .conftest import random_model

TASKS = (
    HeadConfig("semseg", "classes", 5),
    HeadConfig("depth", "depth", 1),
    HeadConfig("normals", "normals", 3, decoder="hrnet", stream=(3, 4, 5, 6)),
    HeadConfig("scene", "image_classes", 4),
)
SIZE = (64, 64)
WIDTHS = [0.25, 0.5, 1.0]


def random_swin(tasks: tuple[HeadConfig, ...] = TASKS, **overrides: Any) -> MultiTaskModel:
    """Random adapters, bias tables and batch statistics besides what `random_model` draws."""
    model = random_model("mtlora_micro", tasks, **overrides)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "shared" in name or name.startswith("adapters."):
                parameter.normal_(std=0.1)
            elif name.endswith("bias_table"):
                parameter.normal_()
            elif name.startswith("heads.normals.") and parameter.ndim > 1:  # `random_model` takes it for a norm
                parameter.normal_(std=parameter[0].numel() ** -0.5)
        for layer in model.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                assert layer.running_mean is not None and layer.running_var is not None
                layer.running_mean.normal_(std=0.3)
                layer.running_var.uniform_(0.5, 2.0)
    return model


@pytest.fixture(scope="module")
def swin() -> MultiTaskModel:
    return random_swin(merge_adapters=True)


@pytest.fixture(scope="module")
def swin_bundle(swin: MultiTaskModel, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("swin") / "bundle"
    export_model(swin, {}, out, widths=WIDTHS, name="swin")
    return Bundle.open(out, verify=True)


def test_every_graph_passed_its_parity_check(swin_bundle: Bundle) -> None:
    manifest = swin_bundle.manifest
    assert manifest.family == "swin" and manifest.widths == tuple(WIDTHS)
    assert all(graph.parity is not None and graph.parity.passed for graph in manifest.graphs)
    heads = {(graph.task, graph.width) for graph in manifest.graphs if graph.kind == "head"}
    assert ("normals", 1.0) in heads and ("normals", 0.5) not in heads  # a published decoder has one width
    assert ("depth", 0.25) in heads


def test_every_weight_of_every_graph_is_a_prefix_of_the_one_copy(swin: MultiTaskModel, swin_bundle: Bundle) -> None:
    data, model = (swin_bundle.path / WEIGHTS_FILE).read_bytes(), folded(swin)
    for spec in swin_bundle.manifest.graphs:
        graph = onnx.load(swin_bundle.path / spec.file, load_external_data=False).graph
        part = model.encoder if spec.task is None else model.heads[spec.task]
        root = "encoder." if spec.task is None else f"heads.{spec.task}."
        cut = narrowed(part, spec.width)
        expected = {root + name: value for name, value in (*cut.named_parameters(), *cut.named_buffers())}
        referred = {tensor.name: ExternalDataInfo(tensor) for tensor in graph.initializer if tensor.external_data}
        assert {name for name in expected if not name.endswith("attn.index")} == referred.keys(), spec.file
        for name, info in referred.items():
            assert info.offset is not None and info.length is not None
            assert data[info.offset : info.offset + info.length] == expected[name].detach().numpy().tobytes(), name


def test_engine_answers_every_task_at_every_width_as_the_network(swin: MultiTaskModel, swin_bundle: Bundle) -> None:
    check_engine_answers(swin, swin_bundle, WIDTHS)


def test_one_call_for_all_tasks_equals_calls_of_their_own(swin_bundle: Bundle) -> None:
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, (*SIZE, 3), np.uint8) for _ in range(2)]
    with Engine.load(swin_bundle, threads=1) as engine:
        batch = engine.run_batch([Request(images[0]), Request(images[1], ["depth", "scene"])])
        for image, result in zip(images, batch):
            for task in result.plan.decoder_widths:
                alone = engine(image, tasks=[task])[task]
                np.testing.assert_allclose(result[task], alone, atol=1e-5, rtol=1e-5, err_msg=task)


def test_planner_pays_for_a_row_per_task(swin_bundle: Bundle) -> None:
    encoder = swin_bundle.graph("encoder", SIZE, 1.0)
    assert encoder.cost.flops_row > 0 and swin_bundle.manifest.rows_per_task
    with Engine.load(swin_bundle, threads=1) as engine:
        one, two = engine.plan(["depth"]), engine.plan(["depth", "semseg"])
        head = swin_bundle.graph("head", SIZE, 1.0, "semseg")
        assert two.flops - one.flops == encoder.cost.flops_row + head.cost.flops_row
        assert engine.plan(["depth"], 0.5).flops <= 0.5 * one.flops


def test_bundle_gives_the_folded_network_back(swin: MultiTaskModel, swin_bundle: Bundle) -> None:
    again, _ = model_from_bundle(swin_bundle)
    model = folded(swin)
    assert again.config == model.config and again.config.folded
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())


def test_wrong_adapters_would_show(swin_bundle: Bundle) -> None:
    """The adapter input matters: another task's gives other features."""
    spec = swin_bundle.graph("encoder", SIZE, 1.0)
    model, _ = model_from_bundle(swin_bundle)
    run = parity.onnxruntime_runner(swin_bundle.path / spec.file)
    case = parity.encoder_case(model, 1.0, [("depth", 1)])
    inputs = {name: value.numpy() for name, value in case.inputs.items()}
    other = model.row_inputs(["semseg"])["adapter"].detach().numpy()
    right, wrong = run(inputs)[0], run({**inputs, "adapter": other})[0]
    assert np.abs(right - case.features.tokens_BND.numpy()).max() < 1e-4 < np.abs(right - wrong).max()


def test_two_sizes_share_all_but_the_masks(swin: MultiTaskModel, tmp_path: Path) -> None:
    model = random_swin(TASKS[1:2], image_hw=(128, 128), depths=(2, 1, 1, 1))
    report = export_model(model, {}, tmp_path / "two", sizes=[(128, 128), (128, 256)], widths=[1.0], check=False)
    bundle = Bundle.open(report.path)
    assert bundle.manifest.sizes == ((128, 128), (128, 256))
    sized = [name for name in load_file(report.path / WEIGHTS_FILE) if "x" in name.rpartition(".")[2]]
    assert len(sized) == 2 and all(".mask." in name for name in sized)
    with pytest.raises(ExportError, match="would need windows of another size"):
        export_model(model, {}, tmp_path / "no", sizes=[(64, 64)])
    with pytest.raises(ValueError, match="must be multiples of"):
        export_model(model, {}, tmp_path / "no", sizes=[(100, 128)])


def test_standalone_file_holds_the_adapters_of_its_tasks(swin: MultiTaskModel, tmp_path: Path) -> None:
    checkpoint = save_checkpoint(tmp_path / "swin.safetensors", swin)
    report = export_standalone(checkpoint, tmp_path / "two.onnx", tasks=["normals", "semseg"], width=0.5)
    assert report.worst_error is not None and report.worst_error < 1e-3


def test_adapted_vit_goes_through_the_engine(tmp_path: Path) -> None:
    """A slimmable mixture of experts with low-rank adapters per task: routers and adapters in one row."""
    tasks = TASKS[:2]
    model = random_model("m3vit_micro", tasks, adapter_blocks=(2, 3), adapter_rank=3)
    with torch.no_grad():
        for parameter in model.adapters.parameters():
            parameter.normal_(std=0.1)
    report = export_model(model, {}, tmp_path / "vit", widths=[0.5, 1.0])
    bundle = Bundle.open(report.path)
    assert all(graph.parity is not None and graph.parity.passed for graph in bundle.manifest.graphs)
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    with Engine.load(bundle, threads=1) as engine:
        for width in (0.5, 1.0):
            with torch.no_grad():
                raw = model(plane_of(image), ["depth"], width=width).raw["depth"]
            found = engine(image, tasks=["depth"], budget=f"width={width}")["depth"]
            np.testing.assert_allclose(found, torch.exp(raw[0, 0].clamp(-5, 7)), atol=1e-4, rtol=1e-4)
