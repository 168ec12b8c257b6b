"""ONNX Runtime on the CPU. Why its sessions are set up as they are, with figures: docs/sessions.md."""

from __future__ import annotations

import platform
import threading
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from ..cpuinfo import cpu_features, cpu_fields
from ..cpus import usable_cpus
from ..errors import BackendError
from .base import Tier, installed_version

_DISTRIBUTIONS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
)


SPIN_US = "50"


class OrtSession:
    """One InferenceSession."""

    def __init__(self, ort: Any, session: Any) -> None:
        self._session: Any = session
        self.inputs: tuple[str, ...] = tuple(value.name for value in session.get_inputs())
        self.outputs: tuple[str, ...] = tuple(value.name for value in session.get_outputs())
        self._wanted = list(self.outputs)
        self._shrinking = ort.RunOptions()
        self._shrinking.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def run(self, feeds: Mapping[str, np.ndarray], *, shrink: bool = False) -> dict[str, np.ndarray]:
        session = self._session
        if session is None:
            raise BackendError("the session is closed")
        try:
            outputs = session.run(self._wanted, dict(feeds), self._shrinking if shrink else None)
        except Exception as error:  # ONNX Runtime raises a dozen types of its own, none with a common base
            raise BackendError(f"ONNX Runtime failed: {error}") from error
        return dict(zip(self.outputs, outputs))

    def memory_bytes(self) -> int | None:
        """None: ONNX Runtime does not tell Python."""
        return None

    def close(self) -> None:
        self._session = None


class OrtBackend:
    """CPU sessions that share the machine: none spins while another works.

    Args:
        threads: per session; None for the CPUs that this process may use.
    """

    name = "onnxruntime"
    precision, precisions = "fp32", ("fp32",)
    tiers: tuple[Tier, ...] = ("mapped", "packed")
    graph_precisions: tuple[str, ...] = ("fp32", "int8")

    def __init__(self, *, threads: int | None = None) -> None:
        if threads is not None and threads < 1:
            raise BackendError(f"threads must be at least 1, got {threads}")
        self.threads = threads or usable_cpus()

    @property
    def version(self) -> str:
        """Of the installed package, whichever of its builds it is; "missing" without one. Imports nothing."""
        return installed_version(_DISTRIBUTIONS)

    def load(self, graph: bytes, folder: Path, *, tier: Tier = "packed") -> OrtSession:
        ort = _import_ort()
        _share_arena(ort)
        try:
            session = ort.InferenceSession(
                graph, self._cpu_options(ort, folder, tier), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # see OrtSession.run
            raise BackendError(f"ONNX Runtime {ort.__version__} cannot load the graph: {error}") from error
        return OrtSession(ort, session)

    def _cpu_options(self, ort: Any, folder: Path, tier: Tier) -> Any:
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Planning which buffers to reuse is quadratic in the nodes: half of the load time of an encoder of 820 nodes
        # (157 ms of CPU time, 74 without). Buffers are freed after their last reader either way, into the arena.
        options.enable_mem_reuse = False
        # One block for all that a run holds at once: 3 to 5 % faster, and up to 1 MB more a session.
        options.enable_mem_pattern = tier == "packed"
        entries = {
            **_spinning(ort.__version__),
            # The checked bytes are loaded, not the file, and their external data only from this folder.
            "session.model_external_initializers_file_folder_path": str(folder),
            "session.use_env_allocators": "1",  # the arena of _share_arena
            "session.x64quantprecision": "1" if _int8_overflows() else "0",
        }
        if tier == "mapped":
            entries["session.disable_prepacking"] = "1"
            # The levels above rearrange the weights of convolutions into private copies, and keep 0.4 MB a session.
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        for key, value in entries.items():
            options.add_session_config_entry(key, value)
        return options


def _spinning(version: str) -> dict[str, str]:
    """How the threads of a session wait for the next operation.

    By default they spin for some 50 ms and starve the next session: encoder and 5 heads took 166 ms, 61 without
    spinning. But to sleep and be woken costs more than many an operation takes: with 50 us of spinning, encoder and
    head of the bundled model take 0.73 of the time without. Versions before 1.26 cannot be told how long.
    """
    parts = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if parts < (1, 26):
        return {"session.intra_op.allow_spinning": "0"}
    return {"session.intra_op.allow_spinning": "1", "session.intra_op.spin_duration_us": SPIN_US}


@cache
def _int8_overflows() -> bool:
    """Whether products of uint8 activations with int8 weights saturate here.

    x86 before VNNI adds two such products in 16 bits, which is one too few. ONNX Runtime then needs to be told to turn
    the weights into uint8, for slower kernels that are exact. Where the processor does not say what it has, it is told.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False  # Arm's instructions add in 32 bits
    return not {"avx512_vnni", "avx_vnni", "amx_int8"} & set(cpu_features(cpu_fields()))


_arena_lock = threading.Lock()
_arena_shared: list[bool] = []


def _share_arena(ort: Any) -> None:
    """One arena for all sessions of this process that ask for it, made once.

    Sessions run one after the other, and each arena of its own would keep the most that one ever needed: the bundled
    model's 28 graphs held 250 MB after a run each, with one arena for all 48.
    """
    with _arena_lock:
        if not _arena_shared:
            memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
            # 1: grows by what is asked for. The default doubles each time, up to twice of what is needed.
            ort.create_and_register_allocator(memory, ort.OrtArenaCfg({"arena_extend_strategy": 1}))
            _arena_shared.append(True)


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
