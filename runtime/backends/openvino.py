"""OpenVINO on the CPU (optional extra).

What is shared and what is not: the weights lie on disk once and are read through one mapping, but every compiled graph
holds its own converted copy of its weights in memory. There is no mapped tier: `tier` changes nothing here.
`docs/backends.md` has the measured figures.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..cpus import usable_cpus
from ..errors import BackendError, GraphError
from .base import Tier, installed_version

# Not fp16: 1.3 times as long as fp32 on a CPU that has it (AVX512-FP16), and the length of normals underflows to NaN.
_HINTS = {"fp32": "f32", "bf16": "bf16"}


class OpenvinoSession:
    """One compiled model. Each thread that runs takes an infer request of its own.

    Args:
        precision: what the graph was really compiled to.
    """

    def __init__(self, compiled: Any, precision: str) -> None:
        self._compiled: Any = compiled
        self.precision = precision
        self.inputs: tuple[str, ...] = tuple(port.get_any_name() for port in compiled.inputs)
        self.outputs: tuple[str, ...] = tuple(port.get_any_name() for port in compiled.outputs)
        self._idle: list[Any] = []
        self._running = 0
        self._lock = threading.Lock()

    def run(self, feeds: Mapping[str, np.ndarray], *, shrink: bool = False) -> dict[str, np.ndarray]:
        if self._compiled is None:
            raise BackendError("the session is closed")
        if set(feeds) != set(self.inputs):  # OpenVINO would reuse what the last run left in an input
            raise BackendError(f"the graph has the inputs {', '.join(self.inputs)}, got {', '.join(feeds)}")
        request = self._take()
        try:
            results = request.infer(dict(feeds), share_inputs=True, share_outputs=False)
            outputs = {name: results[index] for index, name in enumerate(self.outputs)}
        except Exception as error:  # OpenVINO raises RuntimeError, and pybind's TypeError and ValueError
            self._give_back(None, shrink)
            raise BackendError(f"OpenVINO failed: {error}") from error
        self._give_back(request, shrink)
        return outputs

    def memory_bytes(self) -> int | None:
        """None: the CPU plugin does not say what it holds."""
        return None

    def close(self) -> None:
        with self._lock:
            self._compiled = None
            self._idle.clear()

    def _take(self) -> Any:
        with self._lock:
            if self._compiled is None:
                raise BackendError("the session is closed")
            self._running += 1
            return self._idle.pop() if self._idle else self._compiled.create_infer_request()

    def _give_back(self, request: Any, shrink: bool) -> None:
        with self._lock:
            self._running -= 1
            if self._compiled is None:
                return
            if shrink:
                # An infer request keeps buffers as large as its largest run; the plugin lets go of its own only while
                # nothing runs.
                self._idle.clear()
                if not self._running:
                    self._compiled.release_memory()
            elif request is not None:
                self._idle.append(request)


class OpenvinoBackend:
    """CPU models compiled for latency.

    Args:
        threads: per run; None for the CPUs that this process may use.
        precision: of the large products; routers stay in fp32 whatever it is. "fp32", "bf16", or "auto":
            bf16 where this CPU multiplies it natively, else fp32.

    Raises:
        BackendError: fewer than one thread, no such precision, or one that this CPU does not have.
    """

    tiers: tuple[Tier, ...] = ("packed",)
    loads_slowly = True

    def __init__(self, *, threads: int | None = None, precision: str = "fp32") -> None:
        if threads is not None and threads < 1:
            raise BackendError(f"threads must be at least 1, got {threads}")
        self.threads = threads or usable_cpus()
        self._core: Any = None
        self._lock = threading.Lock()
        self.precision = self._checked(precision)

    @property
    def name(self) -> str:
        """ "openvino", or with what it computes in: "openvino-bf16". A profile of the one says nothing of the other."""
        return "openvino" if self.precision == "fp32" else f"openvino-{self.precision}"

    @property
    def version(self) -> str:
        """Of the installed package; "missing" without it. Imports nothing."""
        return installed_version(("openvino",))

    @property
    def precisions(self) -> tuple[str, ...]:
        """What this CPU has, fp32 first. Imports OpenVINO."""
        found = self._library()[1].get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return ("fp32", "bf16") if "BF16" in found else ("fp32",)

    def load(self, graph: bytes, folder: Path, *, tier: Tier = "packed") -> OpenvinoSession:
        """Compile a graph: about a second for a large encoder.

        Where routers and counts cannot be kept in fp32 the whole graph is, and the session's `precision` says so.
        """
        from . import openvino_model

        ov, core = self._library()
        try:
            low = self.precision != "fp32"
            model = openvino_model.read_model(ov, core, graph, folder, fp32_routers=low)
            compiled = core.compile_model(model, "CPU", self._settings(self.precision))
            if low and not openvino_model.kept_in_fp32(compiled):
                compiled = core.compile_model(model, "CPU", self._settings("fp32"))
                return OpenvinoSession(compiled, "fp32")
        except (BackendError, GraphError):
            raise
        except Exception as error:  # see OpenvinoSession.run
            raise BackendError(f"OpenVINO {self.version} cannot load the graph: {error}") from error
        return OpenvinoSession(compiled, self.precision)

    def _settings(self, precision: str) -> dict[str, Any]:
        return {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": self.threads,
            # Several compiled graphs share these cores, and would all be pinned to the same ones.
            "ENABLE_CPU_PINNING": False,
            # Said explicitly: where a CPU has AMX, OpenVINO computes in bf16 unless told otherwise.
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
        }

    def _checked(self, precision: str) -> str:
        if precision == "fp32":
            return precision
        if precision == "auto":
            return "bf16" if "bf16" in self.precisions else "fp32"
        if precision not in _HINTS:
            raise BackendError(f"openvino has no precision {precision!r}", hint=f"it has {', '.join(_HINTS)}, auto")
        if precision not in self.precisions:
            raise BackendError(f"this CPU does not compute in {precision}", hint=f"use {', '.join(self.precisions)}")
        return precision

    def _library(self) -> tuple[Any, Any]:
        """The module and its Core, made on first use."""
        with self._lock:
            ov = _import_openvino()
            if self._core is None:
                self._core = ov.Core()
            return ov, self._core


def _import_openvino() -> Any:
    try:
        import openvino as ov

        ov.Core  # noqa: B018  a broken install is a folder without contents
    except (ImportError, AttributeError) as error:
        raise BackendError(f"OpenVINO cannot be imported: {error}", hint='pip install "slimpath[openvino]"') from error
    return ov
