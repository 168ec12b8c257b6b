"""Which frames of a source are due, and when: the time line of a stream, in ticks of 1 / fps.

Every picture that comes out belongs to a tick, so that a video keeps real time even where frames were dropped.
"""

from __future__ import annotations

import math

MAX_FPS = 240.0
_EARLY = 0.4  # of an interval: a frame so early stands for its tick, since cameras jitter


def effective_fps(asked: float, source_fps: float | None) -> float:
    """The rate that can be held: no source gives more pictures than it has."""
    if source_fps is None or not 0.1 <= source_fps <= MAX_FPS:  # some containers say 0, 1000 or 90000
        return asked
    return min(asked, source_fps)


class FilePace:
    """A file with `source_fps` frames a second, shown at `fps`, `fps` <= `source_fps`.

    Args:
        start_s: when tick 0 is due; None where nothing has to wait.
    """

    def __init__(self, fps: float, source_fps: float, start_s: float | None) -> None:
        self.fps = fps
        self._step = max(source_fps / fps, 1.0)
        self._start_s = start_s

    def frame_of(self, tick: int) -> int:
        """The frame of the file that tick shows."""
        return math.floor(tick * self._step + 1e-6)

    def due_s(self, tick: int) -> float:
        """When the frame of a tick is to be handed on; minus infinity where nothing has to wait."""
        return -math.inf if self._start_s is None else self._start_s + tick / self.fps

    def next_tick(self, last: int, now_s: float) -> int:
        """The tick after `last`; later ones where reading fell behind by more than an interval."""
        if self._start_s is None:
            return last + 1
        return max(last + 1, math.floor((now_s - self._start_s) * self.fps))


class LivePace:
    """A source that gives frames when it likes: the first one near every tick is taken."""

    def __init__(self, fps: float) -> None:
        self.fps = fps
        self._start_s: float | None = None
        self._last = -1

    def tick_of(self, now_s: float) -> int | None:
        """The tick of a frame that has just come, None where its tick is served already."""
        if self._start_s is None:
            self._start_s = now_s
        position = (now_s - self._start_s) * self.fps
        if position < self._last + 1 - _EARLY:
            return None
        self._last = max(self._last + 1, math.floor(position))
        return self._last
