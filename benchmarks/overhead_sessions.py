"""Sessions that know how long their runs took, so that what a call adds to them is known, too."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from slimpath.runtime import Engine
from slimpath.runtime.backends.base import Session, Tier
from slimpath.runtime.backends.ort import OrtBackend


class TimedBackend(OrtBackend):
    """ONNX Runtime, remembering how long the runs of all its sessions took."""

    def __init__(self, *, threads: int | None = None) -> None:
        super().__init__(threads=threads)
        self.spent_s = 0.0

    def load(self, graph: bytes, folder: Path, *, tier: Tier = "packed") -> TimedSession:  # type: ignore[override]
        return TimedSession(self.plain(graph, folder, tier), self)

    def plain(self, graph: bytes, folder: Path, tier: Tier) -> Session:
        """A session that is not timed."""
        return super().load(graph, folder, tier=tier)


class TimedSession:
    """A session whose runs are timed, feeds and outputs included."""

    def __init__(self, session: Session, backend: TimedBackend) -> None:
        self.inputs, self.outputs = session.inputs, session.outputs
        self._session, self._backend = session, backend

    def run(self, feeds: Mapping[str, np.ndarray], *, shrink: bool = False) -> dict[str, np.ndarray]:
        started = time.perf_counter()
        outputs = self._session.run(feeds, shrink=shrink)
        self._backend.spent_s += time.perf_counter() - started
        return outputs

    def memory_bytes(self) -> int | None:
        return self._session.memory_bytes()

    def close(self) -> None:
        self._session.close()


def overheads_ms(engine: Engine, backend: TimedBackend, tasks: list[str], budget: str | None, runs: int) -> list[float]:
    """The engine's own milliseconds of every call; half of the calls warm up and do not count."""
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    samples = []
    for _ in range(2 * runs):
        backend.spent_s = 0.0
        started = time.perf_counter()
        result = engine(image, tasks, budget)
        total_ms = (time.perf_counter() - started) * 1e3
        parts_ms = result.timings_ms["preprocess"] + result.timings_ms["postprocess"] + backend.spent_s * 1e3
        samples.append(total_ms - parts_ms)
    return samples[runs:]
