"""The workbench of calibration: a bundle's graphs, the pre- and the postprocessing, each ready to run on real pictures.

Encoders get real pictures, in turn, and the tasks take turns in the rows: which experts are visited depends on both.
Heads are dense, so noise does for them.
Axes: I images, B rows, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..backends.base import Session
from ..bundles import graph_names as names
from ..bundles.graph_spec import GraphSpec
from ..errors import GraphError
from ..imaging.images import ImageSource, load_image
from ..imaging.postprocess import finish
from ..imaging.preprocess import preprocess
from ..running.adapters import Adapters
from ..running.routing import Routers
from ..tasks import TaskSpec
from .calibrate_points import RunPoint

if TYPE_CHECKING:
    from ..bundles.bundle import Bundle

ROOM_FILE = Path(__file__).resolve().parent.parent.parent / "assets" / "synthrooms_scene.npz"
IMAGE_SIZES_HW = ((240, 320), (480, 640), (720, 1280), (1080, 1920))  # what cameras give; others are interpolated
VARIATIONS = 4  # pictures, and orders of tasks, that a probe goes through


class GraphRun(Protocol):
    """Runs a graph once."""

    def __call__(self, *, shrink: bool = ...) -> object: ...


class Workbench:
    """Makes the functions that calibration times.

    Args:
        session_of: gives the loaded session of a graph.
        images: pictures as users will send them; None for a rendered room and two made of waves.
    """

    def __init__(
        self,
        bundle: Bundle,
        session_of: Callable[[GraphSpec], Session],
        images: Sequence[ImageSource] | None = None,
    ) -> None:
        self.bundle = bundle
        self.session_of = session_of
        self.pictures = [load_image(image).rgb for image in images] if images else default_pictures()
        self._routers = Routers(bundle)
        self._adapters = Adapters(bundle)
        self._specs = {task.name: task for task in bundle.manifest.tasks}
        self._rng = np.random.default_rng(0)

    def graph_run(self, point: RunPoint) -> GraphRun:
        """Runs a graph as the engine does, on other pictures and tasks each time; `shrink` also gives memory back.

        Raises:
            BackendError: the graph cannot be loaded.
            GraphError: it wants an input that there is not.
        """
        inputs = self.session_of(point.graph).inputs
        feeds = cycle([_only(inputs, feed) for feed in self._feeds(point)])

        def run(*, shrink: bool = point.images > 1) -> object:
            # Asked for each time: the engine may load a graph anew, in another tier.
            return self.session_of(point.graph).run(next(feeds), shrink=shrink)

        return run

    def preprocess_run(self, image_hw: tuple[int, int], size_hw: tuple[int, int]) -> Callable[[], object]:
        """Fits a picture of one size to a plane of another."""
        picture = resized(self.pictures[0], image_hw)
        preprocessing = self.bundle.manifest.preprocessing
        return lambda: preprocess(picture, size_hw, preprocessing)

    def postprocess_run(self, task: str, size_hw: tuple[int, int]) -> Callable[[], object]:
        """Turns a head's output into what a Result holds."""
        spec = self._specs[task]
        output = self._normal(*_output_shape(spec, size_hw))
        return lambda: finish(spec.kind, output)

    def _feeds(self, point: RunPoint) -> list[dict[str, np.ndarray]]:
        make = self._head_feed if point.graph.kind == "head" else self._encoder_feed
        return [make(point, variation) for variation in range(VARIATIONS)]

    def _encoder_feed(self, point: RunPoint, variation: int) -> dict[str, np.ndarray]:
        manifest = self.bundle.manifest
        pictures = [self.pictures[(variation + i) % len(self.pictures)] for i in range(point.images)]
        planes = [preprocess(picture, point.graph.size_hw, manifest.preprocessing)[0] for picture in pictures]
        feed = {
            names.IMAGE: np.stack(planes),
            names.IMAGE_INDEX: np.array([row * point.images // point.rows for row in range(point.rows)], np.int64),
        }
        tasks = manifest.task_names
        step = variation * max(len(tasks) // VARIATIONS, 1)
        rows = [tasks[(row + step) % len(tasks)] for row in range(point.rows)]
        if point.graph.adapter_rows:
            feed[names.ADAPTER] = self._adapters.stack(point.graph, rows)
        if manifest.is_moe:
            feed[names.TOP_K] = np.full(point.rows, point.top_k, np.int64)
            feed[names.ROUTER], feed[names.ROUTER_BIAS] = self._routers.stack(rows)
        return feed

    def _head_feed(self, point: RunPoint, variation: int) -> dict[str, np.ndarray]:
        encoder, (height, width) = self.bundle.manifest.encoder, point.graph.size_hw
        tokens = height // encoder.patch * (width // encoder.patch) + 1
        feed = {names.TOKENS: self._normal(point.rows, tokens, encoder.dim)}
        shapes = [(height // stride * (width // stride), dim) for stride, dim in encoder.levels]
        for number, shape in enumerate(shapes):
            deepest = number == len(shapes) - 1
            feed[names.TOKENS if deepest else names.level(number)] = self._normal(point.rows, *shape)
        for number in range(len(encoder.taps)):
            feed[names.level(number)] = self._normal(point.rows, tokens, encoder.dim)
        if encoder.detail_channels:
            feed[names.DETAIL] = self._normal(point.rows, encoder.detail_channels, height // 4, width // 4)
        return feed

    def _normal(self, *shape: int) -> np.ndarray:
        return self._rng.standard_normal(shape, dtype=np.float32)


def default_pictures() -> list[np.ndarray]:
    """uint8 [480, 640, 3] each: the rendered room that comes with slimpath if it is there, and two fields of waves."""
    size_hw = (480, 640)
    pictures = [_waves(size_hw, seed) for seed in (1, 2)]
    if ROOM_FILE.is_file():
        with np.load(ROOM_FILE) as room:
            picture = resized(room["image"], size_hw)
        pictures = [picture, np.ascontiguousarray(picture[:, ::-1]), *pictures]
    return pictures


def resized(picture: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """The picture at another size."""
    import cv2

    return cv2.resize(picture, size_hw[::-1], interpolation=cv2.INTER_LINEAR)


def _waves(size_hw: tuple[int, int], seed: int) -> np.ndarray:
    """Waves of many lengths, the longer the stronger, as in photographs (amplitude falls with frequency)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : size_hw[0], 0 : size_hw[1]].astype(np.float32)
    picture = np.zeros((*size_hw, 3), np.float32)
    for cycles in (1, 2, 4, 8, 16, 32, 64):
        angle, phase = rng.uniform(0, 2 * np.pi, 2)
        wave = np.sin((np.cos(angle) * x + np.sin(angle) * y) * (2 * np.pi * cycles / size_hw[1]) + phase)
        picture += wave[..., None] * (rng.uniform(0.3, 1, 3) / cycles).astype(np.float32)
    picture -= picture.min()
    return (picture * (255 / picture.max())).astype(np.uint8)


def _output_shape(spec: TaskSpec, size_hw: tuple[int, int]) -> tuple[int, ...]:
    return (spec.channels,) if spec.kind == "image_classes" else (spec.channels, *size_hw)


def _only(inputs: Sequence[str], feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a graph asks for: some do without the detail, or without the image index."""
    missing = [name for name in inputs if name not in feed]
    if missing:
        raise GraphError(f"the graph wants the input {missing[0]!r}; there are {', '.join(feed)}")
    return {name: feed[name] for name in inputs}
