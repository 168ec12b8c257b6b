"""The wide world has what photographs have and rooms lack, and its labels stay true: the sky has none."""

from __future__ import annotations

import ast
import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from slimpath.training.config import DataConfig, TrainConfig
from slimpath.training.errors import ConfigError, DataError
from slimpath.training.sources import open_source
from slimpath.training.synthrooms import CLASSES, ROOM_TYPES, VERSIONS, RoomBatch, photo_textures, render_rooms
from slimpath.training.synthrooms.cache import main as render_command
from slimpath.training.synthrooms.materials import Material, Texture
from slimpath.training.synthrooms.packed import pack, unpack
from slimpath.training.synthrooms.render import render_scene
from slimpath.training.synthrooms.scene import SKY, Scene
from slimpath.training.synthrooms.wide import sample_wide_scene

CPU = torch.device("cpu")
NONE = 255


@pytest.fixture(scope="module")
def scenes() -> RoomBatch:
    return render_rooms(range(60), (32, 32), world="wide")


def outside(number: int) -> bool:
    return sample_wide_scene(number).room_type == ""


def test_same_seed_gives_the_same_scene_in_any_batch(scenes: RoomBatch) -> None:
    alone = render_rooms([7], (32, 32), world="wide")
    for field in fields(RoomBatch):
        assert torch.equal(getattr(alone, field.name)[0], getattr(scenes, field.name)[7]), field.name
    room = render_rooms([7], (32, 32))
    assert not torch.equal(room.image_BHW3[0], scenes.image_BHW3[7])


def test_rooms_and_the_open_occur_with_things_of_every_kind(scenes: RoomBatch) -> None:
    kinds = scenes.scene_B.tolist()
    assert set(kinds) == {*range(len(ROOM_TYPES)), NONE}
    assert 0.15 < kinds.count(NONE) / len(kinds) < 0.45
    assert [kind == NONE for kind in kinds] == [outside(seed) for seed in range(60)]
    labels = set(scenes.semseg_BHW.unique().tolist())
    assert NONE in labels and {CLASSES.index("object"), CLASSES.index("plant")} <= labels
    textures = {face.texture for seed in range(60) for face in sample_wide_scene(seed).faces}
    assert {Texture.PHOTO, Texture.SKY} <= textures
    blurred = sum(sample_wide_scene(seed).focus.blur_px > 0 for seed in range(60))
    bent = sum(sample_wide_scene(seed).camera.distortion != 0 for seed in range(60))
    assert 8 < blurred < 40 and 8 < bent < 40


def test_all_is_finite_and_exposed(scenes: RoomBatch) -> None:
    assert scenes.depth_BHW.isfinite().all() and scenes.normals_BHW3.isfinite().all()
    assert scenes.depth_BHW.min() > 0.02 and scenes.depth_BHW.max() < 30
    means = scenes.image_BHW3.float().mean(dim=(1, 2, 3))
    assert means.min() > 25 and means.max() < 225


def test_sky_is_far_and_has_no_class_no_direction_and_no_edge_inside(scenes: RoomBatch) -> None:
    sky = scenes.semseg_BHW == NONE
    assert sky.any() and not sky[scenes.scene_B != NONE].any()
    lengths = scenes.normals_BHW3.norm(dim=-1)
    assert (lengths[sky] == 0).all() and (lengths[~sky] - 1).abs().max() < 1e-3
    inner = -torch.nn.functional.max_pool2d(-sky[:, None].float(), 3, 1, 1)[:, 0] > 0
    assert inner.any() and not scenes.edge_BHW[inner].any()
    assert not scenes.saliency_BHW[sky].any()
    for number in range(60):
        if sky[number].any() and (~sky[number]).any():
            assert scenes.depth_BHW[number][sky[number]].median() > scenes.depth_BHW[number][~sky[number]].median()


def test_the_thing_that_a_picture_is_of_is_seen_and_mostly_the_salient_one() -> None:
    found = [(seed, sample_wide_scene(seed)) for seed in range(80)]
    close = [seed for seed, scene in found if 0 < scene.focus.distance_m not in (1.5, 4.0)]
    assert len(close) > 15
    rooms = render_rooms(close, (24, 24), world="wide")
    # It was placed first: instance 1.
    share = (rooms.instance_BHW == 1).float().mean(dim=(1, 2))
    salient = ((rooms.instance_BHW == 1) & rooms.saliency_BHW).any(dim=2).any(dim=1)
    assert share.median() > 0.12 and (share > 0.02).float().mean() > 0.9
    assert salient.float().mean() > 0.7


def test_scene_without_sky_has_the_shell_of_a_room(empty_room: Scene) -> None:
    assert SKY not in empty_room.face_labels
    fields_ = render_scene(empty_room, (16, 16), CPU)
    assert (fields_[2].norm(dim=-1) - 1).abs().max() < 1e-3 and (fields_[3] != NONE).all()


def test_sky_survives_being_packed(scenes: RoomBatch) -> None:
    arrays = pack(scenes)
    for number in range(12):
        room = unpack(arrays, number)
        assert (room["semseg"] == scenes.semseg_BHW[number].numpy()).all()
        sky = room["semseg"] == NONE
        assert (room["normals"][sky] == 0).all() and np.isfinite(room["normals"]).all()
        assert room["scene"] == int(scenes.scene_B[number])


def test_sun_outside_casts_shadows(empty_room: Scene, grey: Material) -> None:
    from slimpath.training.synthrooms.pieces import Piece
    from slimpath.training.synthrooms.scene import ANY_FACE, Sun

    block = Piece("object")
    block.box((2.0, 0.5, 2.5), (0.6, 1.0, 0.6), grey)
    sun = Sun((0.5, 0.7, 0.5), (5.0, 5.0, 5.0), ANY_FACE, (-999.0, -999.0, -999.0), (999.0, 999.0, 999.0))
    bright = replace(empty_room, lights=(), sun=sun, ambient=(0.1, 0.1, 0.1), pieces=(block,))
    shone, _ = (render_scene(scene, (48, 48), CPU) for scene in (bright, replace(bright, sun=None)))
    floor = shone[3] == CLASSES.index("floor")
    light = shone[0].float().mean(dim=-1)[floor]
    assert light.max() > 2 * light.min()


def test_without_scikit_image_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photo_textures.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(photo_textures.NoPhotographs, match=r"slimpath\[train\]"):
        photo_textures._folder()


def test_photographs_that_the_model_is_judged_on_are_not_trained_on() -> None:
    page = Path(__file__).resolve().parents[3] / "benchmarks" / "photographs.py"
    shown = next(
        node.value
        for node in ast.parse(page.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PHOTOGRAPHS"
    )
    names = {file.split(".")[0] for files in ast.literal_eval(shown).values() for file in files}
    assert len(names) >= 8 and not names & {file.split(".")[0] for file in photo_textures.FILES}


def test_unknown_world_is_refused() -> None:
    with pytest.raises(ValueError, match="rooms, wide, got 'moon'"):
        render_rooms([0], (8, 8), world="moon")
    with pytest.raises(ConfigError, match="'rooms' or 'wide', got 'moon'"):
        TrainConfig(data=DataConfig(world="moon"))


def test_cache_says_its_world_and_a_training_of_the_other_one_refuses_it(tmp_path: Path) -> None:
    render_command(["--out", str(tmp_path), "--count", "2", "--size", "16x16", "--world", "wide", "--no-progress"])
    assert json.loads((tmp_path / "config.json").read_text())["renderer"] == VERSIONS["wide"]
    source = open_source(TrainConfig(data=DataConfig(shards=str(tmp_path), world="wide")))
    assert len(source) == 2
    with pytest.raises(DataError, match=r"expected rooms of data\.world=rooms"):
        open_source(TrainConfig(data=DataConfig(shards=str(tmp_path))))
