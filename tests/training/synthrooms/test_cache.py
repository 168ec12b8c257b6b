"""Shards give back what was rendered, survive interruption, and refuse a mix of settings."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slimpath.training.synthrooms import cache, render_rooms
from slimpath.training.synthrooms.cache import CacheMismatchError, RoomShards, render_to_shards

SIZE_HW = (20, 24)


def render(folder: Path, count: int = 5, **settings: Any) -> None:
    render_to_shards(folder, 10, count, SIZE_HW, shard=2, progress=False, **settings)


def test_shards_give_back_what_was_rendered(tmp_path: Path) -> None:
    render(tmp_path)
    shards, rooms = RoomShards(tmp_path), render_rooms(range(10, 15), SIZE_HW)
    assert len(shards) == 5
    for i, room in enumerate(map(shards.__getitem__, range(5))):
        assert (room["image"] == rooms.image_BHW3[i].numpy()).all()
        assert (room["semseg"] == rooms.semseg_BHW[i].numpy()).all()
        assert (room["edge"] == rooms.edge_BHW[i].numpy()).all() and np.max(room["edge"]) == 1
        assert (room["saliency"] == rooms.saliency_BHW[i].numpy()).all()
        assert room["scene"] == int(rooms.scene_B[i])
        np.testing.assert_allclose(room["depth"], rooms.depth_BHW[i], rtol=1e-3)  # half a step of float16
        np.testing.assert_allclose(room["normals"], rooms.normals_BHW3[i], atol=0.01)  # half a step of 1/127, rescaled
    assert (shards[-1]["image"] == shards[4]["image"]).all()
    last = shards[4]
    assert [last["image"].dtype, last["depth"].dtype, last["normals"].dtype] == [np.uint8, np.float32, np.float32]


def test_index_out_of_range_ends_iteration(tmp_path: Path) -> None:
    render(tmp_path, count=2)
    with pytest.raises(IndexError, match="room 2 of 2"):
        RoomShards(tmp_path)[2]
    assert len(list(RoomShards(tmp_path))) == 2  # type: ignore[call-overload]


def test_second_run_renders_only_missing_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    render(tmp_path)
    kept = tmp_path / "shard-000000010-00002"
    stamp = kept.stat().st_mtime_ns
    lost = tmp_path / "shard-000000012-00002"
    for file in lost.iterdir():
        file.unlink()
    lost.rmdir()
    assert len(RoomShards(tmp_path)) == 3
    rendered: list[int] = []

    def counting(seeds: list[int], *args: object, **settings: object) -> object:
        rendered.extend(seeds)
        return render_rooms(seeds, *args, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(cache, "render_rooms", counting)
    render(tmp_path)
    assert rendered == [12, 13]
    assert kept.stat().st_mtime_ns == stamp
    assert len(RoomShards(tmp_path)) == 5


def test_interrupted_shard_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cache, "render_rooms", failing)
    with pytest.raises(KeyboardInterrupt):
        render(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_other_settings_in_the_same_folder_are_refused(tmp_path: Path) -> None:
    render(tmp_path, count=2)
    with pytest.raises(CacheMismatchError, match="samples_per_pixel: 1 there, 4 asked"):
        render(tmp_path, count=2, samples_per_pixel=4)
    render(tmp_path, count=4)  # more of the same is welcome
    assert len(RoomShards(tmp_path)) == 4


def test_config_names_seeds_size_and_renderer(tmp_path: Path) -> None:
    render(tmp_path, count=2)
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["first_seed"], config["count"], config["size_hw"]) == (10, 2, [20, 24])
    assert config["renderer"] == cache.RENDERER_VERSION


def test_opened_shards_travel_to_worker_processes_without_their_arrays(tmp_path: Path) -> None:
    render(tmp_path, count=2)
    shards = RoomShards(tmp_path)
    first = shards[0]
    copy = pickle.dumps(shards)
    assert len(copy) < 4000
    assert (pickle.loads(copy)[0]["image"] == first["image"]).all()


def test_folder_without_shards_says_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        RoomShards(tmp_path)
    render(tmp_path, count=2)
    for path in tmp_path.glob("shard-*"):
        path.rename(tmp_path / f"_{path.name}")
    with pytest.raises(FileNotFoundError, match=r"slimpath\.training\.synthrooms\.cache"):
        RoomShards(tmp_path)


def test_command_line_renders_and_says_what_it_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache.main(["--out", str(tmp_path), "--count", "3", "--size", "16x20", "--shard", "2", "--no-progress"])
    assert "3 rooms of 16x20" in capsys.readouterr().out
    assert RoomShards(tmp_path)[2]["depth"].shape == (16, 20)
