"""The graphs compute what the network computes: every task, width and top_k, mixed batches included."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from slimpath.export import export_model, parity
from slimpath.export.reload import model_from_bundle
from slimpath.models import MultiTaskModel
from slimpath.runtime import Bundle
from slimpath.runtime.bundles.bundled import bundled_path

from .conftest import TASKS, random_model


def _check_everything(bundle: Bundle, model: MultiTaskModel, size_hw: tuple[int, int]) -> None:
    """Encoders on one mixed batch of all (task, top_k), heads on its tokens, at every width."""
    config = model.config
    top_ks = range(1, config.top_k + 1) if config.moe_blocks else [1]
    rows: list[tuple[str, int]] = list(product(config.task_names, top_ks))
    for graph in bundle.manifest.graphs:
        if graph.kind != "encoder" or graph.size_hw != size_hw:
            continue
        case = parity.encoder_case(model, graph.width, rows)
        tokens, detail = parity.onnxruntime_runner(bundle.path / graph.file)(
            {name: value.numpy() for name, value in case.inputs.items()}
        )
        assert case.features.detail_ICHW is not None
        references = [case.features.tokens_BND, case.features.detail_ICHW]
        result = parity.compare([tokens, detail], references, seed=0, min_gap=case.min_gap)
        assert result.passed, (graph.file, result)
        for head in bundle.manifest.graphs:
            if head.task is None or head.size_hw != size_hw or head.width != graph.width:
                continue
            mine = [row for row, (task, _) in enumerate(rows) if task == head.task]
            inputs = {"tokens": case.features.tokens_BND[mine]}
            if not config.task(head.task).pooled:
                inputs["detail"] = case.features.detail_ICHW[case.inputs["image_index"][mine]]
            run = parity.onnxruntime_runner(bundle.path / head.file)
            answer = run({name: value.numpy() for name, value in inputs.items()})
            reference = parity.head_reference(model, head.task, head.width, inputs["tokens"], inputs.get("detail"))
            result = parity.compare(answer, [reference], seed=0, min_gap=None)
            assert result.passed, (head.file, result)


def test_micro_model_agrees_at_every_task_width_and_top_k(bundle: Bundle, model: MultiTaskModel) -> None:
    _check_everything(bundle, model, (32, 32))


def test_model_agrees_at_every_size(sized_bundle: Bundle, two_task_model: MultiTaskModel) -> None:
    _check_everything(sized_bundle, two_task_model.resized((32, 48)), (32, 48))


def test_dense_model_agrees_at_every_width(tmp_path: Path) -> None:
    dense = random_model("vit_micro", TASKS[:1])
    export_model(dense, {}, tmp_path / "dense", check=True)
    _check_everything(Bundle.open(tmp_path / "dense"), dense, (32, 32))


@pytest.mark.slow
def test_m3vit_tiny_agrees_at_every_task_width_and_top_k(tmp_path: Path) -> None:
    tiny = random_model("m3vit_tiny", image_hw=(64, 96))
    export_model(tiny, {}, tmp_path / "tiny", check=False)
    _check_everything(Bundle.open(tmp_path / "tiny"), tiny, (64, 96))


def test_bundled_model_agrees_at_every_task_width_and_top_k() -> None:
    bundle = Bundle.open(bundled_path())
    model, _ = model_from_bundle(bundle)
    _check_everything(bundle, model, model.config.image_hw)


def test_rows_of_one_image_equal_rows_of_its_copies(bundle: Bundle, model: MultiTaskModel) -> None:
    """The shared prefix is exact: same numbers whether an image comes once with many rows or once per row."""
    graph = bundle.graph("encoder", (32, 32), 1.0, None)
    run = parity.onnxruntime_runner(bundle.path / graph.file)
    case = parity.encoder_case(model, 1.0, [(task, 2) for task in model.config.task_names])
    inputs = {name: value.numpy() for name, value in case.inputs.items()}
    rows = len(case.tasks)
    once = run({**inputs, "image": inputs["image"][:1], "image_index": np.zeros(rows, np.int64)})[0]
    copies = run({**inputs, "image": inputs["image"][:1].repeat(rows, axis=0)})[0]
    np.testing.assert_allclose(once, copies, atol=1e-5)


def test_every_expert_of_the_checkpoint_is_reachable_in_the_graph(bundle: Bundle, model: MultiTaskModel) -> None:
    """A router that wants nothing but expert e gets expert e's answer, and every expert's answer is its own."""
    config = model.config
    graph = bundle.graph("encoder", (32, 32), 1.0, None)
    run = parity.onnxruntime_runner(bundle.path / graph.file)
    image, one = parity.example_image(model, 0), torch.tensor([1])
    shape = (1, len(config.moe_blocks), config.dim, config.experts)
    for level in range(len(config.moe_blocks)):
        answers = []
        for expert in range(config.experts):
            bias = torch.zeros(1, len(config.moe_blocks), config.experts)
            bias[0, :, 0], bias[0, level] = 20.0, 0.0
            bias[0, level, expert] = 20.0
            inputs = (image, torch.zeros(1, dtype=torch.long), one, torch.zeros(shape), bias)
            names = ("image", "image_index", "top_k", "router", "router_bias")
            answers.append(run(dict(zip(names, (value.numpy() for value in inputs))))[0])
            with torch.no_grad():
                reference = model.encoder(*inputs).tokens_BND.numpy()
            np.testing.assert_allclose(answers[-1], reference, atol=1e-4)
        for first, second in product(range(config.experts), repeat=2):
            assert first == second or np.abs(answers[first] - answers[second]).max() > 1e-2, (level, first, second)


def test_model_reloaded_from_a_bundle_is_the_model(sized_bundle: Bundle, two_task_model: MultiTaskModel) -> None:
    for size in sized_bundle.manifest.sizes:
        reloaded, metadata = model_from_bundle(sized_bundle, size)
        expected = two_task_model.resized(size).state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in reloaded.state_dict().items())
        assert metadata["preprocessing"]["fit"] == "letterbox"


def test_compare_refuses_nan_shape_and_error_beyond_the_tolerance() -> None:
    reference = torch.full((2, 3), 5.0)
    assert parity.compare([np.full((2, 3), 5.0004)], [reference], seed=0, min_gap=None).passed
    assert not parity.compare([np.full((2, 3), 5.0006)], [reference], seed=0, min_gap=None).passed
    assert not parity.compare([np.full((2, 3), np.nan)], [reference], seed=0, min_gap=None).passed
    assert not parity.compare([np.full((3, 2), 5.0)], [reference], seed=0, min_gap=None).passed


@pytest.mark.parametrize("top_k", [1, 2])
def test_routing_gap_is_that_between_the_last_visited_and_the_next(top_k: int) -> None:
    from slimpath.models.moe import Routing

    logits = torch.log(torch.tensor([[[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]]]))
    routing = Routing(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), logits.exp(), logits)
    expected = [np.log(0.4 / 0.3), np.log(0.3 / 0.2)][top_k - 1]
    assert parity.routing_gap(routing, top_k) == pytest.approx(expected, abs=1e-6)
