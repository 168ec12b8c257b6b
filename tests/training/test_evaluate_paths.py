"""What leaving experts out costs: measured beside the bundle as it is, and stored with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("onnxscript", reason="exporting needs onnxscript")

import torch

from slimpath.export import Calibration, export_model
from slimpath.models import HeadConfig, build_preset
from slimpath.runtime import Bundle, Engine
from slimpath.runtime.bundles.manifest import MANIFEST_FILE, encode_manifest
from slimpath.tests.runtime.expert_bundle import SIDE, build_expert_bundle
from slimpath.training.eval_docs import write_docs_table
from slimpath.training.eval_runner import Configuration, Runner, configurations, without_paths
from slimpath.training.evaluate import evaluate_bundle


def opened_copy(folder: Path, out: Path) -> Path:
    """The same bundle, its routers' biases replaced by those that let every expert in."""
    manifest = Bundle.open(folder).manifest
    routers = {}
    for task, router in manifest.encoder.routers.items():
        assert router.paths is not None
        routers[task] = msgspec.structs.replace(router, biases=router.paths.open_biases, paths=None)
    out.mkdir()
    for file in folder.iterdir():
        (out / file.name).write_bytes(file.read_bytes())
    encoder = msgspec.structs.replace(manifest.encoder, routers=routers)
    (out / MANIFEST_FILE).write_bytes(encode_manifest(msgspec.structs.replace(manifest, encoder=encoder)))
    return out


def test_answers_with_all_experts_are_those_of_a_bundle_without_paths(tmp_path: Path):
    folder = build_expert_bundle(tmp_path / "confined", hidden=64)
    bundle = Bundle.open(folder)
    diagonal = configurations(bundle.manifest, ["left", "right"], grid=False)
    beside = without_paths(bundle.manifest, diagonal)
    assert beside == [replace(chosen, every_expert=True) for chosen in diagonal]
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8) for _ in range(3)]
    with Runner(bundle, [*diagonal, *beside]) as runner:
        answers = {answer.configuration: answer.values for answer in runner.answers(images)}
    assert answers.keys() == {*diagonal, *beside}
    for every, path in ((False, folder), (True, opened_copy(folder, tmp_path / "open"))):
        with Engine.load(path, threads=1) as engine:
            for chosen in diagonal:
                for image, value in zip(images, answers[replace(chosen, every_expert=every)], strict=True):
                    np.testing.assert_allclose(value, engine(image, tasks=chosen.task)[chosen.task], atol=1e-5)
    assert any(
        np.abs(a - b).max() > 1e-3 for c in diagonal for a, b in zip(answers[c], answers[replace(c, every_expert=True)])
    )


def test_bundle_without_paths_has_nothing_to_compare(tmp_path: Path):
    folder = opened_copy(build_expert_bundle(tmp_path / "confined", hidden=64), tmp_path / "open")
    manifest = Bundle.open(folder).manifest
    assert without_paths(manifest, [Configuration("left", 1.0, 2, 1.0)]) == []


def test_cost_of_every_task_is_measured_stored_and_shown(tmp_path: Path):
    torch.manual_seed(0)
    model = build_preset("m3vit_micro", (HeadConfig("depth", "depth", 1),), experts=6, top_k=2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "heads." in name or ".experts." in name or name.startswith("routers."):
                parameter.normal_(std=0.2)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    options = {"widths": [1.0], "check": False, "calibration": Calibration(list(images), "noise")}
    export_model(model.eval(), {}, tmp_path / "confined", expert_coverage=0.5, **options)  # type: ignore[arg-type]
    report = evaluate_bundle(
        tmp_path / "confined", scenes=3, samples_per_pixel=1, progress=False, workers=1, baseline_scenes=2,
        cache=tmp_path / "rooms", write=tmp_path / "measured",
    )  # fmt: skip
    (row,) = report.rows
    assert row.all_experts is not None and row.paths_gain is not None
    # Depth is an error in metres: lower is better, a gain is what the confined network has less of it.
    assert row.paths_gain.value == pytest.approx(row.all_experts.value - row.accuracy.value)
    assert row.accuracy.value != row.all_experts.value
    (point,) = Bundle.open(tmp_path / "measured").manifest.accuracies
    assert (point.value, point.all_experts) == (row.accuracy.value, row.all_experts.value)
    columns, (line,) = report.table()
    assert columns[-2:] == ["all experts", "gain over all experts"] and line[-2] == f"{row.all_experts.value:.4g}"
    page = write_docs_table(report, tmp_path / "docs" / "evaluation.md", command="slimpath eval").read_text()
    assert "gain over all experts** the difference" in page
    assert report.to_json()["rows"][0]["all_experts"]["value"] == row.all_experts.value
