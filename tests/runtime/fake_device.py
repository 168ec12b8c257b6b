"""A device on paper that runs a bundle's graphs: known times, a clock of its own, so that measuring can be checked.

Axes: I images, B rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import numpy as np

from slimpath.runtime.backends.fake import FakeBackend, FakeSession
from slimpath.runtime.bundles.bundle import Bundle
from slimpath.runtime.bundles.graph_spec import GraphSpec
from slimpath.runtime.engine import Engine

MS_PER_MFLOP = 200.0  # the tests' graphs have some 100,000 FLOPs: 20 ms and more, so that few runs fill a minute


class PaperDevice:
    """A clock, and a backend whose runs move it on.

    Args:
        slow: how many times slower than usual the device is, by the second.
        noise: standard deviation of the log of each run's time.
        engine_ms: what a whole call takes beside its parts, per call and per task.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        slow: Callable[[float], float] = lambda now_s: 1.0,
        noise: float = 0.0,
        engine_ms: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        self.bundle, self.now_s, self.busy_s = bundle, 0.0, 0.0
        self._slow, self._noise, self._engine_ms = slow, noise, engine_ms
        self._rng = np.random.default_rng(0)
        self._by_hash = {graph.sha256: graph for graph in bundle.manifest.graphs}
        self._channels = {task.name: task for task in bundle.manifest.tasks}
        self.backend = FakeBackend(self._make)

    def clock(self) -> float:
        return self.now_s

    def engine(self) -> Engine:
        """An engine whose calls take as long as their graphs and `engine_ms`."""
        device = self

        class TimedEngine(Engine):
            def __call__(self, *arguments, **options):  # type: ignore[no-untyped-def]
                result = super().__call__(*arguments, **options)
                call_ms, task_ms = device._engine_ms
                device.take(call_ms + task_ms * len(result))
                return result

        return TimedEngine(self.bundle, self.backend)

    def take(self, milliseconds: float) -> None:
        """Move the clock on by work that takes so long on the undisturbed device."""
        disturbed = self._slow(self.now_s) * np.exp(self._noise * self._rng.standard_normal())
        self.now_s += milliseconds * float(disturbed) / 1e3
        self.busy_s += milliseconds * float(disturbed) / 1e3

    def sleep(self, seconds: float) -> None:
        """Let time pass without work."""
        self.now_s += seconds

    def true_ms(self, graph: GraphSpec, images: int, rows: int, top_k: int) -> float:
        """How long a graph really takes: less than in proportion, as on real devices."""
        cost = graph.cost
        flops = images * cost.flops_image + rows * cost.flops_row + 1.6 * rows * top_k * cost.flops_row_per_expert
        return 2.0 + (flops / 1e6) ** 0.9 * MS_PER_MFLOP

    def _make(self, data: bytes) -> FakeSession:
        graph = self._by_hash[hashlib.sha256(data).hexdigest()]
        return self._encoder(graph) if graph.kind == "encoder" else self._head(graph)

    def _encoder(self, graph: GraphSpec) -> FakeSession:
        encoder, (height, width) = self.bundle.manifest.encoder, graph.size_hw
        tokens = height // encoder.patch * (width // encoder.patch) + 1

        def answer(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            images, rows = len(feeds["image"]), len(feeds["image_index"])
            assert feeds["image"].shape[1:] == (3, height, width) and feeds["router"].shape[0] == rows
            top_k = int(feeds["top_k"].sum()) // rows
            self.take(self.true_ms(graph, images, rows, top_k))
            return {
                "tokens": np.zeros((rows, tokens, encoder.dim), np.float32),
                "detail": np.zeros((images, encoder.detail_channels, height // 4, width // 4), np.float32),
            }

        return FakeSession(("image", "image_index", "top_k", "router", "router_bias"), ("tokens", "detail"), answer)

    def _head(self, graph: GraphSpec) -> FakeSession:
        spec = self._channels[graph.task or ""]
        flat = spec.kind == "image_classes"

        def answer(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            rows = len(feeds["tokens"])
            self.take(self.true_ms(graph, rows, rows, 0))
            shape = (rows, spec.channels) if flat else (rows, spec.channels, *graph.size_hw)
            return {spec.name: np.zeros(shape, np.float32)}

        return FakeSession(("tokens",) if flat else ("tokens", "detail"), (spec.name,), answer)
