"""ONNX Runtime on NVIDIA devices: its CUDA and TensorRT execution providers.

Unverified: written against ONNX Runtime's interface and tested by contract; no such device was at hand.

ONNX Runtime answers on the CPU when a provider cannot be had, with a line in a log at most. Here that is an error that
says why. It is looked for where it happens: a wheel without the provider, a provider whose libraries do not load, a
graph whose products were given to the CPU all the same, and a run that fails and would be repeated on the CPU.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import io
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..bundles import graph_names as names
from ..bundles.gpu_graphs import read_gpu_graph
from ..bundles.manifest import MANIFEST_FILE
from ..cache import cache_folder
from ..errors import BackendError
from .base import Session, Tier
from .gpu_selection import OpenBundles, family
from .gpu_session import GpuSession
from .ort import OrtBackend, OrtSession, _import_ort, _installed
from .ort_bound import BoundEngine, load_recorded

if TYPE_CHECKING:
    from ..bundles.bundle import Bundle
    from ..bundles.gpu_spec import GpuGraphSpec

_CUDA, _TENSORRT, _CPU = "CUDAExecutionProvider", "TensorrtExecutionProvider", "CPUExecutionProvider"
_PRODUCTS = {"MatMul", "Gemm", "Conv", "ConvTranspose", "FusedMatMul", "FusedConv", "FusedGemm"}
_TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(float16)": np.float16}


class OrtCudaBackend(OrtBackend):
    """Sessions on one CUDA device, in fp32. The weights are copied to it once per graph.

    Of a bundle that has graphs for GPUs those are run, with tensors bound to the device and runs recorded as CUDA
    graphs; the graphs for CPUs have shapes that depend on the routing, which cannot be recorded.

    Args:
        threads: for what stays on the host (shapes).
        device: its number.
    """

    name = "onnxruntime-cuda"
    provider = _CUDA
    tiers: tuple[Tier, ...] = ("packed",)
    graph_precisions = ("fp32",)  # the operators of int8 graphs have no CUDA kernels
    uses_gpu = True

    def __init__(self, *, threads: int | None = None, device: int = 0) -> None:
        super().__init__(threads=threads)
        self.device = device
        self._bundles = OpenBundles()

    def load(self, graph: bytes, folder: Path, *, tier: Tier = "packed") -> Session:  # type: ignore[override]
        """Load a graph on the device, and run it once, so that what is built or searched for is no part of a request.

        Raises:
            BackendError: the provider cannot be had, or does not take the graph's products; with the cause.
        """
        ort = _import_ort()
        _require_provider(ort, self.provider)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(AttributeError):
            ort.preload_dlls()  # CUDA libraries that pip installed; it prints what it does not find
        specs = self._family(graph, folder)
        if specs:
            session = GpuSession(specs, lambda spec: self._load_bound(ort, folder, spec))
            session.load_first()
            return session
        return self._load_plain(ort, graph, folder)

    def offered_encoders(self, bundle: Bundle) -> tuple[tuple[float, int], ...] | None:
        """(width, top_k) of the graphs for GPUs, where the bundle has them; None for whatever it has otherwise."""
        return None if bundle.manifest.gpu is None else bundle.manifest.gpu.configurations

    def _family(self, graph: bytes, folder: Path) -> list[GpuGraphSpec]:
        """The graphs for GPUs that stand for a CPU graph; empty where the folder has none."""
        if not (folder / MANIFEST_FILE).is_file():
            return []
        bundle = self._bundles.of(folder)
        if bundle.manifest.gpu is None or self.precision not in bundle.manifest.gpu.precisions:
            return []
        known = hashlib.sha256(graph).hexdigest() in {one.sha256 for one in bundle.manifest.graphs}
        return family(bundle, graph, self.precision) if known else []  # one that was edited, to look at its routing

    def _load_bound(self, ort: Any, folder: Path, spec: GpuGraphSpec) -> tuple[BoundEngine, int]:
        """A graph for GPUs with its tensors bound, and the bytes of its weights on the device."""
        data = read_gpu_graph(self._bundles.of(folder), spec)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what is wrong is said below, once
                options = partial(self._options, ort, folder)
                session = load_recorded(ort, data, options, self._providers(recorded=True), self._providers())
        except Exception as error:  # ONNX Runtime raises a dozen types of its own, none with a common base
            raise BackendError(
                f"{spec.file}: ONNX Runtime {ort.__version__} cannot load it with {self.provider}: {error}",
                hint=_why(ort, self.provider),
            ) from error
        self._require_placement(ort, session)
        session.disable_fallback()  # a failing run is an error, not a run on the CPU
        return BoundEngine(ort, session, spec, self._place()), spec.weight_bytes

    def _place(self) -> tuple[str, int]:
        """Where tensors are bound."""
        return "cuda", self.device

    def _load_plain(self, ort: Any, graph: bytes, folder: Path) -> OrtSession:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what is wrong is said below, once
                session = ort.InferenceSession(
                    graph, self._options(ort, folder), providers=self._providers(), enable_fallback=0
                )
        except Exception as error:  # ONNX Runtime raises a dozen types of its own, none with a common base
            raise BackendError(
                f"ONNX Runtime {ort.__version__} cannot load the graph with {self.provider}: {error}",
                hint=_why(ort, self.provider),
            ) from error
        self._require_placement(ort, session)
        session.disable_fallback()  # a failing run is an error, not a run on the CPU
        loaded = OrtSession(ort, session)
        loaded.run({value.name: _example(value) for value in session.get_inputs()})
        return loaded

    def _options(self, ort: Any, folder: Path) -> Any:
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")  # since 1.24
        return options

    def _providers(self, *, recorded: bool = False) -> list[Any]:
        """What sessions are asked for; `recorded`: that their runs become CUDA graphs."""
        return [(_CUDA, self._cuda_options() | ({"enable_cuda_graph": "1"} if recorded else {})), _CPU]

    def _cuda_options(self) -> dict[str, str]:
        return {
            "device_id": str(self.device),
            # The default is TF32, ten bits of mantissa: routers would choose other experts.
            "use_tf32": "0",
            "cudnn_conv_algo_search": "HEURISTIC",  # the default tries every algorithm in the first run
            "arena_extend_strategy": "kSameAsRequested",
        }

    def _require_placement(self, ort: Any, session: Any) -> None:
        active = session.get_providers()
        if not active or active[0] != self.provider:
            raise BackendError(
                f"{self.provider} was asked for, but ONNX Runtime fell back to {', '.join(active) or 'nothing'}",
                hint=_why(ort, self.provider),
            )
        on_cpu = sorted(
            {
                node.op_type
                for part in _assignment(session)
                if part.ep_name == _CPU
                for node in part.get_nodes()
                if node.op_type in _PRODUCTS
            }
        )
        if on_cpu:
            raise BackendError(
                f"{self.provider} leaves {', '.join(on_cpu)} of this graph to the CPU",
                hint="use --backend onnxruntime, or another version of onnxruntime-gpu",
            )


class OrtTensorrtBackend(OrtCudaBackend):
    """TensorRT engines, built on the device when a graph is loaded and kept in $SLIMPATH_CACHE/tensorrt.

    What TensorRT does not take (operations whose shapes depend on the routing) stays with CUDA. An engine holds a copy
    of its weights, and is code: the folder is its owner's alone.
    """

    name = "onnxruntime-tensorrt"
    provider = _TENSORRT

    def _providers(self, *, recorded: bool = False) -> list[Any]:
        folder = cache_folder() / "tensorrt"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise BackendError(
                f"{folder}: engines cannot be kept there: {error.strerror or error}",
                hint="name a folder that can be written in SLIMPATH_CACHE; without one every start builds for minutes",
            ) from error
        options = {
            "device_id": str(self.device),
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(folder),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(folder),
        }
        if recorded:
            options["trt_cuda_graph_enable"] = "1"
        return [(_TENSORRT, options), (_CUDA, self._cuda_options()), _CPU]


def _require_provider(ort: Any, provider: str) -> None:
    available = ort.get_available_providers()
    if provider not in available:
        installed = " and ".join(_installed()) or "onnxruntime"
        raise BackendError(
            f"this build of ONNX Runtime ({installed} {ort.__version__}) has no {provider}; "
            f"it has {', '.join(available)}",
            hint="pip uninstall onnxruntime, then pip install onnxruntime-gpu (one of the two, not both), "
            "or use --backend onnxruntime",
        )


def _why(ort: Any, provider: str) -> str:
    """What keeps a provider from working, as far as the loader of shared libraries knows."""
    name = "tensorrt" if provider == _TENSORRT else "cuda"
    library = Path(ort.__file__).parent / "capi" / f"libonnxruntime_providers_{name}.so"
    if not library.exists():
        return f"{library.name} is not part of this install: pip install --force-reinstall onnxruntime-gpu"
    try:
        ctypes.CDLL(str(library))
    except OSError as error:
        cure = "install TensorRT" if name == "tensorrt" else "install the CUDA and cuDNN that this build needs"
        return f"{error}: {cure}, or use --backend onnxruntime"
    return "the libraries load, so there is no device, or its driver is too old: see nvidia-smi"


def _assignment(session: Any) -> list[Any]:
    """Which provider got which nodes; empty for versions that do not tell."""
    try:
        return list(session.get_provider_graph_assignment_info())
    except Exception:  # missing before 1.24; whatever else it raises, it is only a further check
        return []


def _example(value: Any) -> np.ndarray:
    """An input of one image and one row: zeros, but one expert for its tokens."""
    shape = [size if isinstance(size, int) else 1 for size in value.shape]
    fill = 1 if value.name == names.TOP_K else 0
    return np.full(shape, fill, _TYPES.get(value.type, np.float32))
