"""What a stream can be of, and how a name becomes a source: camera, file, address, folder or GStreamer pipeline."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ..errors import ImageError
from ..imaging.images import load_image
from .errors import SourceError

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_LIVE_SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "rtp", "srt", "tcp", "udp")
_URL = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)


@dataclass(frozen=True)
class SourceInfo:
    """What a source says of itself.

    Args:
        fps: of its frames; None where it does not say, or where it has none (a folder).
        live: frames come when they come. Otherwise they wait to be read.
    """

    name: str
    fps: float | None
    live: bool


class Source(Protocol):
    """Frames one after the other, read by one thread."""

    @property
    def info(self) -> SourceInfo: ...

    @property
    def reconnects(self) -> int:
        """How often a connection was made anew."""
        ...

    def grab(self) -> bool:
        """Go on to the next frame, waiting for it where the source is live; False at the end.

        Raises:
            SourceError: the source died.
        """
        ...

    def frame(self) -> np.ndarray | None:
        """The frame that was grabbed, uint8 [H, W, 3] RGB; None where it is damaged."""
        ...

    def close(self) -> None: ...


class FolderSource:
    """The pictures of a folder, in the order of their names."""

    reconnects = 0

    def __init__(self, folder: Path) -> None:
        self._paths = sorted(
            path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
        )
        if not self._paths:
            raise SourceError(f"{folder}: no pictures in this folder", hint=f"looked for {', '.join(IMAGE_SUFFIXES)}")
        self.info = SourceInfo(str(folder), None, live=False)
        self._current = -1

    def grab(self) -> bool:
        self._current += 1
        return self._current < len(self._paths)

    def frame(self) -> np.ndarray | None:
        try:
            return load_image(self._paths[self._current]).rgb
        except ImageError:
            return None

    def close(self) -> None:
        """Nothing is held open."""


def open_source(text: str, *, fps: float, patience_s: float, stop: threading.Event) -> Source:
    """The source of that name.

    Args:
        text: a camera's number or device file, a video file, an address, a folder of pictures, or a GStreamer pipeline
            ("videotestsrc ! videoconvert ! appsink").
        fps: what will be asked of it; a camera that gives less is asked for it.
        patience_s: how long a network source may be away before it is given up; 0 gives it up at once.
        stop: set when nobody wants frames any more, so that waiting for a connection ends.

    Raises:
        SourceError: there is no such thing, or it cannot be opened.
    """
    from .capture import open_camera, open_live, open_pipeline, open_video

    if not text.strip():
        raise SourceError("the source has no name", hint="name a camera (0), a video file, an address or a folder")
    if re.fullmatch(r"\d{1,3}", text) or re.fullmatch(r"/dev/video\d+", text):
        return open_camera(text, fps)
    if re.search(r"\s!\s", text):
        return open_pipeline(text)
    scheme = _URL.match(text)
    if scheme is None:
        return _open_path(Path(text), open_video)
    if scheme[1].lower() == "file":
        return _open_path(Path(text[len("file://") :]), open_video)
    if scheme[1].lower() in _LIVE_SCHEMES:
        return open_live(text, patience_s=patience_s, stop=stop)
    if scheme[1].lower() in ("http", "https"):
        # A film is read at its own pace, a camera's endless pictures are not; only opening it tells.
        return open_live(text, patience_s=patience_s, stop=stop, film_too=True)
    raise SourceError(
        f"unknown kind of address {scheme[1]}://", hint=f"known are http, https, file, {', '.join(_LIVE_SCHEMES)}"
    )


def _open_path(path: Path, open_video: Callable[[Path], Source]) -> Source:
    if path.is_dir():
        return FolderSource(path)
    if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
        raise SourceError(f"{path}: this is one picture", hint=f"slimpath run {path}, or name the folder")
    if not path.exists():
        raise SourceError(
            f"{path}: there is no such file or folder",
            hint="a source is a camera (0 or /dev/video0), a video file, an address (rtsp://...), a folder of "
            'pictures, or a GStreamer pipeline ("... ! appsink")',
        )
    return open_video(path)
