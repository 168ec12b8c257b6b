"""Expert paths: the right experts are kept, and a bundle confined to them computes what its network computes."""

from __future__ import annotations

import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpath.export import Calibration, ExportError, export_model, export_standalone, parity
from slimpath.export.coverage import choose_experts, find_expert_paths, restrict_routers, visited_mass, watch_routers
from slimpath.export.reload import model_from_bundle
from slimpath.models import MultiTaskModel, save_checkpoint
from slimpath.models.moe import route
from slimpath.runtime import Bundle, Engine
from slimpath.runtime.bundles.preprocessing import Preprocessing
from slimpath.runtime.footprint.residency import EXPERT_TENSOR, WeightMap, reachable_experts
from slimpath.runtime.running.routing import Routers

from .conftest import TASKS, random_model

EXPERTS, TOP_K, WIDTHS = 6, 2, [0.5, 1.0]
PREPROCESSING = Preprocessing("stretch", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
METADATA = {"preprocessing": {"fit": "stretch", "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}}


def images(count: int = 6) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [np.kron(rng.integers(0, 256, (4, 5, 3)), np.ones((9, 8, 1))).astype(np.uint8) for _ in range(count)]


def calibration(count: int = 6) -> Calibration:
    return Calibration(images(count), "made up")


@pytest.fixture(scope="module")
def model() -> MultiTaskModel:
    """Two tasks whose routers have clear favourites."""
    model = random_model("m3vit_micro", (TASKS[1], TASKS[-1]), seed=3, experts=EXPERTS)
    with torch.no_grad():
        for number, task in enumerate(model.config.task_names):
            for level, bias in enumerate(model.routers[task].bias):  # type: ignore[union-attr]
                bias.copy_(torch.linspace(3, -3, EXPERTS).roll(2 * number + level))
    return model


@pytest.fixture(scope="module")
def confined(model: MultiTaskModel, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("bundles") / "confined"
    options = {"widths": [1.0], "calibration": calibration(), "expert_coverage": 0.8}
    export_model(model, METADATA, out, name="confined", **options)  # type: ignore[arg-type]
    return Bundle.open(out, verify=True)


shares = st.lists(st.floats(0.0, 1.0), min_size=5, max_size=5).filter(lambda values: sum(values) > 1e-3)


@settings(deadline=None)
@given(st.lists(shares, min_size=1, max_size=3), st.floats(0.05, 1.0), st.integers(1, 5))
def test_kept_experts_cover_what_was_asked_and_no_smaller_set_does(
    settings_of: list[list[float]], coverage: float, at_least: int
) -> None:
    mass_SE = np.array([np.array(values) / np.sum(values) for values in settings_of])
    block = choose_experts(mass_SE, mass_SE, coverage, at_least)
    kept = list(block.kept)
    assert kept == sorted(set(kept)) and len(kept) >= at_least
    assert mass_SE[:, kept].sum(axis=1).min() >= coverage - 1e-6
    assert block.covered == pytest.approx(mass_SE[:, kept].sum(axis=1).min(), abs=1e-6)
    assert sum(block.mass) == pytest.approx(1.0, abs=1e-5)
    if len(mass_SE) == 1 and len(kept) > at_least and coverage < 1:
        most = max(mass_SE[0, list(few)].sum() for few in combinations(range(5), len(kept) - 1))
        assert most < coverage


def test_coverage_of_one_leaves_no_expert_out() -> None:
    """Not even one that no calibration image needed: another image may."""
    mass = np.array([[0.7, 0.3, 0.0, 0.0]])
    assert choose_experts(mass, mass, 1.0, 2).kept == (0, 1, 2, 3)
    assert choose_experts(mass, mass, 0.9999, 2).kept == (0, 1)


def test_mass_counts_visits_only_and_nobody_gets_none() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens, router = torch.randn(2, 7, 4, generator=generator), torch.randn(2, 4, 5, generator=generator)
    routing = route(tokens, router, torch.zeros(2, 5), torch.tensor([3, 1]), 3, "softmax_topk")
    expected = np.zeros((2, 5))
    for row, visits in enumerate([3, 1]):
        for probability in routing.probability_BNE[row].double().numpy():
            best = np.argsort(-probability)[:visits]
            expected[row, best] += probability[best]
    np.testing.assert_allclose(visited_mass(routing).numpy(), expected, rtol=1e-6)


def test_every_image_counts_the_same_in_calls_of_any_size(model: MultiTaskModel) -> None:
    options = {"sizes": [(32, 32)], "widths": [1.0]}
    together = watch_routers(model, images(5), PREPROCESSING, **options)  # type: ignore[arg-type]
    alone = [watch_routers(model, [image], PREPROCESSING, **options) for image in images(5)]  # type: ignore[arg-type]
    for task, use in together.items():
        assert use.mass_SLE.shape == (1, 2, EXPERTS)
        np.testing.assert_allclose(use.mass_SLE.sum(axis=2), 1.0)
        mean = np.mean([one[task].probability_SLE for one in alone], axis=0)
        np.testing.assert_allclose(use.probability_SLE, mean, atol=1e-6)
    assert not np.allclose(together["depth"].mass_SLE, together["scene"].mass_SLE)


def test_one_set_of_experts_serves_every_size_and_width(model: MultiTaskModel) -> None:
    sizes = [(32, 32), (32, 48)]
    used = watch_routers(model, images(), PREPROCESSING, sizes=sizes, widths=WIDTHS)
    paths = find_expert_paths(model, calibration(), 0.8, PREPROCESSING, sizes=sizes, widths=WIDTHS)
    for task, path in paths.items():
        assert used[task].mass_SLE.shape == (4, 2, EXPERTS)
        for level, block in enumerate(path.blocks):
            assert used[task].mass_SLE[:, level, list(block.kept)].sum(axis=1).min() >= 0.8 - 1e-6
            assert TOP_K <= len(block.kept) < EXPERTS


def test_model_that_was_passed_in_is_left_as_it_was(model: MultiTaskModel) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    paths = find_expert_paths(model, calibration(2), 0.8, PREPROCESSING, sizes=[(32, 32)], widths=[1.0])
    clone = restrict_routers(model, paths)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    differing = {name for name, value in clone.state_dict().items() if not torch.equal(value, before[name])}
    assert differing == {f"routers.{task}.bias.{level}" for task in model.config.task_names for level in range(2)}


@pytest.mark.parametrize("coverage", [0.0, -0.5, 1.5, float("nan")])
def test_coverage_out_of_range_is_refused(model: MultiTaskModel, coverage: float) -> None:
    with pytest.raises(ExportError, match="expert coverage must lie above 0 and at most at 1, got"):
        find_expert_paths(model, calibration(1), coverage, PREPROCESSING, sizes=[(32, 32)], widths=[1.0])


def test_coverage_without_images_or_experts_is_refused_and_leaves_nothing_behind(
    model: MultiTaskModel, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match="measured on calibration images, got none"):
        export_model(model, {}, tmp_path / "out", expert_coverage=0.9)
    with pytest.raises(ExportError, match="measured on calibration images, got none"):
        export_model(model, {}, tmp_path / "out", calibration=Calibration([], "empty"), expert_coverage=0.9)
    with pytest.raises(ExportError, match="no experts"):
        export_model(random_model("vit_micro", TASKS[:1]), {}, tmp_path / "out", calibration=calibration())
    assert list(tmp_path.iterdir()) == []


def test_bundle_says_what_was_kept_and_its_routers_know_nothing_else(confined: Bundle, model: MultiTaskModel) -> None:
    encoder = confined.manifest.encoder
    for task in confined.manifest.task_names:
        paths = encoder.routers[task].paths
        assert paths is not None and (paths.coverage, paths.images, paths.source) == (0.8, 6, "made up")
        bias, opened = (Routers(confined, all_experts=every).stack([task])[1][0] for every in (False, True))
        for level, block in enumerate(paths.blocks):
            assert TOP_K <= len(block.kept) < EXPERTS and block.covered >= 0.8 and 0 < block.probability < 1
            left_out = [expert for expert in range(EXPERTS) if expert not in block.kept]
            assert np.isneginf(bias[level, left_out]).all()
            original = model.routers[task].bias[level].detach().numpy()  # type: ignore[union-attr, index]
            np.testing.assert_array_equal(opened[level], original)
            np.testing.assert_array_equal(bias[level, list(block.kept)], original[list(block.kept)])


def test_every_graph_of_a_confined_bundle_passed_its_parity_check(confined: Bundle, model: MultiTaskModel) -> None:
    """The check ran on the confined network: it is that of the confined network, not of the one passed in."""
    assert all(graph.parity is not None and graph.parity.passed for graph in confined.manifest.graphs)
    reloaded, _ = model_from_bundle(confined)
    rows = [(task, top_k) for task in model.config.task_names for top_k in (1, 2)]
    case = parity.encoder_case(reloaded, 1.0, rows)
    graph = confined.graph("encoder", (32, 32), 1.0)
    answers = parity.onnxruntime_runner(confined.path / graph.file)(
        {name: value.numpy() for name, value in case.inputs.items()}
    )
    references = [case.features.tokens_BND, case.features.detail_ICHW]
    result = parity.compare(answers, [r for r in references if r is not None], seed=0, min_gap=None)
    assert result.passed, result
    with torch.no_grad():
        plain = model.encode(case.inputs["image"], case.inputs["image_index"], case.tasks, case.inputs["top_k"])
    assert (plain.tokens_BND - case.features.tokens_BND).abs().max() > 1e-2


def test_openvino_gives_the_same_with_experts_ruled_out(confined: Bundle) -> None:
    openvino = pytest.importorskip("openvino")
    reloaded, _ = model_from_bundle(confined)
    case = parity.encoder_case(reloaded, 1.0, parity.default_rows(reloaded))
    core, file = openvino.Core(), confined.path / confined.graph("encoder", (32, 32), 1.0).file
    compiled = core.compile_model(core.read_model(str(file)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    answer = compiled({name: value.numpy() for name, value in case.inputs.items()})
    references = [value for value in (case.features.tokens_BND, case.features.detail_ICHW) if value is not None]
    assert parity.compare([answer[n] for n in range(len(references))], references, seed=0, min_gap=None).passed


def test_no_answer_depends_on_an_expert_that_the_task_cannot_reach(confined: Bundle, tmp_path: Path) -> None:
    """Bit for bit the same with NaN in their place, for every task, top_k and picture."""
    blocks = confined.manifest.encoder.moe_blocks
    for task in confined.manifest.task_names:
        copy = tmp_path / task
        shutil.copytree(confined.path, copy)
        kept = dict(zip(blocks, reachable_experts(confined.manifest, task)))
        with (copy / "weights.safetensors").open("r+b") as file:
            for name, entry in confined.weights.header.tensors.items():
                found = EXPERT_TENSOR.fullmatch(name)
                if found and int(found[2]) not in kept[int(found[1])]:
                    file.seek(entry.offset)
                    file.write(np.full(entry.nbytes // 4, np.nan, np.float32).tobytes())
        graph = confined.graph("encoder", (32, 32), 1.0).file
        router, bias = Routers(confined).stack([task] * 4)
        for seed in range(3):
            inputs = {
                "image": np.random.default_rng(seed).standard_normal((2, 3, 32, 32)).astype(np.float32),
                "image_index": np.array([0, 1, 0, 1]), "top_k": np.array([1, 1, 2, 2]),
                "router": router, "router_bias": bias,
            }  # fmt: skip
            clean, poisoned = (parity.onnxruntime_runner(path / graph)(inputs) for path in (confined.path, copy))
            np.testing.assert_array_equal(clean[0], poisoned[0])
            assert np.isfinite(poisoned[0]).all()


def test_engine_needs_the_bytes_of_the_kept_experts_only(confined: Bundle) -> None:
    weights = WeightMap(confined)
    config = confined.manifest.encoder
    expert = 4 * (2 * config.dim * config.dim + config.dim + config.dim)  # hidden = dim: up, down and their biases
    for task in confined.manifest.task_names:
        needs = weights.task(task)
        assert needs.experts == sum(needs.kept) * expert
    assert weights.residency().all_experts == len(config.moe_blocks) * EXPERTS * expert
    with Engine.load(confined, threads=1) as engine:
        assert np.isfinite(engine(images(1)[0])["depth"]).all()


def test_calibration_alone_measures_and_leaves_none_out(model: MultiTaskModel) -> None:
    paths = find_expert_paths(model, calibration(2), 1.0, PREPROCESSING, sizes=[(32, 32)], widths=[1.0])
    for path in paths.values():
        assert path.open_biases == ()
        assert all(block.kept == tuple(range(EXPERTS)) for block in path.blocks)
        assert all(block.covered == block.probability == 1.0 for block in path.blocks)


def test_stand_alone_file_of_a_confined_network_passes_its_check(confined: Bundle, tmp_path: Path) -> None:
    reloaded, metadata = model_from_bundle(confined)
    checkpoint = save_checkpoint(tmp_path / "confined.safetensors", reloaded, metadata)
    report = export_standalone(checkpoint, tmp_path / "depth.onnx", tasks=["depth"])
    assert report.passed and report.worst_error is not None
