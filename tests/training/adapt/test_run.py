"""From a network at full width to one whose narrow widths answer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slimpath.export import export_bundle
from slimpath.models import HeadConfig, MultiTaskModel, load_checkpoint, save_checkpoint
from slimpath.runtime import Bundle, Engine
from slimpath.tests.training.adapt.conftest import TASKS, full_width
from slimpath.tests.training.conftest import PLAIN_VIEWS, ToyRooms
from slimpath.training.adapt import AdaptConfig, Adapted, AdaptError, adapt
from slimpath.training.adapt.network import load_original
from slimpath.training.adapt.pictures import AdaptData
from slimpath.training.errors import ResumeError

HALVES = (0.5, 1.0)
QUICK = AdaptConfig(
    widths=HALVES, calibration=4, steps=40, images=2, lr=3e-3, precision="fp32", augment=PLAIN_VIEWS
)  # fmt: skip
DATA = AdaptData("toy", ToyRooms(12), ToyRooms(4), labelled=False)
METADATA = {
    "licence": "some licence",
    "provenance": {"converted_by": "slimpath convert"},
    "preprocessing": {"fit": "stretch", "mean": [0.5] * 3, "std": [0.5] * 3, "pad_rgb": [0, 0, 0]},
}
LINEAR = HeadConfig("label", "image_classes", 3, decoder="linear")
SETR = HeadConfig("depth", "depth", 1, decoder="setr_pup", stream=(8,), log_depth=False)


class Blind(ToyRooms):
    """Rooms whose depth nobody measured."""

    def __getitem__(self, index: int, /) -> dict[str, Any]:
        sample = super().__getitem__(index)
        return {**sample, "depth": np.zeros_like(sample["depth"])}


def adapted(folder: Path, model: MultiTaskModel, data: AdaptData = DATA, **changes: Any) -> Adapted:
    path = folder / "full.safetensors"
    if not path.exists():
        save_checkpoint(path, model, METADATA)
    config = replace(QUICK, **changes)
    return adapt(load_original(path), data, folder / "out", config, progress=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("adapted")


@pytest.fixture(scope="module")
def done(folder: Path) -> Adapted:
    """Experts, four tasks, no labels."""
    return adapted(folder, full_width("m3vit_micro", image_hw=(32, 32)))


def test_narrow_width_comes_nearer_to_the_original_than_its_cut(done: Adapted, folder: Path) -> None:
    assert done.finished and [(row.task, row.width) for row in done.rows] == [
        (task.name, width) for task in TASKS for width in HALVES
    ]
    assert not done.labelled
    assert done.checkpoint is not None
    before, _ = load_checkpoint(folder / "full.safetensors")
    after, _ = load_checkpoint(done.checkpoint)
    image = torch.from_numpy(DATA.held[0]["image"]).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        whole = before(image, ["depth"]).raw["depth"]
        lost = [float((net(image, ["depth"], width=0.5).raw["depth"] - whole).abs().mean()) for net in (before, after)]
    assert lost[1] < 0.7 * lost[0]
    depth = next(row for row in done.rows if (row.task, row.width) == ("depth", 0.5))
    assert depth.after.value < depth.before.value and depth.gain.value > 0


def test_original_judges_itself_without_fault_at_full_width(done: Adapted) -> None:
    whole = {row.task: row for row in done.rows if row.width == 1}
    depth, scene = whole["depth"], whole["scene"]
    assert depth.before.value == pytest.approx(0, abs=1e-6) and scene.before.value == 1


def test_config_offers_the_widths_and_metadata_says_where_it_comes_from(done: Adapted, folder: Path) -> None:
    assert done.checkpoint is not None
    model, metadata = load_checkpoint(done.checkpoint)
    assert model.config.widths == HALVES and model.config.router_noise == 1.0
    assert model.config.task_names == tuple(task.name for task in TASKS)
    assert metadata["licence"] == "some licence" and metadata["preprocessing"] == METADATA["preprocessing"]
    provenance = metadata["provenance"]
    assert provenance["adapted_by"] == "slimpath adapt"
    assert provenance["began_as"] == METADATA["provenance"] and provenance["settings"]["steps"] == 40
    assert provenance["checkpoint"]["file"] == "full.safetensors" and len(provenance["checkpoint"]["sha256"]) == 64


def test_report_and_settings_lie_beside_the_checkpoint(done: Adapted, folder: Path) -> None:
    report = json.loads((folder / "out" / "report.json").read_text())
    assert report["settings"]["importance"] == "fisher" and report["training"]["distill_weight"] == 1
    assert report["data"] == {"name": "toy", "labels": False, "trained": 12, "held_out": 4, "names_sha256": None}
    assert [row["after"]["value"] for row in report["widths"]] == [row.after.value for row in done.rows]
    assert str(folder) not in json.dumps(report)
    assert {"adapt.json", "config.json", "log.csv"} <= {path.name for path in (folder / "out").iterdir()}


def test_bundle_of_the_result_has_all_widths_and_that_of_the_original_one(tmp_path: Path) -> None:
    model = full_width("vit_micro", (LINEAR,), depth=1, image_hw=(32, 32), detail_channels=0)
    done = adapted(tmp_path, model, steps=1)
    assert done.checkpoint is not None
    for file, widths in ((done.checkpoint, HALVES), (tmp_path / "full.safetensors", (1.0,))):
        export_bundle(file, tmp_path / file.stem)
        assert Bundle.open(tmp_path / file.stem).manifest.widths == widths
    with Engine.load(tmp_path / "model", threads=1) as engine:
        assert engine(DATA.held[0]["image"], "label", budget="width=0.5")["label"].shape == (3,)


def test_finished_adaptation_is_read_again_and_another_one_refused(done: Adapted, folder: Path) -> None:
    assert done.checkpoint is not None
    before = load_checkpoint(done.checkpoint)[0].state_dict()
    again = adapted(folder, full_width())
    assert again.rows == done.rows
    after = load_checkpoint(done.checkpoint)[0].state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    with pytest.raises(ResumeError, match=r"holds another adaptation \(other settings\)"):
        adapted(folder, full_width(), lr=1e-5)
    with pytest.raises(ResumeError, match=r"holds another adaptation \(other data\)"):
        adapted(folder, full_width(), replace(DATA, names_sha256="of as many others"))


def test_training_is_kept_where_measuring_fails_and_a_repeat_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, out = full_width("vit_micro", TASKS[1:2], image_hw=(32, 32)), tmp_path / "out"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("slimpath.training.adapt.run.measure", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        adapted(tmp_path, model, steps=2)
    kept, _ = load_checkpoint(out / "model.safetensors")
    assert kept.config.widths == HALVES and not (out / "report.json").exists()
    done = adapted(tmp_path, model, steps=2)
    assert done.finished and len(done.rows) == 2 and (out / "report.json").is_file()
    again = load_checkpoint(out / "model.safetensors")[0].state_dict()
    assert all(torch.equal(value, again[name]) for name, value in kept.state_dict().items())


def test_labels_that_cannot_judge_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    model = full_width("vit_micro", TASKS[1:2], image_hw=(32, 32))
    unlabelled = replace(DATA, held=Blind(4), labelled=True)
    with pytest.raises(AdaptError, match="no pixel of the 4 held-out pictures has a label of depth"):
        adapted(tmp_path, model, unlabelled, steps=1)
    assert not (tmp_path / "out").exists()


def test_interrupted_adaptation_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    model = full_width("vit_micro", (TASKS[1], LINEAR), image_hw=(32, 32))
    whole = adapted(tmp_path, model, steps=4)
    other = tmp_path / "other"
    config = replace(QUICK, steps=4)
    original = load_original(tmp_path / "full.safetensors")
    first = adapt(original, DATA, other, config, minutes=0, progress=False)
    assert (first.step, first.checkpoint, first.rows) == (1, None, ())
    assert not (other / "model.safetensors").exists() and not (other / "report.json").exists()
    rest = adapt(original, DATA, other, config, progress=False)
    assert rest.rows == whole.rows and whole.checkpoint is not None and rest.checkpoint is not None
    one, two = (load_checkpoint(file)[0].state_dict() for file in (whole.checkpoint, rest.checkpoint))
    assert all(torch.equal(value, two[name]) for name, value in one.items())


def test_labels_teach_and_judge(tmp_path: Path) -> None:
    model = full_width("vit_micro", TASKS, image_hw=(32, 32))
    done = adapted(tmp_path, model, replace(DATA, labelled=True), steps=60)
    assert done.labelled
    semseg = {row.width: row for row in done.rows if row.task == "semseg"}
    # Random weights answer badly at any width: what is better afterwards came from the labels.
    assert semseg[1.0].after.value > semseg[1.0].before.value + 0.05
    assert semseg[0.5].after.value > semseg[0.5].before.value + 0.05


def test_native_decoders_learn_what_published_ones_say(tmp_path: Path) -> None:
    """In metres: the published one gives them as they are, the native one learns their logarithms."""
    model = full_width("vit_micro", (SETR, LINEAR), image_hw=(32, 32))
    with torch.no_grad():
        model.heads["depth"].out.bias += 3.0  # type: ignore[union-attr, operator]
    done = adapted(tmp_path, model, native_decoders=True, steps=60, lr=1e-2)
    assert done.checkpoint is not None
    made, _ = load_checkpoint(done.checkpoint)
    assert [head.decoder for head in made.config.tasks] == ["native", "native"]
    depth = {row.width: row for row in done.rows if row.task == "depth"}
    assert depth[1.0].after.value < 0.5 and depth[0.5].after.value < 0.6  # m; a fresh one says 1 m, the published 3 m


def test_swin_with_adapters_and_foreign_task_names_goes_through(tmp_path: Path) -> None:
    hrnet = HeadConfig("parts", "classes", 3, decoder="hrnet", stream=(4, 4, 4, 4))
    model = full_width("mtlora_micro", (hrnet, HeadConfig("label", "image_classes", 3)))
    data = AdaptData("toy", ToyRooms(4, (64, 64)), ToyRooms(2, (64, 64)), labelled=False)
    done = adapted(tmp_path, model, data, steps=2)
    assert done.checkpoint is not None
    made, _ = load_checkpoint(done.checkpoint)
    assert made.config.task_names == ("parts", "label") and made.config.widths == HALVES
    assert [row.metric for row in done.rows[::2]] == ["mIoU", "accuracy"]


def test_settings_that_cannot_work_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for changes, message in (
        ({"widths": (1.0,)}, "at least one below 1"),
        ({"importance": "luck"}, "importance must be one of fisher, magnitude, none"),
        ({"steps": 0}, "at least 1"),
        ({"lr": 0.0}, "lr above 0"),
        ({"distill_weight": 1.5}, "distill_weight from 0 to 1"),
        ({"device": "cuda"}, "device must be cpu, or cuda where torch finds one, got 'cuda'"),
    ):
        with pytest.raises(AdaptError, match=message):
            AdaptConfig(**changes)  # type: ignore[arg-type]
    assert AdaptConfig(widths=(0.5,)).widths == HALVES
