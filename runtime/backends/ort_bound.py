"""A graph of fixed shapes in ONNX Runtime with its inputs and outputs bound to memory of the device, for good.

That is what CUDA graphs want: a run is recorded once, and replayed on the very same addresses. Nothing is allocated
in a run, and what did not change is not copied.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..bundles.gpu_spec import GpuGraphSpec
from ..errors import BackendError

_log = logging.getLogger(__name__)

# ONNX Runtime runs a graph plainly before it records it: once or twice, as its versions differ.
WARMING_RUNS = 3


class BoundEngine:
    """One session with an IOBinding.

    Args:
        ort: the module, `session` one of its sessions of the graph that `spec` describes.
        device: where the tensors lie: ("cuda", 0).

    Raises:
        BackendError: memory is full, or the session is not one of that graph.
    """

    def __init__(self, ort: Any, session: Any, spec: GpuGraphSpec, device: tuple[str, int]) -> None:
        self._session: Any = session
        self._on_host = device[0] == "cpu"
        self._lock = threading.Lock()
        self._last: dict[str, np.ndarray] = {}
        self._inputs: dict[str, Any] = {}
        self._outputs: dict[str, Any] = {}
        self._shapes = {port.name: (port.shape, np.dtype(port.dtype)) for port in (*spec.inputs, *spec.outputs)}
        try:
            self._binding: Any = session.io_binding()
            for values, ports, bind in (
                (self._inputs, spec.inputs, self._binding.bind_ortvalue_input),
                (self._outputs, spec.outputs, self._binding.bind_ortvalue_output),
            ):
                for port in ports:
                    made = ort.OrtValue.ortvalue_from_shape_and_type(list(port.shape), np.dtype(port.dtype), *device)
                    values[port.name] = made
                    bind(port.name, made)
        except Exception as error:  # ONNX Runtime raises a dozen types of its own, none with a common base
            raise BackendError(f"{spec.file}: ONNX Runtime cannot bind its tensors: {error}") from error
        for _ in range(WARMING_RUNS):
            self.run({port.name: np.zeros(*self._shapes[port.name]) for port in spec.inputs})

    @property
    def buffer_bytes(self) -> int:
        """Of all inputs and outputs."""
        return sum(int(np.prod(shape)) * dtype.itemsize for shape, dtype in self._shapes.values())

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """All outputs by name. See `FixedEngine`.

        Raises:
            BackendError: an input is missing, of another shape or type, or ONNX Runtime failed.
        """
        with self._lock:
            if self._session is None:
                raise BackendError("the session is closed")
            for name, value in self._inputs.items():
                self._write(name, value, feeds)
            try:
                self._session.run_with_iobinding(self._binding)
                found = {name: value.numpy() for name, value in self._outputs.items()}
            except Exception as error:  # see above
                raise BackendError(f"ONNX Runtime failed: {error}") from error
            # From the device it is a copy, but of the host's memory a view, which the next run would change.
            return {name: value.copy() for name, value in found.items()} if self._on_host else found

    def close(self) -> None:
        with self._lock:
            self._session = self._binding = None
            self._inputs.clear()
            self._outputs.clear()
            self._last.clear()

    def _write(self, name: str, bound: Any, feeds: Mapping[str, np.ndarray]) -> None:
        given = feeds.get(name)
        if given is None:
            raise BackendError(f"the graph wants the input {name!r}; there are {', '.join(feeds)}")
        if given is self._last.get(name):
            return
        shape, dtype = self._shapes[name]
        if given.shape != shape or not np.can_cast(given.dtype, dtype, "same_kind"):
            raise BackendError(
                f"the graph takes {name} as {dtype} {list(shape)}, got {given.dtype} {list(given.shape)}"
            )
        bound.update_inplace(np.ascontiguousarray(given, dtype))
        if given.flags.writeable:
            self._last.pop(name, None)
        else:
            self._last[name] = given


def load_recorded(ort: Any, graph: bytes, options: Any, providers: Any, plain: Any) -> Any:
    """A session whose runs are recorded as a CUDA graph; where ONNX Runtime refuses that, one without, and a warning.

    Args:
        options: makes session options: a session changes those that it is given.
        providers: asked for with CUDA graphs, and `plain` without.

    Raises:
        Exception: whatever ONNX Runtime raises for the plain one.
    """
    try:
        return ort.InferenceSession(graph, options(), providers=providers, enable_fallback=0)
    except Exception as error:  # see above
        session = ort.InferenceSession(graph, options(), providers=plain, enable_fallback=0)
        _log.warning("a graph runs without a CUDA graph, and slower: %s", error)
        return session
