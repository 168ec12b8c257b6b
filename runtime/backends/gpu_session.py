"""A session made of engines, each for one graph for GPUs: it is fed like the CPU graph whose place it takes.

Axes: I images, B rows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..bundles import graph_names as names
from ..errors import BackendError
from .gpu_selection import Chunk, split, take

if TYPE_CHECKING:
    from ..bundles.gpu_spec import GpuGraphSpec


class FixedEngine(Protocol):
    """A loaded graph of fixed shapes. An input that is read-only, and the same object as last time, is not copied."""

    @property
    def buffer_bytes(self) -> int: ...

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]: ...

    def close(self) -> None: ...


_OF_TASKS = (names.ROUTER, names.ROUTER_BIAS, names.ADAPTER)


class GpuSession:
    """The engines of one graph of the bundle, by top_k and batch, each loaded when it is first needed.

    Args:
        specs: of the engines that were built.
        open_engine: loads one; the engine, and the bytes that it holds on the device.
    """

    def __init__(
        self, specs: Sequence[GpuGraphSpec], open_engine: Callable[[GpuGraphSpec], tuple[FixedEngine, int]]
    ) -> None:
        self._specs = tuple(specs)
        self._open = open_engine
        self._engines: dict[str, tuple[FixedEngine, int]] = {}
        self._padded: dict[tuple[str, str], tuple[np.ndarray, tuple[int, ...], np.ndarray]] = {}
        self._lock = threading.Lock()
        self._closed = False
        first = specs[0]
        self._is_encoder = first.kind == "encoder"
        ports = [port.name for port in first.inputs]
        fixed = [names.IMAGE_INDEX] if self._is_encoder and names.IMAGE_INDEX not in ports else []
        fixed += [names.TOP_K] if first.top_k else []
        self.inputs: tuple[str, ...] = (*ports, *fixed)
        self.outputs: tuple[str, ...] = tuple(port.name for port in first.outputs)

    def run(self, feeds: Mapping[str, np.ndarray], *, shrink: bool = False) -> dict[str, np.ndarray]:
        """All outputs by name. Rows beyond the largest batch, or of another top_k, are further runs.

        Raises:
            BackendError: an input is missing, no engine of that top_k was built, or a run failed.
        """
        missing = [name for name in self.inputs if name not in feeds]
        if missing:
            raise BackendError(f"the graph wants the input {missing[0]!r}; there are {', '.join(feeds)}")
        if self._closed:
            raise BackendError("the session is closed")
        if self._is_encoder:
            image_of_row = [int(index) for index in feeds[names.IMAGE_INDEX]]
            images = len(feeds[names.IMAGE])
        else:
            images = len(feeds[names.TOKENS])
            image_of_row = list(range(images))
        top_k_B = [int(k) for k in feeds[names.TOP_K]] if names.TOP_K in self.inputs else [0] * len(image_of_row)
        chunks = split(self._specs, top_k_B, image_of_row)
        answers = [self._engine(chunk.spec).run(self._feed(chunk, feeds)) for chunk in chunks]
        return {name: self._join(name, chunks, answers, images, len(image_of_row)) for name in self.outputs}

    def load_first(self) -> None:
        """Load the cheapest engine of the largest top_k: what is wrong with engines shows before the first request.

        Raises:
            BackendError: it cannot be loaded.
        """
        self._engine(min(self._specs, key=lambda spec: (-spec.top_k, spec.flops)))

    def memory_bytes(self) -> int | None:
        """Weights and buffers of the engines loaded so far; the scratch memory belongs to all sessions together."""
        with self._lock:
            return sum(held + engine.buffer_bytes for engine, held in self._engines.values())

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for engine, _ in self._engines.values():
                engine.close()
            self._engines.clear()
            self._padded.clear()

    def _engine(self, spec: GpuGraphSpec) -> FixedEngine:
        with self._lock:
            if self._closed:
                raise BackendError("the session is closed")
            if spec.file not in self._engines:
                self._engines[spec.file] = self._open(spec)
            return self._engines[spec.file][0]

    def _feed(self, chunk: Chunk, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The inputs of one run, as large as its graph is: the first row and image stand in for those that lack."""
        spec, found = chunk.spec, {}
        has_index = any(port.name == names.IMAGE_INDEX for port in spec.inputs)
        for port in spec.inputs:
            if port.name == names.IMAGE and has_index:
                found[port.name] = take(feeds[port.name], chunk.images, spec.images)
            elif port.name == names.IMAGE:  # such a graph has an image for each row
                index_B = feeds[names.IMAGE_INDEX]
                found[port.name] = take(feeds[port.name], [int(index_B[row]) for row in chunk.rows], spec.images)
            elif port.name == names.IMAGE_INDEX:
                found[port.name] = np.array([*chunk.local, *[0] * (spec.rows - len(chunk.local))], np.int32)
            elif port.name in _OF_TASKS:
                found[port.name] = self._rows_of_tasks(chunk, port.name, feeds[port.name])
            else:
                found[port.name] = take(feeds[port.name], chunk.rows, spec.rows)
        return found

    def _rows_of_tasks(self, chunk: Chunk, name: str, given: np.ndarray) -> np.ndarray:
        """Routers or adapters of a chunk: the same object again for the same tasks, so that the device keeps them."""
        key = (chunk.spec.file, name)
        with self._lock:
            known = self._padded.get(key)
            if known is not None and known[0] is given and known[1] == chunk.rows:
                return known[2]
        padded = take(given, chunk.rows, chunk.spec.rows)
        if not given.flags.writeable:
            padded.setflags(write=False)
            with self._lock:
                self._padded[key] = given, chunk.rows, padded
        return padded

    def _join(
        self,
        name: str,
        chunks: Sequence[Chunk],
        answers: Sequence[Mapping[str, np.ndarray]],
        images: int,
        rows: int,
    ) -> np.ndarray:
        """An output of all runs, in the order of the call's rows; the detail in that of its images."""
        of_images = self._is_encoder and name == names.DETAIL
        count = images if of_images else rows
        if len(chunks) == 1 and not of_images and chunks[0].rows == tuple(range(rows)):
            return answers[0][name][:rows]
        joined = np.empty((count, *answers[0][name].shape[1:]), answers[0][name].dtype)
        for chunk, answer in zip(chunks, answers, strict=True):
            if not of_images:
                joined[list(chunk.rows)] = answer[name][: len(chunk.rows)]
            elif any(port.name == names.IMAGE_INDEX for port in chunk.spec.inputs):
                joined[list(chunk.images)] = answer[name][: len(chunk.images)]
            else:
                joined[[chunk.images[place] for place in chunk.local]] = answer[name][: len(chunk.rows)]
        return joined
