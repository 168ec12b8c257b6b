"""From samples to a pack that an engine answers with."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from slimpath.export import export_model
from slimpath.export.errors import ExportError, ParityError, TargetExistsError
from slimpath.export.pack import export_pack
from slimpath.models import HeadConfig, MultiTaskModel
from slimpath.runtime import Bundle, Engine, Pack, PackError
from slimpath.runtime.bundles.manifest import MANIFEST_FILE, encode_manifest
from slimpath.runtime.bundles.preprocessing import Preprocessing
from slimpath.runtime.packs.extend import extend
from slimpath.runtime.request import Request
from slimpath.tests.export.conftest import TASKS, random_model
from slimpath.tests.training.packs.conftest import BLOBS, ToyBlobs, blob_samples
from slimpath.training.augment import AugmentConfig
from slimpath.training.errors import ConfigError
from slimpath.training.packs.learning import with_task
from slimpath.training.packs.run import AddedTask, add_task, room_samples, with_room_views
from slimpath.training.packs.trainer import PackConfig
from slimpath.training.placed import Placed

PLAIN_VIEWS = AugmentConfig(letterbox=0, crop=0, photometric=0)
QUICK = PackConfig(steps=30, batch=3, warmup_steps=4, lr=8e-3, precision="fp32", augment=PLAIN_VIEWS)
OLD = ["semseg", "scene"]


@pytest.fixture(scope="module")
def added(micro_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> AddedTask:
    return add_task(micro_bundle, blob_samples(), tmp_path_factory.mktemp("packs") / "blobs", config=QUICK)


def test_the_new_task_is_better_than_answers_that_ignore_the_picture(added: AddedTask) -> None:
    widest = added.rows[-1]
    assert (widest.encoder_width, widest.metric) == (1.0, "mIoU")
    assert widest.gain.value > 0.2
    assert widest.accuracy.value > max(widest.constant, widest.pixel_mean)
    assert added.like == "semseg"


def test_old_tasks_answer_bit_identically_with_the_pack(added: AddedTask, micro_bundle: Path) -> None:
    """Alone, and in a batch with requests for the new task: every (encoder width, top_k)."""
    pictures = [ToyBlobs(50, 3)[number]["image"] for number in range(3)]
    with Engine.load(micro_bundle, threads=1, tier="packed") as engine:
        for budget in (None, "width=0.5", "top_k=1"):
            before = engine.run_batch([Request(picture, OLD, budget) for picture in pictures])
            engine.add_pack(added.pack.path)
            alone = engine.run_batch([Request(picture, OLD, budget) for picture in pictures])
            mixed = engine.run_batch([Request(picture, [*OLD, "blobs"], budget) for picture in pictures])
            engine.remove_pack("blobs")
            for old, new, other in zip(before, alone, mixed):
                assert all(np.array_equal(old[task], new[task]) for task in OLD)
                assert all(np.array_equal(old[task], other[task]) for task in OLD)


def test_the_pack_holds_the_new_task_alone_and_names_its_bundle(added: AddedTask, micro_bundle: Path) -> None:
    pack = Pack.open(added.pack.path, verify=True)
    assert pack.task == BLOBS
    prefixes = {name.split(".")[0] for name in pack.weights.names()}
    assert prefixes == {"routers", "heads"} and all(".blobs." in name for name in pack.weights.names())
    assert {path.name for path in added.pack.path.iterdir()} == {"pack.json", *pack.manifest.files}
    assert pack.manifest.provenance["began_from"] == "semseg"
    parameters = pack.manifest.parameters
    with_pack = sum(int(np.prod(pack.weights.header.tensors[name].shape)) for name in pack.weights.names())
    assert parameters.total == with_pack
    assert added.pack.worst_error < 1e-4


def test_the_planner_knows_the_measured_accuracies(added: AddedTask, micro_bundle: Path) -> None:
    bundle = extend(Bundle.open(micro_bundle), [Pack.open(added.pack.path)])
    found = {(a.encoder_width, a.decoder_width): a for a in bundle.manifest.accuracies if a.task == "blobs"}
    assert set(found) == {(0.5, 0.5), (1.0, 1.0)}
    with Engine.load(micro_bundle, packs=[added.pack.path]) as engine:
        assert engine.plan("blobs").accuracies["blobs"] == found[1.0, 1.0].value == added.rows[-1].accuracy.value


def test_a_bundle_that_prepares_pictures_otherwise_is_another_one(
    added: AddedTask, micro_bundle: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(micro_bundle, other)
    manifest = Bundle.open(other).manifest
    stretched = msgspec.structs.replace(manifest.preprocessing, fit="stretch")
    (other / MANIFEST_FILE).write_bytes(encode_manifest(msgspec.structs.replace(manifest, preprocessing=stretched)))
    with pytest.raises(PackError, match="trained for another bundle"):
        Engine.load(other, packs=[added.pack.path])


def test_a_place_or_name_that_is_taken_is_refused_before_anything_is_trained(
    micro_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slimpath.training.packs.run.PackTrainer", None)
    (tmp_path / "taken").mkdir()
    with pytest.raises(TargetExistsError):
        add_task(micro_bundle, blob_samples(), tmp_path / "taken")
    for name in ("größe", "_parts", "a" * 65):
        with pytest.raises(ConfigError, match="a task's name is a letter"):
            add_task(
                micro_bundle, replace(blob_samples(), task=msgspec.structs.replace(BLOBS, name=name)), tmp_path / "o"
            )
    samples = replace(blob_samples(), task=msgspec.structs.replace(BLOBS, name="semseg"))
    with pytest.raises(ConfigError, match="there is a task 'semseg' already"):
        add_task(micro_bundle, samples, tmp_path / "pack")


def test_a_head_unlike_the_network_leaves_nothing_behind(
    network: MultiTaskModel, micro_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grown = with_task(network, HeadConfig("blobs", "classes", 2))
    monkeypatch.setattr("slimpath.export.parity.TOLERANCE", -1.0)
    with pytest.raises(ParityError, match=r"head-blobs-64x64-w0\.5"):
        export_pack(grown, Bundle.open(micro_bundle), tmp_path / "pack", spec=BLOBS)
    assert not list(tmp_path.iterdir())


def test_a_description_that_the_network_does_not_have_is_refused(
    network: MultiTaskModel, micro_bundle: Path, tmp_path: Path
) -> None:
    grown = with_task(network, HeadConfig("blobs", "classes", 5))
    with pytest.raises(ExportError, match="described as classes with 2 channels"):
        export_pack(grown, Bundle.open(micro_bundle), tmp_path / "pack", spec=BLOBS)


def test_adapters_travel_in_the_pack(tmp_path: Path) -> None:
    model = random_model("m3vit_micro", TASKS[:1], adapter_blocks=(1,), adapter_rank=2, image_hw=(64, 64))
    export_model(model, {}, tmp_path / "base", widths=[1.0], check=False)
    made = add_task(tmp_path / "base", blob_samples(4, 1), tmp_path / "pack", config=replace(QUICK, steps=2))
    assert made.pack.parameters.adapters > 0
    picture = ToyBlobs(0, 1)[0]["image"]
    with Engine.load(tmp_path / "base", threads=1, tier="packed") as engine:
        before = engine(picture, "semseg")["semseg"]
        engine.add_pack(tmp_path / "pack")
        after = engine(picture, "semseg,blobs")
        assert np.array_equal(before, after["semseg"]) and after["blobs"].shape == (64, 64)


def test_a_moved_pack_is_as_good(added: AddedTask, micro_bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(added.pack.path, tmp_path / "copy")
    with Engine.load(micro_bundle, packs=[tmp_path / "copy"]) as engine:
        assert engine.tasks["blobs"] == BLOBS


def test_the_torch_backend_says_that_it_runs_no_packs(added: AddedTask, micro_bundle: Path) -> None:
    with pytest.raises(PackError, match=r"backend cannot run it: .*torch rebuilds networks") as caught:
        Engine.load(micro_bundle, backend="torch", packs=[added.pack.path])
    assert "onnxruntime" in caught.value.hint


def test_openvino_answers_the_new_task_too(added: AddedTask, micro_bundle: Path) -> None:
    pytest.importorskip("openvino")
    picture = ToyBlobs(0, 1)[0]["image"]
    packs = [added.pack.path]
    with (
        Engine.load(micro_bundle, threads=1, packs=packs) as ours,
        Engine.load(micro_bundle, threads=1, backend="openvino", tier="packed", packs=packs) as theirs,
    ):
        same = ours(picture, "blobs")["blobs"] == theirs(picture, "blobs")["blobs"]
    assert same.mean() > 0.95  # a tie in the routing may fall the other way


def test_samples_are_fitted_as_the_runtime_fits_pictures() -> None:
    letterbox = Preprocessing("letterbox", (0.5,) * 3, (0.5,) * 3, pad_rgb=(1, 2, 3))  # type: ignore[arg-type]
    sample = Placed(ToyBlobs(0, 1, (32, 64)), ("semseg",), (64, 64), letterbox)[0]
    assert sample["image"].shape == (64, 64, 3) and tuple(sample["image"][0, 0]) == (1, 2, 3)
    assert (sample["semseg"][:16] == 255).all() and (sample["semseg"][16:48] != 255).all()
    stretch = msgspec.structs.replace(letterbox, fit="stretch")
    stretched = Placed(ToyBlobs(0, 1, (32, 64)), ("semseg",), (64, 64), stretch)[0]
    assert not (stretched["semseg"] == 255).any()


def test_rooms_to_train_and_to_judge_on_are_others() -> None:
    samples = room_samples("layout", (32, 32), rooms=5, held=3)
    assert str(samples.trained) == "SynthRooms, seeds 1000000 to 1000004"
    assert str(samples.held) == "SynthRooms, seeds 10000000 to 10000002"
    with pytest.raises(ConfigError, match="at least 2 rooms"):
        room_samples("layout", (32, 32), rooms=1)


def test_heights_are_learnt_without_zoom() -> None:
    assert with_room_views(QUICK, "height").augment.crop == 0
    assert with_room_views(QUICK, "layout").augment.crop > 0
