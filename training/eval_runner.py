"""Configurations of a bundle, run on many images: what the engine computes, each part once.

The encoder runs once per (width, precision, top_k, task), and every decoder width of the task reads the same tokens. A
test holds the answers equal to those of `Engine`. In fp32 many rows share a call; in int8 each has one to itself, as
the rows of a call share the scales of their activations.

Axes: I images, B encoder rows, R rows of one task, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import NamedTuple

import numpy as np

from ..runtime import Bundle
from ..runtime.backends import make_backend
from ..runtime.backends.base import Backend
from ..runtime.bundles import graph_names as names
from ..runtime.bundles.graph_spec import FULL_PRECISION, GraphSpec
from ..runtime.bundles.manifest import Manifest
from ..runtime.imaging.postprocess import finish
from ..runtime.imaging.preprocess import preprocess
from ..runtime.running.adapters import Adapters
from ..runtime.running.routing import Routers
from ..runtime.running.sessions import SessionPool

__all__ = ["ROWS", "Answer", "Configuration", "Runner", "configurations", "flops", "without_paths"]

ROWS = 24  # of one encoder call: batching gains little beyond


@dataclass(frozen=True)
class Configuration:
    """What one task of one request runs through; top_k is 0 for dense models.

    `every_expert` is an engine's that no expert path confines: what leaving experts out is measured against.
    """

    task: str
    encoder_width: float
    top_k: int
    decoder_width: float
    every_expert: bool = False
    precision: str = FULL_PRECISION  # of the bundle's graphs

    @property
    def extent(self) -> tuple[float, int, float]:
        """Orders configurations from the narrowest to the widest."""
        return self.encoder_width, self.top_k, self.decoder_width


class _Row(NamedTuple):
    """What the encoder computes for each image: tasks that read it, and how it is routed."""

    tasks: tuple[str, ...]
    top_k: int = 0
    every_expert: bool = False

    def serves(self, chosen: Configuration) -> bool:
        return chosen.task in self.tasks and (chosen.top_k, chosen.every_expert) == (self.top_k, self.every_expert)


@dataclass(frozen=True)
class Answer:
    """One task's answers under one configuration, an entry per image."""

    configuration: Configuration
    values: list[np.ndarray]


def configurations(
    manifest: Manifest, tasks: Sequence[str], *, grid: bool, precision: str = FULL_PRECISION
) -> list[Configuration]:
    """The diagonal, decoder as wide as encoder and all experts, for every width; or with `grid` every combination.

    The diagonal comes first either way, and is in the grid only once.
    """
    most = manifest.encoder.top_k if manifest.is_moe else 0
    encoders = {graph.width for graph in manifest.graphs if graph.task is None and graph.precision == precision}
    widths = sorted(encoders)
    chosen = [
        Configuration(task, width, most, _nearest(_head_widths(manifest, task), width))
        for task in tasks
        for width in widths
    ]
    if grid:
        top_ks = range(1, most + 1) if most else (0,)
        chosen += [
            Configuration(task, width, top_k, decoder)
            for task in tasks
            for width in widths
            for top_k in top_ks
            for decoder in _head_widths(manifest, task)
        ]
    return [replace(configuration, precision=precision) for configuration in dict.fromkeys(chosen)]


def without_paths(manifest: Manifest, chosen: Sequence[Configuration]) -> list[Configuration]:
    """The same configurations with all experts, of the tasks whose expert paths leave some out."""
    paths = {task: router.paths for task, router in manifest.encoder.routers.items()}
    confined = {task for task, path in paths.items() if path is not None and path.open_biases}
    return [replace(configuration, every_expert=True) for configuration in chosen if configuration.task in confined]


def _head_widths(manifest: Manifest, task: str) -> list[float]:
    return sorted({graph.width for graph in manifest.graphs if graph.task == task})


def _nearest(widths: Sequence[float], width: float) -> float:
    """Equal widths were merged at export: the largest that is no wider stands for `width`."""
    return max((known for known in widths if known <= width), default=min(widths))


def flops(bundle: Bundle, configuration: Configuration, size_hw: tuple[int, int] | None = None) -> int:
    """FLOPs of one image with this task alone, at the bundle's first size unless told."""
    size_hw = size_hw or bundle.manifest.sizes[0]
    encoder = bundle.graph("encoder", size_hw, configuration.encoder_width).cost
    head = bundle.graph("head", size_hw, configuration.decoder_width, configuration.task).cost
    experts = configuration.top_k * encoder.flops_row_per_expert
    return encoder.flops_image + encoder.flops_row + experts + head.flops_row


class Runner:
    """Runs configurations of a bundle, at its first size unless told. Several threads may call `answers` at once."""

    def __init__(
        self,
        bundle: Bundle,
        chosen: Sequence[Configuration],
        *,
        backend: Backend | None = None,
        threads: int = 1,
        size_hw: tuple[int, int] | None = None,
    ) -> None:
        self.bundle = bundle
        self.size_hw = size_hw or bundle.manifest.sizes[0]
        self.chosen = tuple(chosen)
        self._specs = {task.name: task for task in bundle.manifest.tasks}
        self._adapters = Adapters(bundle)
        self._routers = {every: Routers(bundle, all_experts=every) for every in (False, True)}
        self._sessions = SessionPool(bundle, backend or make_backend("onnxruntime", threads=threads))

    @property
    def images_per_call(self) -> int:
        """How many images fill an encoder call."""
        rows = max(len(self._rows(*encoder)) for encoder in self._encoders())
        return max(1, ROWS // rows)

    def answers(self, images: Sequence[np.ndarray]) -> Iterator[Answer]:
        """Every configuration's answers for uint8 pictures of any size."""
        preprocessing = self.bundle.manifest.preprocessing
        planes_ICHW = np.stack([preprocess(image, self.size_hw, preprocessing)[0] for image in images])
        for width, precision in self._encoders():
            rows = self._rows(width, precision)
            encode = self._encode if precision == FULL_PRECISION else self._encode_apart
            encoded = encode(planes_ICHW, self._encoder(width, precision), rows)
            for number, row in enumerate(rows):
                mine = slice(number * len(images), (number + 1) * len(images))
                for chosen in self.chosen:
                    if (chosen.encoder_width, chosen.precision) == (width, precision) and row.serves(chosen):
                        # The detail is per image, all else that the encoder gives per row.
                        read = {name: v if name == names.DETAIL else v[mine] for name, v in encoded.items()}
                        yield Answer(chosen, self._decode(chosen, read))

    def _encoders(self) -> list[tuple[float, str]]:
        """Width and precision of every encoder."""
        return sorted({(chosen.encoder_width, chosen.precision) for chosen in self.chosen})

    def _encoder(self, width: float, precision: str) -> GraphSpec:
        return self.bundle.graph("encoder", self.size_hw, width, precision=precision)

    def _rows(self, width: float, precision: str) -> list[_Row]:
        """What an encoder computes for each image."""
        here = [chosen for chosen in self.chosen if (chosen.encoder_width, chosen.precision) == (width, precision)]
        if not self.bundle.manifest.rows_per_task:
            return [_Row(tuple(dict.fromkeys(chosen.task for chosen in here)))]
        return list(dict.fromkeys(_Row((chosen.task,), chosen.top_k, chosen.every_expert) for chosen in here))

    def _encode_apart(self, planes_ICHW: np.ndarray, graph: GraphSpec, rows: Sequence[_Row]) -> dict[str, np.ndarray]:
        """The same as `_encode`, a call for every row of every image."""
        of_rows = [[self._encode(plane[None], graph, [row]) for plane in planes_ICHW] for row in rows]
        calls = [call for calls in of_rows for call in calls]
        found = {name: np.concatenate([call[name] for call in calls]) for name in calls[0]}
        if names.DETAIL in found:
            found[names.DETAIL] = found[names.DETAIL][: len(planes_ICHW)]  # the same in every row
        return found

    def _encode(self, planes_ICHW: np.ndarray, graph: GraphSpec, rows: Sequence[_Row]) -> dict[str, np.ndarray]:
        images = len(planes_ICHW)
        feeds = {names.IMAGE: planes_ICHW, names.IMAGE_INDEX: np.tile(np.arange(images, dtype=np.int64), len(rows))}
        if self.bundle.manifest.is_moe:
            feeds[names.TOP_K] = np.repeat(np.array([row.top_k for row in rows], np.int64), images)
            of_rows = [self._routers[row.every_expert].stack([row.tasks[0]] * images) for row in rows]
            feeds[names.ROUTER], feeds[names.ROUTER_BIAS] = map(np.concatenate, zip(*of_rows))
        if graph.adapter_rows:
            of_rows = [task for row in rows for task in [row.tasks[0]] * images]
            feeds[names.ADAPTER] = self._adapters.stack(graph, of_rows)
        return self._run(graph, feeds)

    def _decode(self, chosen: Configuration, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        where = (self.size_hw, chosen.decoder_width, chosen.task)
        graph = self.bundle.graph("head", *where, precision=chosen.precision)
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
