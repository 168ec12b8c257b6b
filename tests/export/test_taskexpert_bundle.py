"""Decoders after TaskExpert, exported: both families, every task and width through graphs and engine."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx.external_data_helper import ExternalDataInfo

from slimpath.export import ExportError, export_model, export_standalone
from slimpath.export.describe import plain_spec
from slimpath.export.pack import export_pack
from slimpath.export.reload import model_from_bundle
from slimpath.export.weights import WEIGHTS_FILE
from slimpath.models import HeadConfig, MultiTaskModel, folded, save_checkpoint
from slimpath.models.encoder import narrowed
from slimpath.runtime import Bundle, Engine, Request
from slimpath.runtime.backends import make_backend
from slimpath.runtime.backends.ort import OrtBackend
from slimpath.runtime.profiling.calibrate_bench import Workbench
from slimpath.runtime.profiling.calibrate_points import RunPoint
from slimpath.tests.export.answering import check_engine_answers
from slimpath.training.packs.learning import with_task

from .conftest import random_model

TASKS = (
    HeadConfig("semseg", "classes", 5),
    HeadConfig("depth", "depth", 1),
)
WIDTHS = [0.25, 0.5, 1.0]
#: Few experts and blocks: tracing takes its time.
BACKBONES: dict[str, dict[str, Any]] = {
    "m3vit": {"decoder_experts": 3},
    "mtlora": {"decoder_experts": 2, "depths": (1, 1, 1, 1)},
}


def random_taskexpert(preset: str, tasks: tuple[HeadConfig, ...] = TASKS, **overrides: Any) -> MultiTaskModel:
    """Random adapters and gates that decide clearly, besides what `random_model` draws."""
    model = random_model(f"taskexpert_{preset}", tasks, **overrides)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("adapters.") or "shared" in name:
                parameter.normal_(std=0.1)
            elif ".gates." in name or name.endswith(".start"):
                parameter.normal_(std=0.3)
    return model


@pytest.fixture(scope="module", params=BACKBONES)
def model(request: pytest.FixtureRequest) -> MultiTaskModel:
    return random_taskexpert(f"{request.param}_micro", **BACKBONES[request.param])


@pytest.fixture(scope="module")
def bundle(model: MultiTaskModel, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("taskexpert") / "bundle"
    export_model(model, {}, out, widths=WIDTHS, name="taskexpert")
    return Bundle.open(out, verify=True)


def test_every_graph_of_every_width_passed_its_parity_check(model: MultiTaskModel, bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert all(graph.parity is not None and graph.parity.passed for graph in manifest.graphs)
    heads = {graph.width: graph for graph in manifest.graphs if graph.task == "semseg"}
    assert sorted(heads) == WIDTHS
    costs = [heads[width].cost.flops_row for width in WIDTHS]
    assert costs == sorted(set(costs))  # a narrower decoder costs less
    hidden = model.config.decoder_expert_hidden
    assert [heads[width].units["expert_hidden"] for width in WIDTHS] == [width * hidden for width in WIDTHS]
    assert manifest.encoder.taps == (model.config.taps if model.config.family == "vit" else ())


def test_all_tasks_graphs_refer_to_one_copy_of_the_experts(model: MultiTaskModel, bundle: Bundle) -> None:
    data, whole = (bundle.path / WEIGHTS_FILE).read_bytes(), folded(model)
    places: dict[tuple[str, str], int] = {}
    for spec in bundle.manifest.graphs:
        if spec.task not in ("semseg", "depth"):
            continue
        graph = onnx.load(bundle.path / spec.file, load_external_data=False).graph
        expected = {
            f"{root}{name}": value
            for root, part in (
                (f"heads.{spec.task}.", whole.heads[spec.task]),
                ("decoder_experts.", whole.decoder_experts),
            )
            for name, value in narrowed(part, spec.width).named_parameters()
        }
        referred = {tensor.name: ExternalDataInfo(tensor) for tensor in graph.initializer if tensor.external_data}
        # At first the memory is one vector: its share in the first scores is a constant that the exporter works out.
        assert expected.keys() - referred.keys() == {f"heads.{spec.task}.gates.0.memory"}, spec.file
        assert referred.keys() <= expected.keys()
        assert spec.parameters == sum(value.numel() for value in expected.values())
        for name, info in referred.items():
            assert info.offset is not None and info.length is not None
            assert data[info.offset : info.offset + info.length] == expected[name].detach().numpy().tobytes(), name
            places[spec.task, name] = info.offset
    shared = [name for task, name in places if task == "depth" and name.startswith("decoder_experts.")]
    assert shared and all(places["depth", name] == places["semseg", name] for name in shared)


def test_engine_answers_every_task_at_every_width_as_the_network(model: MultiTaskModel, bundle: Bundle) -> None:
    check_engine_answers(model, bundle, WIDTHS)
    with Engine.load(bundle, threads=1) as engine:
        for width in WIDTHS:
            assert set(engine.plan(None, f"width={width}").decoder_widths.values()) == {width}


def test_a_mixed_batch_equals_calls_of_their_own(model: MultiTaskModel, bundle: Bundle) -> None:
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, (*model.config.image_hw, 3), np.uint8) for _ in range(2)]
    with Engine.load(bundle, threads=1) as engine:
        batch = engine.run_batch([Request(images[0]), Request(images[1], ["depth"])])
        for image, result in zip(images, batch):
            for task in result.plan.decoder_widths:
                alone = engine(image, tasks=[task])[task]
                np.testing.assert_allclose(result[task], alone, atol=1e-5, rtol=1e-5, err_msg=task)


def test_bundle_gives_the_network_back_and_torch_runs_it(model: MultiTaskModel, bundle: Bundle) -> None:
    again, _ = model_from_bundle(bundle)
    whole = folded(model)
    assert again.config == whole.config
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in again.state_dict().items())
    image = np.random.default_rng(2).integers(0, 256, (*model.config.image_hw, 3), np.uint8)
    with Engine.load(bundle, threads=1) as engine, Engine.load(bundle, backend=make_backend("torch")) as other:
        for budget in ("width=0.5", 1.0):
            found, expected = (e(image, tasks=["depth"], budget=budget)["depth"] for e in (other, engine))
            np.testing.assert_allclose(found, expected, atol=1e-4 * max(1.0, float(expected.max())), rtol=0)


def test_standalone_file_holds_the_experts_once(model: MultiTaskModel, tmp_path: Path) -> None:
    checkpoint = save_checkpoint(tmp_path / "model.safetensors", model)
    report = export_standalone(checkpoint, tmp_path / "two.onnx", tasks=["depth", "semseg"], width=0.5)
    assert report.worst_error is not None and report.worst_error < 1e-3
    held = [tensor.name for tensor in onnx.load(report.path).graph.initializer]
    layers = len(folded(model).decoder_experts.layers)
    assert sum(name.endswith(".up") and name.startswith("decoder_experts.") for name in held) == (
        layers * model.config.decoder_experts
    )


def test_a_pack_on_such_a_base_brings_a_native_decoder_and_no_other(
    model: MultiTaskModel, bundle: Bundle, tmp_path: Path
) -> None:
    base, _ = model_from_bundle(bundle)
    label = HeadConfig("scene", "image_classes", 4)
    export_pack(with_task(base, label), bundle, tmp_path / "pack", spec=plain_spec(label))
    image = np.random.default_rng(3).integers(0, 256, (*model.config.image_hw, 3), np.uint8)
    with Engine.load(bundle, threads=1) as engine:
        before = engine(image, tasks=["depth"])["depth"]
        engine.add_pack(tmp_path / "pack")
        assert np.array_equal(engine(image, tasks=["depth"])["depth"], before)
        assert engine(image, tasks=["scene"])["scene"].shape == (4,)
    edge = HeadConfig("edge", "probability", 1, decoder="taskexpert")
    with pytest.raises(ExportError, match="whose experts are the base's; a pack brings a native one"):
        export_pack(with_task(base, edge), bundle, tmp_path / "no", spec=plain_spec(edge))
    assert not (tmp_path / "no").exists()


def test_calibration_has_inputs_for_every_graph(bundle: Bundle) -> None:
    backend = OrtBackend(threads=1)
    bench = Workbench(bundle, lambda spec: backend.load((bundle.path / spec.file).read_bytes(), bundle.path))
    graphs = [graph for graph in bundle.manifest.graphs if graph.width == WIDTHS[0]]
    assert {graph.task for graph in graphs} == {None, "semseg", "depth"}
    for graph in graphs:
        point = RunPoint(graph, images=2, rows=2, top_k=0 if graph.task else bundle.manifest.encoder.top_k)
        assert bench.graph_run(point)()
