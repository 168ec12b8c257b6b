"""Films, sources that need no file, and answers that take as long as a test says."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from slimpath.runtime.imaging.preprocess import place
from slimpath.runtime.planning.plan import Plan
from slimpath.runtime.result import Result
from slimpath.runtime.stream.errors import SourceError
from slimpath.runtime.stream.pilot import Pilot
from slimpath.runtime.stream.sources import SourceInfo
from slimpath.runtime.tasks import TaskSpec

SPECS = {
    "semseg": TaskSpec("semseg", "classes", 4, ("wall", "floor", "bed", "door")),
    "depth": TaskSpec("depth", "depth", 1, unit="m"),
    "normals": TaskSpec("normals", "normals", 3),
    "edge": TaskSpec("edge", "probability", 1),
    "scene": TaskSpec("scene", "image_classes", 3, ("living_room", "kitchen", "office")),
}


def numbered(number: int, size_hw: tuple[int, int] = (48, 64)) -> np.ndarray:
    """A frame whose brightness says which it is."""
    return np.full((*size_hw, 3), number % 256, np.uint8)


class ListSource:
    """Frames from a list. Live: they come at their rate, from the first `grab` on."""

    reconnects = 0

    def __init__(
        self,
        frames: Iterable[np.ndarray | None],
        *,
        fps: float | None = 30.0,
        live: bool = False,
        dies: bool = False,
    ) -> None:
        self.info = SourceInfo("list", fps, live)
        self._frames = list(frames)
        self._dies = dies
        self._next = -1
        self._start_s = 0.0
        self.closed = False

    def grab(self) -> bool:
        self._next += 1
        if self._next >= len(self._frames):
            if self._dies:
                raise SourceError("list: gone")
            return False
        if self._next == 0:
            self._start_s = time.monotonic()
        if self.info.live:
            time.sleep(max(self._start_s + self._next / (self.info.fps or 30) - time.monotonic(), 0))
        return True

    @property
    def grabbed(self) -> int:
        """How many frames were grabbed so far."""
        return self._next + 1

    def frame(self) -> np.ndarray | None:
        return self._frames[self._next]

    def close(self) -> None:
        self.closed = True


class ListOutput:
    """Remembers what it is shown."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.pictures: list[np.ndarray] = []
        self.ticks: list[int] = []
        self.times_s: list[float] = []
        self.closed = 0
        self._fails_at = fails_at

    def show(self, picture_HWC: np.ndarray, tick: int) -> None:
        if len(self.ticks) == self._fails_at:
            raise OSError("the disk is full")
        self.pictures.append(picture_HWC)
        self.ticks.append(tick)
        self.times_s.append(time.monotonic())

    def close(self) -> None:
        self.closed += 1


class TimedAnswers:
    """Stands in for the engine: a plan takes milliseconds in proportion to its width, times `slowdown`."""

    def __init__(self, full_ms: float) -> None:
        self.full_ms = full_ms
        self.slowdown = 1.0
        self.widths: list[float] = []
        self.running = threading.Lock()

    def __call__(self, rgb_HWC: np.ndarray, plan: Plan) -> Result:
        assert self.running.acquire(blocking=False), "two answers at once"
        try:
            time.sleep(self.full_ms * plan.encoder_width * self.slowdown / 1e3)
            self.widths.append(plan.encoder_width)
            return make_result(plan, rgb_HWC)
        finally:
            self.running.release()


def make_result(plan: Plan, rgb_HWC: np.ndarray, tasks: Iterable[str] = ("depth",), seed: int = 0) -> Result:
    """Made-up values for a frame, at a network size of 32 x 48."""
    rng = np.random.default_rng(seed)
    size_hw = (32, 48)
    values: dict[str, np.ndarray] = {}
    for task in tasks:
        kind = SPECS[task].kind
        if kind == "classes":
            values[task] = rng.integers(0, 4, size_hw, np.uint8)
        elif kind == "image_classes":
            values[task] = np.array([0.7, 0.2, 0.1], np.float32)
        else:
            values[task] = rng.random((*size_hw, 3) if kind == "normals" else size_hw, np.float32)
    placement = place((rgb_HWC.shape[0], rgb_HWC.shape[1]), size_hw, "letterbox")
    return Result(values, plan, {}, placement, placement.image_hw, {task: SPECS[task] for task in values})


@pytest.fixture
def make_pilot(make_plan: Callable[..., Plan]) -> Callable[..., Pilot]:
    """A pilot over widths .25, .5, .75 and 1, each as slow as it is wide."""

    def make(interval_ms: float, full_ms: float, **options: Any) -> Pilot:
        widths = (0.25, 0.5, 0.75, 1.0)
        return Pilot([make_plan(width) for width in widths], [full_ms * w for w in widths], interval_ms, **options)

    return make


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Two seconds at 30 frames a second, 64 x 48, getting brighter."""
    return write_film(tmp_path / "film.mp4", 60)


def write_film(path: Path, count: int, fps: float = 30.0, size_hw: tuple[int, int] = (48, 64)) -> Path:
    """A film whose frame n is grey, of brightness 4 n."""
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), fps, size_hw[::-1])
    assert writer.isOpened()
    for number in range(count):
        writer.write(numbered(4 * number, size_hw))
    writer.release()
    return path


def read_film(path: Path) -> tuple[float, list[np.ndarray]]:
    """Frames a second, and the frames (BGR) of a video."""
    capture, frames = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG), []
    fps = capture.get(cv2.CAP_PROP_FPS)
    while True:
        done, frame = capture.read()
        if not done:
            return fps, frames
        frames.append(frame)
