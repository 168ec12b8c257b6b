"""Expert paths on the command line: measured at export, shown by `slimpath inspect`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slimpath.cli import calibration
from slimpath.cli.calibration import load_calibration
from slimpath.cli.errors import InputError
from slimpath.tests.runtime.expert_bundle import EXPERTS, build_expert_bundle

EXPERT = 2 * 32 * 4096 * 4


@pytest.fixture
def confined(tmp_path: Path) -> Path:
    return build_expert_bundle(tmp_path / "confined")


def test_inspect_shows_the_experts_of_every_task(slimpath: Callable[..., Any], confined: Path):
    done = slimpath("inspect", confined)
    assert done.exit_code == 0, done.output
    assert f"experts that a task can reach, of {EXPERTS} a block (coverage 0.9 on 4 images of made up)" in done.stdout
    line = next(line for line in done.stdout.splitlines() if line.strip().startswith("left") and "%" in line)
    assert line.split()[:4] == ["left", "2", "1", "0.5"]  # experts of its one block, covered, share of the softmax


def test_inspect_tells_the_bytes_that_every_task_needs(slimpath: Callable[..., Any], confined: Path):
    document = json.loads(slimpath("inspect", confined, "--json").stdout)
    needs = document["needs"]
    assert needs["tasks"]["left"]["experts"] == 2 * EXPERT and needs["tasks"]["left"]["kept"] == [2]
    assert needs["all_experts"] == EXPERTS * EXPERT
    assert document["encoder"]["routers"]["right"]["paths"]["blocks"][0]["kept"] == [2, 3]


def test_inspect_says_where_nobody_measured(slimpath: Callable[..., Any], tiny_bundle: Path):
    assert "unmeasured" in next(
        line
        for line in slimpath("inspect", tiny_bundle).stdout.splitlines()
        if line.strip().startswith("depth") and "%" in line
    )


def test_folder_is_read_picture_by_picture(photos: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("torch", reason="exporting needs torch")
    found = load_calibration(str(photos))
    assert (len(found.images), found.source) == (2, "photos/")
    assert {image.shape for image in found.images} == {(40, 60, 3), (64, 48, 3)}
    monkeypatch.setattr(calibration, "MAX_IMAGES", 1)
    assert len(load_calibration(str(photos)).images) == 1


def test_rooms_are_rendered_when_their_turn_comes(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("torch", reason="rendering needs torch")
    pytest.importorskip("tqdm", reason="rendering needs tqdm")
    monkeypatch.setattr(calibration, "_ROOM_HW", (32, 32))
    rooms = load_calibration("rooms:1000000")
    assert len(rooms.images) == 1_000_000  # none of them yet
    first, second = rooms.images[:2]
    assert first.shape == (32, 32, 3) and first.dtype == np.uint8 and (first != second).any()
    assert (rooms.images[1] == second).all()
    with pytest.raises(IndexError):
        rooms.images[1_000_000]
    assert load_calibration(None).source == f"rooms:{calibration.ROOMS}"


@pytest.mark.parametrize("source", ["rooms:", "rooms:x", "rooms:0", "rooms:-3"])
def test_number_of_rooms_that_is_none_is_refused(source: str):
    pytest.importorskip("torch", reason="exporting needs torch")
    with pytest.raises(InputError, match="needs a number of rooms"):
        load_calibration(source)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch", reason="exporting needs torch")
    pytest.importorskip("onnxscript", reason="exporting needs onnxscript")
    from slimpath.models import HeadConfig, build_preset, save_checkpoint

    model = build_preset("m3vit_micro", (HeadConfig("scene", "image_classes", 3),), experts=4, top_k=1)
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint") / "micro.safetensors", model.eval(), {})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--calibration", "nowhere"], "nowhere: there is no such folder of calibration pictures"),
        (["--calibration", "rooms:many"], "needs a number of rooms"),
        (["--expert-coverage", "1.5"], "--expert-coverage must be numbers above 0, at most 1"),
        (["--expert-coverage", "0"], "--expert-coverage must be numbers above 0, at most 1"),
        (["--expert-coverage", "0.9", "--to", "standalone"], "are for bundles"),
    ],
)
def test_option_that_cannot_be_used_is_refused(
    slimpath: Callable[..., Any], checkpoint: Path, options: list[str], said: str
):
    done = slimpath("export", checkpoint, "--out", "made", *options)
    assert done.exit_code == 2
    assert said in done.stderr
    assert not Path("made").exists()


def test_export_confines_every_task_to_its_experts(slimpath: Callable[..., Any], checkpoint: Path, photos: Path):
    options = ["--widths", "1", "--no-check", "--expert-coverage", "0.3", "--calibration", photos, "--json"]
    done = slimpath("export", checkpoint, "--out", "made", *options)
    assert done.exit_code == 0, done.output
    kept = json.loads(done.stdout)["kept_experts"]["scene"]
    assert len(kept) == 2 and all(1 <= count < 4 for count in kept)
    shown = json.loads(slimpath("inspect", "made", "--json").stdout)
    assert shown["needs"]["tasks"]["scene"]["kept"] == kept
    assert shown["encoder"]["routers"]["scene"]["paths"]["source"] == "photos/"
