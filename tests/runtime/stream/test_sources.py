"""What can be streamed: files, folders, cameras, networks, pipelines; and what is said about what cannot."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from slimpath.runtime.stream import capture as capture_module
from slimpath.runtime.stream.capture import Capture, Reconnecting, has_gstreamer, open_pipeline, without_password
from slimpath.runtime.stream.errors import SourceError
from slimpath.runtime.stream.sources import Source, open_source
from slimpath.tests.runtime.stream.conftest import numbered, write_film


def opened(text: object, **options: Any) -> Source:
    return open_source(str(text), **{"fps": 15, "patience_s": 1, "stop": threading.Event(), **options})


def frames_of(source: Source) -> Iterator[np.ndarray | None]:
    while source.grab():
        yield source.frame()


class StandIn:
    """What cv2.VideoCapture does, by its documentation: `script` says of each grab whether it works."""

    made: list[StandIn] = []  # noqa: RUF012  cleared for every test

    def __init__(self, *arguments: Any, script: str = "", is_open: bool = True, fps: float = 30.0) -> None:
        self.arguments, self.settings, self.released = arguments, {}, False
        self._script, self._open, self._fps = iter(script), is_open, fps
        StandIn.made.append(self)

    def isOpened(self) -> bool:
        return self._open

    def grab(self) -> bool:
        return next(self._script, ".") == "x"

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        return True, np.dstack([numbered(n, (4, 6))[..., 0] for n in (10, 20, 30)])  # blue, green, red

    def get(self, what: int) -> float:
        return {cv2.CAP_PROP_FPS: self.settings.get(cv2.CAP_PROP_FPS, self._fps)}.get(what, 0.0)

    def set(self, what: int, value: float) -> bool:
        self.settings[what] = value
        return True

    def release(self) -> None:
        self.released = True


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let cv2 make stand-ins, each with the next of some scripts; None cannot be opened."""

    def use(*scripts: str | None, fps: float = 30.0) -> None:
        StandIn.made.clear()
        following = iter(scripts)

        def make(*arguments: Any) -> StandIn:
            script = next(following, None)
            return StandIn(*arguments, script=script or "", is_open=script is not None, fps=fps)

        monkeypatch.setattr(cv2, "VideoCapture", make)

    return use


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture_module, "BACK_OFF_S", (0.001, 0.004))


def test_film_gives_its_frames_in_rgb_and_its_rate(film: Path) -> None:
    for name in (film, f"file://{film}"):
        source = opened(name)
        assert source.info.fps == pytest.approx(30) and not source.info.live
        frames = [frame for frame in frames_of(source) if frame is not None]
        assert len(frames) == 60
        # Grey 4 n; the codec is lossy.
        assert all(abs(float(frame.mean()) - 4 * n) < 4 for n, frame in enumerate(frames))
        source.close()


def test_film_is_rgb_not_bgr(tmp_path: Path) -> None:
    path = tmp_path / "red.avi"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    writer.write(np.full((48, 64, 3), (0, 0, 255), np.uint8))
    writer.release()
    source = opened(path)
    assert source.grab()
    frame = source.frame()
    assert frame is not None and frame[..., 0].min() > 200 and frame[..., 2].max() < 50
    source.close()


def test_film_that_was_cut_off_ends_where_it_was_cut(tmp_path: Path) -> None:
    whole = write_film(tmp_path / "whole.avi", 60)
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    source = opened(cut)
    assert 5 < len(list(frames_of(source))) < 60
    source.close()


def test_folder_gives_its_pictures_by_name_and_passes_over_bad_ones(tmp_path: Path) -> None:
    for name, level in (("b.png", 20), ("a.jpg", 10), ("c.PNG", 30)):
        assert cv2.imwrite(str(tmp_path / name), numbered(level))
    (tmp_path / "bb.png").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("no picture either")
    source = opened(tmp_path)
    assert source.info.fps is None and not source.info.live
    found = [None if frame is None else round(float(frame.mean())) for frame in frames_of(source)]
    assert found == [10, 20, None, 30]
    source.close()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no name"),
        ("nothing.mp4", "no such file or folder"),
        ("gopher://hole", "unknown kind of address gopher://"),
        ("videotestsrc ! appsink", "without GStreamer"),
        ("97", "camera 97 cannot be opened"),
        ("/dev/video97", "camera /dev/video97 cannot be opened"),
        ("rtsp://user:secret@127.0.0.1:9/live?token=1", "rtsp://127.0.0.1:9/live: no video there"),
        ("http://127.0.0.1:9/film.mp4", "http://127.0.0.1:9/film.mp4: no video there"),
    ],
)
def test_source_that_is_none_says_why_and_how_to_go_on(text: str, says: str) -> None:
    with pytest.raises(SourceError, match=says.replace(".", r"\.")) as caught:
        opened(text)
    assert caught.value.hint
    assert "secret" not in str(caught.value) and "token" not in str(caught.value)


def test_wrong_files_say_what_they_are(tmp_path: Path) -> None:
    picture, text, empty = tmp_path / "a.png", tmp_path / "shot_01.txt", tmp_path / "empty"
    assert cv2.imwrite(str(picture), numbered(1))
    text.write_text("no film")
    empty.mkdir()
    for path, says in ((picture, "one picture"), (text, "no video"), (empty, "no pictures in this folder")):
        with pytest.raises(SourceError, match=says):
            opened(path)


def test_camera_is_asked_for_its_newest_frame_and_for_a_higher_rate(stand_in: Callable[..., None]) -> None:
    stand_in("xx", fps=10.0)
    source = opened("/dev/video3", fps=25)
    assert StandIn.made[0].arguments == (3,)
    assert StandIn.made[0].settings == {cv2.CAP_PROP_BUFFERSIZE: 1, cv2.CAP_PROP_FPS: 25}
    assert source.info.live and source.info.fps == 25
    assert source.grab()
    frame = source.frame()
    assert frame is not None and frame[0, 0].tolist() == [30, 20, 10]


def test_camera_may_lose_a_frame_but_is_dead_after_several(stand_in: Callable[..., None]) -> None:
    stand_in("x..x......")
    source = opened("0")
    assert source.grab() and source.grab()
    with pytest.raises(SourceError, match="camera 0: no more frames"):
        source.grab()


def test_network_source_is_connected_anew_and_says_how_often(stand_in: Callable[..., None]) -> None:
    stand_in("xx.", None, None, "xxx.", "x")
    source = opened("rtsp://camera/live")
    assert [source.grab() for _ in range(6)] == [True] * 6
    assert source.reconnects == 2
    assert [made.released for made in StandIn.made] == [True, False, False, True, False]
    assert "127" not in source.info.name and source.info.live


def test_network_source_that_stays_away_is_given_up(stand_in: Callable[..., None]) -> None:
    stand_in("x.")
    times = iter(range(0, 1000, 5))
    source = Reconnecting(
        "rtsp://camera",
        StandIn(script="x"),
        lambda: None,
        patience_s=60,
        stop=threading.Event(),
        clock=lambda: next(times),
    )
    assert source.grab()
    with pytest.raises(SourceError, match=r"gone for \d+ s") as caught:
        source.grab()
    assert "--reconnect" in caught.value.hint


def test_waiting_for_a_connection_ends_when_nobody_wants_frames_any_more(stand_in: Callable[..., None]) -> None:
    stop = threading.Event()

    def connect() -> None:
        stop.set()

    stand_in()
    source = Reconnecting("rtsp://camera", StandIn(), connect, patience_s=1e9, stop=stop)
    assert source.grab() is False


def test_pipeline_needs_gstreamer_and_an_appsink(
    stand_in: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not has_gstreamer("    FFMPEG:   YES\n    GStreamer:     NO\n")
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "    GStreamer:                   YES (1.20.3)\n")
    stand_in("x", None)
    with pytest.raises(SourceError, match="must end in an appsink, got 'autovideosink'"):
        open_pipeline("videotestsrc ! autovideosink")
    source = opened("videotestsrc ! videoconvert ! appsink drop=true")
    assert isinstance(source, Capture) and source.info.live
    assert StandIn.made[0].arguments == ("videotestsrc ! videoconvert ! appsink drop=true", cv2.CAP_GSTREAMER)
    with pytest.raises(SourceError, match="cannot run the pipeline"):
        opened("nonsense ! appsink")


def test_grey_frames_become_rgb_and_empty_ones_are_damaged(stand_in: Callable[..., None]) -> None:
    class Grey(StandIn):
        frames = iter([np.full((4, 6), 7, np.uint8), np.zeros((0, 0, 3), np.uint8)])

        def retrieve(self) -> tuple[bool, np.ndarray | None]:
            return True, next(self.frames)

    found = [capture_module.retrieve(capture) for capture in [Grey()] * 2]
    assert found[0] is not None and found[0].shape == (4, 6, 3) and (found[0] == 7).all()
    assert found[1] is None


def test_addresses_are_shown_without_what_is_secret() -> None:
    assert without_password("rtsp://me:pw@cam.local:554/a/b?key=1#x") == "rtsp://cam.local:554/a/b"
    assert without_password("rtsp://me:pw@cam:notaport/") == "rtsp://..."
