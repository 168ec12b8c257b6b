"""ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from ..cpus import usable_cpus
from ..errors import BackendError
from .base import Tier

_DISTRIBUTIONS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
)


class OrtSession:
    """One InferenceSession."""

    def __init__(self, ort: Any, session: Any) -> None:
        self._session: Any = session
        self.inputs: tuple[str, ...] = tuple(value.name for value in session.get_inputs())
        self.outputs: tuple[str, ...] = tuple(value.name for value in session.get_outputs())
        self._shrinking = ort.RunOptions()
        self._shrinking.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def run(self, feeds: Mapping[str, np.ndarray], *, shrink: bool = False) -> dict[str, np.ndarray]:
        session = self._session
        if session is None:
            raise BackendError("the session is closed")
        try:
            outputs = session.run(None, dict(feeds), self._shrinking if shrink else None)
        except Exception as error:  # ONNX Runtime raises a dozen types of its own, none with a common base
            raise BackendError(f"ONNX Runtime failed: {error}") from error
        return dict(zip(self.outputs, outputs))

    def close(self) -> None:
        self._session = None


class OrtBackend:
    """CPU sessions that share the machine: none spins while another works.

    Args:
        threads: per session; None for the CPUs that this process may use.
    """

    name = "onnxruntime"

    def __init__(self, *, threads: int | None = None) -> None:
        if threads is not None and threads < 1:
            raise BackendError(f"threads must be at least 1, got {threads}")
        self.threads = threads or usable_cpus()

    def load(self, graph: bytes, folder: Path, *, tier: Tier = "packed") -> OrtSession:
        ort = _import_ort()
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # A spinning session starves the next one: encoder and 5 heads took 166 ms with spinning, 61 without.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # The checked bytes are loaded, not the file, and their external data only from this folder.
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
        if tier == "mapped":
            options.add_session_config_entry("session.disable_prepacking", "1")
        try:
            session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # see OrtSession.run
            raise BackendError(f"ONNX Runtime {ort.__version__} cannot load the graph: {error}") from error
        return OrtSession(ort, session)


def _import_ort() -> Any:
    try:
        import onnxruntime as ort

        ort.InferenceSession  # noqa: B018  a broken install is a folder without contents
    except (ImportError, AttributeError) as error:
        found = _installed()
        if len(found) > 1:
            raise BackendError(
                f"ONNX Runtime is broken: {' and '.join(found)} overwrite each other",
                hint=f"uninstall {' '.join(found)}, then install the one that you want",
            ) from error
        raise BackendError(
            f"ONNX Runtime cannot be imported: {error}", hint="pip install --force-reinstall onnxruntime"
        ) from error
    return ort


def _installed() -> list[str]:
    names = {(distribution.metadata["Name"] or "").lower() for distribution in metadata.distributions()}
    return [name for name in _DISTRIBUTIONS if name in names]
