"""A backend without a library: outputs are made by a function, so that everything above can be tested."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from ..errors import BackendError
from .base import Tier

Answer = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]


class FakeSession:
    """Answers by a function, and remembers what it was fed."""

    def __init__(self, inputs: tuple[str, ...], outputs: tuple[str, ...], answer: Answer) -> None:
        self.inputs, self.outputs, self._answer = inputs, outputs, answer
        self.calls: list[dict[str, np.ndarray]] = []
        self.closed = False

    def run(self, feeds: Mapping[str, np.ndarray], *, shrink: bool = False) -> dict[str, np.ndarray]:
        if self.closed:
            raise BackendError("the session is closed")
        self.calls.append(dict(feeds))
        return self._answer(feeds)

    def memory_bytes(self) -> int | None:
        return None

    def close(self) -> None:
        self.closed = True


class FakeBackend:
    """Makes each session by calling `make(graph_bytes)`."""

    name, version, threads, precision, precisions = "fake", "0", 1, "fp32", ("fp32",)
    graph_precisions = ("fp32", "int8")

    def __init__(self, make: Callable[[bytes], FakeSession]) -> None:
        self._make = make

    def load(self, graph: bytes, folder: Path, *, tier: Tier = "packed") -> FakeSession:
        return self._make(graph)
