"""From files to a file: what is written, how it exports and answers, and which settings are refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from slimpath.models import load_checkpoint
from slimpath.tests.training.merging.families import write_family
from slimpath.training.merging import METHODS, MergeConfig, MergeError, Source, merge_checkpoints

pytest.importorskip("onnxscript", reason="exporting needs onnxscript")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Source]]:
    base, tuned = write_family(tmp_path_factory.mktemp("files"), preset="vit_micro")
    return base, [Source(path) for path in tuned]


@pytest.mark.parametrize("method", ["task-arithmetic", "twin"])
def test_merged_model_exports_and_answers_as_the_network_does(
    files: tuple[Path, list[Source]], tmp_path: Path, method: str
):
    from slimpath.export import export_bundle
    from slimpath.runtime import Engine

    report = merge_checkpoints(*files, tmp_path / "merged.safetensors", MergeConfig(method, rank=4))
    export_bundle(report.checkpoint, tmp_path / "bundle", widths=[1.0])  # checks every graph against the network
    image = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    result = Engine.load(tmp_path / "bundle")(image)
    assert set(result) == {"semseg", "depth", "edge"}
    assert result["depth"].shape == (32, 32) and np.isfinite(result["depth"]).all()


def test_settings_lie_beside_the_result_and_inside_it(files: tuple[Path, list[Source]], tmp_path: Path):
    base, sources = files
    (tmp_path / "photos").mkdir()
    _picture(tmp_path / "photos" / "a.png")
    config, told = MergeConfig("adamerging", steps=2, images=1, seed=3), []
    report = merge_checkpoints(
        base,
        sources,
        tmp_path / "deep" / "merged.safetensors",
        config,
        data=str(tmp_path / "photos"),
        progress=lambda done, loss: told.append((done, math.isfinite(loss))),
    )
    assert told == [(1, True), (2, True)]
    document = json.loads(report.settings.read_text())
    assert document["merging"] == {**vars(config), "scale": 0.3}
    assert document["pictures"] == {"name": "photos/", "count": 1}
    assert [entry["tasks"] for entry in document["fine_tunes"]] == [["semseg"], ["depth"], ["edge"]]
    model, metadata = load_checkpoint(report.checkpoint)
    assert set(document["coefficients"]) == {name for name in model.state_dict() if name.startswith("encoder.")}
    assert metadata["licence"] == "Apache-2.0"
    assert metadata["provenance"]["base"] == document["base"] == {"file": "base.safetensors", "sha256": _sha(base)}
    assert document["sha256"] == _sha(report.checkpoint)
    assert str(tmp_path) not in report.settings.read_text() + json.dumps(metadata)
    assert report.tasks == ("semseg", "depth", "edge") and report.data == "photos/"
    assert all(0.05 < share < 0.2 for share in report.lengths.values())  # noise of a tenth was added
    assert np.allclose(np.diagonal(report.cosines), 1)


def test_licences_of_all_fine_tunes_hold(files: tuple[Path, list[Source]], tmp_path: Path):
    from slimpath.models import save_checkpoint

    model, metadata = load_checkpoint(files[1][1].path)
    other = save_checkpoint(tmp_path / "depth.safetensors", model, {**metadata, "licence": "MIT"})
    report = merge_checkpoints(
        files[0], [files[1][0], Source(other)], tmp_path / "merged.safetensors", MergeConfig("ties")
    )
    assert load_checkpoint(report.checkpoint)[1]["licence"] == "Apache-2.0 AND MIT"


def test_same_inputs_give_the_same_numbers_and_words(files: tuple[Path, list[Source]], tmp_path: Path):
    reports = [
        merge_checkpoints(*files, tmp_path / name, MergeConfig("ties")) for name in ("a.safetensors", "b.safetensors")
    ]
    (first, said), (second, said_too) = (load_checkpoint(report.checkpoint) for report in reports)
    assert said == said_too
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


@pytest.mark.parametrize("method", [method for method in METHODS if method != "atlas"])  # rooms have other classes
def test_no_method_touches_the_random_state(files: tuple[Path, list[Source]], tmp_path: Path, method: str):
    before = torch.get_rng_state()
    _picture(tmp_path / "a.png")
    config = MergeConfig(method, steps=1, images=1)
    merge_checkpoints(*files, tmp_path / "merged.safetensors", config, data=str(tmp_path))
    assert torch.equal(torch.get_rng_state(), before)


def test_result_is_a_safetensors_file_and_none_of_the_inputs(files: tuple[Path, list[Source]], tmp_path: Path):
    base, sources = files
    kept = base.read_bytes()
    with pytest.raises(MergeError, match="one of the checkpoints that are merged"):
        merge_checkpoints(base, sources, base, MergeConfig())
    with pytest.raises(MergeError, match=r"must be a \.safetensors file, got .*merged\.pt"):
        merge_checkpoints(base, sources, tmp_path / "merged.pt", MergeConfig())
    assert base.read_bytes() == kept and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "soup"}, "method must be one of task-arithmetic, ties, adamerging, atlas, twin, got 'soup'"),
        ({"regression": "mse"}, "regression must be one of fine-tune, none"),
        ({"exclusive": "all"}, "exclusive must be one of adapters, static"),
        ({"scale": math.nan}, "scale must be a finite number"),
        ({"keep": 0.0}, r"keep must be a share in \(0, 1\], got 0"),
        ({"keep": 1.5}, r"keep must be a share in \(0, 1\], got 1.5"),
        ({"rank": 0}, "rank must be at least 1"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"images": 0}, "images must be at least 1"),
        ({"lr": 0.0}, "lr must be a number above 0"),
        ({"lr": math.inf}, "lr must be a number above 0"),
        ({"weight_decay": -1.0}, "weight_decay must not be negative"),
        ({"grad_clip": 0.0}, "grad_clip be above 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict, message: str):
    with pytest.raises(MergeError, match=message):
        MergeConfig(**settings)


def _picture(path: Path) -> None:
    import cv2

    assert cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8))


def _sha(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()
