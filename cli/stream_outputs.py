"""Where `slimpath stream` sends its pictures: a video, browsers, a window."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .common import say

if TYPE_CHECKING:
    from ..runtime.stream.mjpeg import MjpegServer
    from ..runtime.stream.outputs import Output
    from ..runtime.stream.pipeline import Stream
    from ..runtime.stream.video import VideoFile
    from ..runtime.stream.window import Window


class StreamOutputs:
    """The outputs that were asked for, opened before anything slow happens, closed whatever happens."""

    def __init__(self, out: Path | None, codec: str, serve: str | None, show: bool, fps: float) -> None:
        from ..runtime.stream.mjpeg import MjpegServer, is_loopback, parse_address
        from ..runtime.stream.video import VideoFile
        from ..runtime.stream.window import Window

        self.video: VideoFile | None = None if out is None else VideoFile(out, fps, codec=codec)
        self.window: Window | None = Window() if show else None
        self.server: MjpegServer | None = None
        if serve is not None:
            host, port = parse_address(serve)
            self.server = MjpegServer(host, port)
            say(f"slimpath: watch at {self.server.url}")
            if not is_loopback(host):
                say("slimpath: everyone who can reach this address can watch")

    def start(self, fps: float) -> list[Output]:
        """All of them, once it is known which rate is held."""
        if self.video is not None:
            self.video.fps = fps
        return [output for output in (self.video, self.server, self.window) if output is not None]

    def watch(self, running: Stream) -> None:
        """Tell the stream's meter what the video repeats, and the server's clients the figures."""
        if self.video is not None:
            self.video.on_repeat = lambda number: running.meter.count("repeated", number)
        if self.server is not None:
            self.server.figures = lambda: running.stats().to_json()

    def __enter__(self) -> StreamOutputs:
        return self

    def __exit__(self, *exception: object) -> None:
        for output in (self.video, self.server, self.window):
            if output is not None:
                output.close()
