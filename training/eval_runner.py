"""Configurations of a bundle, run on many images: what the engine computes, each part once.

The encoder runs once per (width, top_k, task), and every decoder width of the task reads the same tokens. A test holds
the answers equal to those of `Engine`.

Axes: I images, B encoder rows, R rows of one task, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

import numpy as np

from ..runtime import Bundle
from ..runtime import graph_names as names
from ..runtime.backends import make_backend
from ..runtime.manifest import GraphSpec, Manifest
from ..runtime.postprocess import finish
from ..runtime.preprocess import preprocess
from ..runtime.routing import Routers
from ..runtime.sessions import SessionPool

__all__ = ["ROWS", "Answer", "Configuration", "Runner", "configurations", "flops"]

ROWS = 24  # of one encoder call: batching gains little beyond


@dataclass(frozen=True)
class Configuration:
    """What one task of one request runs through; top_k is 0 for dense models."""

    task: str
    encoder_width: float
    top_k: int
    decoder_width: float


@dataclass(frozen=True)
class Answer:
    """One task's answers under one configuration, an entry per image."""

    configuration: Configuration
    values: list[np.ndarray]


def configurations(manifest: Manifest, tasks: Sequence[str], *, grid: bool) -> list[Configuration]:
    """The diagonal, decoder as wide as encoder and all experts, for every width; or with `grid` every combination.

    The diagonal comes first either way, and is in the grid only once.
    """
    most = manifest.encoder.top_k if manifest.is_moe else 0
    chosen = [
        Configuration(task, width, most, _nearest(_head_widths(manifest, task), width))
        for task in tasks
        for width in manifest.widths
    ]
    if grid:
        top_ks = range(1, most + 1) if most else (0,)
        chosen += [
            Configuration(task, width, top_k, decoder)
            for task in tasks
            for width in manifest.widths
            for top_k in top_ks
            for decoder in _head_widths(manifest, task)
        ]
    return list(dict.fromkeys(chosen))


def _head_widths(manifest: Manifest, task: str) -> list[float]:
    return sorted({graph.width for graph in manifest.graphs if graph.task == task})


def _nearest(widths: Sequence[float], width: float) -> float:
    """Equal widths were merged at export: the largest that is no wider stands for `width`."""
    return max((known for known in widths if known <= width), default=min(widths))


def flops(bundle: Bundle, configuration: Configuration) -> int:
    """FLOPs of one image with this task alone."""
    size_hw = bundle.manifest.sizes[0]
    encoder = bundle.graph("encoder", size_hw, configuration.encoder_width).cost
    head = bundle.graph("head", size_hw, configuration.decoder_width, configuration.task).cost
    experts = configuration.top_k * encoder.flops_row_per_expert
    return encoder.flops_image + encoder.flops_row + experts + head.flops_row


class Runner:
    """Runs configurations of a bundle at its first size. Several threads may call `answers` side by side."""

    def __init__(self, bundle: Bundle, chosen: Sequence[Configuration], *, threads: int = 1) -> None:
        self.bundle = bundle
        self.size_hw = bundle.manifest.sizes[0]
        self.chosen = tuple(chosen)
        self._specs = {task.name: task for task in bundle.manifest.tasks}
        self._routers = Routers(bundle)
        self._sessions = SessionPool(bundle, make_backend("onnxruntime", threads=threads))

    @property
    def images_per_call(self) -> int:
        """How many images fill an encoder call."""
        rows = max(len(self._rows(width)) for width in self._encoder_widths())
        return max(1, ROWS // rows)

    def answers(self, images: Sequence[np.ndarray]) -> Iterator[Answer]:
        """Every configuration's answers for uint8 pictures of any size."""
        preprocessing = self.bundle.manifest.preprocessing
        planes_ICHW = np.stack([preprocess(image, self.size_hw, preprocessing)[0] for image in images])
        for width in self._encoder_widths():
            rows = self._rows(width)
            tokens_BND, detail_ICHW = self._encode(planes_ICHW, width, rows)
            for number, (task, top_k) in enumerate(rows):
                mine = slice(number * len(images), (number + 1) * len(images))
                for chosen in self.chosen:
                    if (chosen.encoder_width, chosen.top_k) == (width, top_k) and chosen.task in task:
                        yield Answer(chosen, self._decode(chosen, tokens_BND[mine], detail_ICHW))

    def _encoder_widths(self) -> list[float]:
        return sorted({chosen.encoder_width for chosen in self.chosen})

    def _rows(self, width: float) -> list[tuple[tuple[str, ...], int]]:
        """What the encoder computes for each image at a width: (tasks that read it, top_k)."""
        here = [chosen for chosen in self.chosen if chosen.encoder_width == width]
        if not self.bundle.manifest.is_moe:
            return [(tuple(dict.fromkeys(chosen.task for chosen in here)), 0)]
        return list(dict.fromkeys(((chosen.task,), chosen.top_k) for chosen in here))

    def _encode(
        self, planes_ICHW: np.ndarray, width: float, rows: Sequence[tuple[tuple[str, ...], int]]
    ) -> tuple[np.ndarray, np.ndarray | None]:
        images = len(planes_ICHW)
        feeds = {names.IMAGE: planes_ICHW, names.IMAGE_INDEX: np.tile(np.arange(images, dtype=np.int64), len(rows))}
        if self.bundle.manifest.is_moe:
            feeds[names.TOP_K] = np.repeat(np.array([top_k for _, top_k in rows], np.int64), images)
            tasks = [tasks[0] for tasks, _ in rows for _ in range(images)]
            feeds[names.ROUTER], feeds[names.ROUTER_BIAS] = self._routers.stack(tasks)
        outputs = self._run(self.bundle.graph("encoder", self.size_hw, width), feeds)
        return outputs[names.TOKENS], outputs.get(names.DETAIL)

    def _decode(
        self, chosen: Configuration, tokens_RND: np.ndarray, detail_RCHW: np.ndarray | None
    ) -> list[np.ndarray]:
        feeds = {names.TOKENS: tokens_RND}
        if detail_RCHW is not None:
            feeds[names.DETAIL] = detail_RCHW
        graph = self.bundle.graph("head", self.size_hw, chosen.decoder_width, chosen.task)
        kind = self._specs[chosen.task].kind
        return [finish(kind, row) for row in self._run(graph, feeds)[chosen.task]]

    def _run(self, graph: GraphSpec, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        session = self._sessions.get(graph)
        return session.run({name: feeds[name] for name in session.inputs})

    def __enter__(self) -> Runner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sessions.close()
