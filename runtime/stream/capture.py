"""Sources that OpenCV reads: cameras, video files, network streams, GStreamer pipelines.

GStreamer and cameras could not be tried where this was written (no such build, no camera): they are tested with a
stand-in for `cv2.VideoCapture`, which follows its documentation.
"""

from __future__ import annotations

import math
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from ..imaging.images import quiet_cv2
from .errors import SourceError
from .sources import SourceInfo

NETWORK_TIMEOUT_MS = 5000  # of opening and of reading: OpenCV waits 30 s by itself
BACK_OFF_S = (0.5, 8.0)  # the first and the longest pause between two attempts to connect
CAMERA_RETRIES = 5  # a camera may lose a frame; one that loses so many in a row is gone


class Capture:
    """An open cv2.VideoCapture: a file, a camera or a pipeline.

    Args:
        retries: frames that may fail in a row before a live source counts as dead; a file ends at the first.
    """

    reconnects = 0

    def __init__(self, capture: Any, info: SourceInfo, *, retries: int = 0) -> None:
        self._capture = capture
        self._retries = retries
        self.info = info

    def grab(self) -> bool:
        if any(self._capture.grab() for _ in range(self._retries + 1)):
            return True
        if self.info.live:
            raise SourceError(f"{self.info.name}: no more frames", hint="is it still connected?")
        return False

    def frame(self) -> np.ndarray | None:
        return retrieve(self._capture)

    def close(self) -> None:
        self._capture.release()


class Reconnecting:
    """A network source that comes back: when it fails it is opened again, with growing pauses.

    Args:
        connect: opens it; None where that fails.
        patience_s: give up after so long without a frame.
    """

    def __init__(
        self,
        name: str,
        capture: Any,
        connect: Callable[[], Any],
        *,
        patience_s: float,
        stop: threading.Event,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._capture = capture
        self._connect = connect
        self._patience_s = patience_s
        self._stop = stop
        self._clock = clock
        self._seen_s = clock()
        self.reconnects = 0
        self.info = SourceInfo(name, frames_per_second(capture), live=True)

    def grab(self) -> bool:
        while not self._stop.is_set():
            if self._capture.grab():
                self._seen_s = self._clock()
                return True
            self._reconnect()
        return False

    def frame(self) -> np.ndarray | None:
        return retrieve(self._capture)

    def close(self) -> None:
        self._capture.release()

    def _reconnect(self) -> None:
        self._capture.release()
        pause_s = BACK_OFF_S[0]
        while not self._stop.is_set():
            if self._clock() - self._seen_s >= self._patience_s:
                raise SourceError(
                    f"{self.info.name}: gone for {self._clock() - self._seen_s:.0f} s",
                    hint="--reconnect SECONDS waits longer",
                )
            if self._stop.wait(pause_s):
                return
            pause_s = min(2 * pause_s, BACK_OFF_S[1])
            capture = self._connect()
            if capture is not None:
                self.reconnects += 1
                self._capture = capture
                return


def quiet_capture() -> Any:
    """OpenCV without FFmpeg's own messages on stderr (OPENCV_FFMPEG_LOGLEVEL overrides)."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    return quiet_cv2()


def open_video(path: Path) -> Capture:
    """A video file."""
    cv2 = quiet_capture()
    # FFmpeg by name: otherwise OpenCV goes on to guess, and takes "shot_01.txt" for a numbered series of pictures.
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise SourceError(
            f"{path}: this is no video that OpenCV {cv2.__version__} can read",
            hint="convert it: ffmpeg -i INPUT -c:v libx264 OUTPUT.mp4",
        )
    return Capture(capture, SourceInfo(str(path), frames_per_second(capture), live=False))


def open_camera(text: str, fps: float) -> Capture:
    """A camera by its number or its device file."""
    cv2 = quiet_capture()
    number = int(text.removeprefix("/dev/video"))
    capture = cv2.VideoCapture(number)
    if not capture.isOpened():
        raise SourceError(
            f"camera {text} cannot be opened",
            hint="is it connected, free, and readable for you? `ls -l /dev/video*` lists those that Linux sees",
        )
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # what waits in a buffer is old; not every driver obeys
    given = frames_per_second(capture)
    if given is not None and given < fps:
        capture.set(cv2.CAP_PROP_FPS, fps)
    info = SourceInfo(f"camera {number}", frames_per_second(capture), live=True)
    return Capture(capture, info, retries=CAMERA_RETRIES)


def open_pipeline(text: str) -> Capture:
    """A GStreamer pipeline that ends in an appsink."""
    cv2 = quiet_capture()
    if not has_gstreamer(cv2.getBuildInformation()):
        raise SourceError(
            f"this OpenCV ({cv2.__version__}) is built without GStreamer, so it cannot run the pipeline",
            hint="the wheels on PyPI have none; take your system's (JetPack: python3-opencv), or name the camera or "
            "address itself",
        )
    if "appsink" not in text.split("!")[-1]:
        raise SourceError(
            f"the pipeline must end in an appsink, got {text.split('!')[-1].strip()!r}",
            hint='end it with "! videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1"',
        )
    capture = cv2.VideoCapture(text, cv2.CAP_GSTREAMER)
    if not capture.isOpened():
        raise SourceError("GStreamer cannot run the pipeline", hint="try it with gst-launch-1.0, fakesink at its end")
    return Capture(capture, SourceInfo("pipeline", frames_per_second(capture), live=True), retries=CAMERA_RETRIES)


def open_live(url: str, *, patience_s: float, stop: threading.Event, film_too: bool = False) -> Capture | Reconnecting:
    """A network stream.

    Args:
        film_too: it may also turn out to be a film with an end, which is then read like a file.
    """
    cv2 = quiet_capture()
    timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, NETWORK_TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, NETWORK_TIMEOUT_MS]

    def connect() -> Any:
        capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG, timeouts)
        return capture if capture.isOpened() else None

    name = without_password(url)
    capture = connect()
    if capture is None:
        raise SourceError(
            f"{name}: no video there, or no answer within {NETWORK_TIMEOUT_MS / 1000:g} s",
            hint="is the address right, and can this machine reach it?",
        )
    if film_too and capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0:
        return Capture(capture, SourceInfo(name, frames_per_second(capture), live=False))
    return Reconnecting(name, capture, connect, patience_s=patience_s, stop=stop)


def frames_per_second(capture: Any) -> float | None:
    """What a capture says; None for the numbers that mean "unknown"."""
    fps = float(capture.get(_CAP_PROP_FPS))
    return fps if math.isfinite(fps) and fps > 0 else None


def retrieve(capture: Any) -> np.ndarray | None:
    """The grabbed frame as RGB (OpenCV gives BGR, or grey from some cameras); None where it is damaged."""
    import cv2

    done, frame = capture.retrieve()
    if not done or frame is None or frame.size == 0:
        return None
    if frame.ndim == 2 or frame.shape[2] == 1:
        return cv2.cvtColor(frame, cv2.COLOR_GRAY2RGB)
    return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


def has_gstreamer(build_information: str) -> bool:
    """Does this OpenCV have it, by its own account?"""
    return re.search(r"^\s*GStreamer:\s*YES", build_information, re.MULTILINE) is not None


def without_password(url: str) -> str:
    """An address that may be shown: no user name, no password, no query."""
    try:
        parts = urlsplit(url)
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        return url.split("://")[0] + "://..."
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


_CAP_PROP_FPS = 5  # cv2.CAP_PROP_FPS, known here so that stand-ins need no OpenCV
