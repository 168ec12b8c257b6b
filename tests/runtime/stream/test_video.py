"""A video that keeps real time and is whole, or is not there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from slimpath.runtime.stream.errors import OutputError
from slimpath.runtime.stream.video import VideoFile
from slimpath.tests.runtime.stream.conftest import numbered, read_film


def levels(path: Path) -> list[int]:
    return [round(float(frame.mean()) / 20) for frame in read_film(path)[1]]


def test_pictures_become_frames_at_the_rate(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.mp4"
    video = VideoFile(path, 12.5)
    for tick in range(10):
        video.show(numbered(20 * tick), tick)
        assert not path.exists()
    video.close()
    fps, frames = read_film(path)
    assert fps == pytest.approx(12.5) and len(frames) == video.frames == 10
    assert levels(path) == list(range(10))
    assert list(path.parent.iterdir()) == [path]  # no temporary file
    video.close()


def test_missing_ticks_show_the_picture_before_them_once_more(tmp_path: Path) -> None:
    repeated: list[int] = []
    video = VideoFile(tmp_path / "out.mp4", 10, on_repeat=repeated.append)
    for tick in (3, 4, 7, 8):  # the first one is where the video begins
        video.show(numbered(20 * tick), tick)
    video.close()
    assert levels(tmp_path / "out.mp4") == [3, 4, 4, 4, 7, 8]
    assert repeated == [2]


def test_long_pause_is_not_filled(tmp_path: Path) -> None:
    video = VideoFile(tmp_path / "out.mp4", 2)
    video.show(numbered(20), 0)
    video.show(numbered(40), 10_000)
    video.close()
    assert len(levels(tmp_path / "out.mp4")) == 22


def test_colours_are_right_and_odd_sides_lose_a_pixel(tmp_path: Path) -> None:
    video = VideoFile(tmp_path / "out.avi", 10, codec="MJPG")
    video.show(np.full((49, 65, 3), (200, 40, 10), np.uint8), 0)
    video.close()
    frame = read_film(tmp_path / "out.avi")[1][0]
    assert frame.shape == (48, 64, 3)
    assert np.abs(frame.reshape(-1, 3).mean(axis=0) - (10, 40, 200)).max() < 12  # BGR


def test_video_without_a_picture_is_no_file(tmp_path: Path) -> None:
    VideoFile(tmp_path / "out.mp4", 10).close()
    assert not list(tmp_path.iterdir())


def test_existing_video_is_there_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"the old one")
    video = VideoFile(path, 10)
    video.show(numbered(1), 0)
    assert path.read_bytes() == b"the old one"
    video.close()
    assert len(read_film(path)[1]) == 1


@pytest.mark.parametrize(
    ("name", "codec", "says"),
    [
        ("out.txt", "mp4v", "must end in .mp4"),
        ("out.mp4", "h264x", "four letters"),
        ("folder.mp4", "mp4v", "is a folder"),
        ("file/out.mp4", "mp4v", "file"),
    ],
)
def test_impossible_video_is_refused_before_the_stream_begins(name: str, codec: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=says):
        VideoFile(tmp_path / name, 10, codec=codec)


def test_codec_that_is_not_there_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write ZZZZ at 64x64; --codec mp4v"):
        VideoFile(tmp_path / "out.mp4", 10, codec="ZZZZ")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="cannot be written"):
        VideoFile(tmp_path / "out.mp4", 10)


def test_file_that_the_encoder_lost_is_an_error_not_a_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk: OpenCV goes on as if nothing were wrong."""

    class Losing:
        def __init__(self, name: str, *rest: object) -> None:
            self._path = Path(name)

        isOpened: Callable[..., bool] = staticmethod(lambda: True)
        write: Callable[..., None] = staticmethod(lambda frame: None)

        def release(self) -> None:
            self._path.write_bytes(b"half a header")

    monkeypatch.setattr(cv2.VideoWriter, "fourcc", cv2.VideoWriter.fourcc, raising=False)
    fourcc = cv2.VideoWriter.fourcc
    monkeypatch.setattr(cv2, "VideoWriter", type("VideoWriter", (Losing,), {"fourcc": staticmethod(fourcc)}))
    video = VideoFile(tmp_path / "out.mp4", 10)
    video.show(numbered(1), 0)
    with pytest.raises(OutputError, match="not written whole"):
        video.close()
    assert not list(tmp_path.iterdir())
