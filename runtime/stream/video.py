"""Pictures -> a video file that keeps real time, seen under its name only when it is whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .capture import quiet_capture
from .errors import OutputError

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".avi")
LONGEST_GAP_S = 10.0  # what a source was away for longer is not filled with its last picture


class VideoFile:
    """Writes a video of constant rate. A missing tick shows the picture before it once more.

    Args:
        codec: four letters as FFmpeg names them; "mp4v" is in every build of OpenCV, "avc1" (H.264) in few.
        on_repeat: told how many pictures were repeated.

    Raises:
        OutputError: the file cannot be there, or this OpenCV cannot write that codec.
    """

    def __init__(
        self, path: Path, fps: float, *, codec: str = "mp4v", on_repeat: Callable[[int], None] | None = None
    ) -> None:
        if path.suffix.lower() not in SUFFIXES:
            raise OutputError(f"{path}: a video must end in {', '.join(SUFFIXES)}", hint="for example --out out.mp4")
        if len(codec) != 4 or not codec.isascii():
            raise OutputError(f"a codec has four letters, got {codec!r}", hint="for example mp4v")
        if path.is_dir():
            raise OutputError(f"{path}: this is a folder", hint="name a file")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{path.parent}: {error.strerror}") from error
        if not os.access(path.parent, os.W_OK):
            raise OutputError(f"{path.parent}: this folder cannot be written")
        self.path = path
        self.fps = fps
        self.frames = 0
        self._codec = codec
        self.on_repeat = on_repeat
        self._temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
        self._writer: Any = None
        self._size_wh = (0, 0)
        self._last: np.ndarray | None = None
        self._next_tick: int | None = None
        self._open((64, 64)).release()
        self._temporary.unlink(missing_ok=True)

    def show(self, picture_HWC: np.ndarray, tick: int) -> None:
        import cv2

        if self._writer is None:
            # Most encoders store colour for two pixels at once, so sides are even.
            self._size_wh = picture_HWC.shape[1] // 2 * 2, picture_HWC.shape[0] // 2 * 2
            self._writer = self._open(self._size_wh)
        frame = cv2.cvtColor(picture_HWC, cv2.COLOR_RGB2BGR)[: self._size_wh[1], : self._size_wh[0]]
        self._fill(tick)
        self._write(frame)
        self._last, self._next_tick = frame, tick + 1

    def close(self) -> None:
        """Finish the file and give it its name.

        Raises:
            OutputError: the file cannot be finished.
        """
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        try:
            if not _is_video(self._temporary):  # the encoder reports nothing while it writes
                raise OutputError(f"{self.path}: the video was not written whole", hint="is the disk full?")
            os.replace(self._temporary, self.path)
        except OSError as error:
            raise OutputError(f"{self.path}: {error.strerror}") from error
        finally:
            self._temporary.unlink(missing_ok=True)

    def _open(self, size_wh: tuple[int, int]) -> Any:
        cv2 = quiet_capture()
        fourcc = cv2.VideoWriter.fourcc(*self._codec)
        writer = cv2.VideoWriter(str(self._temporary), cv2.CAP_FFMPEG, fourcc, self.fps, size_wh)
        if not writer.isOpened():
            self._temporary.unlink(missing_ok=True)
            raise OutputError(
                f"{self.path}: this OpenCV ({cv2.__version__}) cannot write {self._codec} at {size_wh[0]}x{size_wh[1]}",
                hint="--codec mp4v is in every build",
            )
        return writer

    def _fill(self, tick: int) -> None:
        if self._next_tick is None or self._last is None:
            return
        missing = min(max(tick - self._next_tick, 0), int(LONGEST_GAP_S * self.fps))
        for _ in range(missing):
            self._write(self._last)
        if missing and self.on_repeat is not None:
            self.on_repeat(missing)

    def _write(self, frame: np.ndarray) -> None:
        self._writer.write(frame)
        self.frames += 1


def _is_video(path: Path) -> bool:
    cv2 = quiet_capture()
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        return bool(capture.isOpened() and capture.grab())
    finally:
        capture.release()
