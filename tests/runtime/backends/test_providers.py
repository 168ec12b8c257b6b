"""CUDA and TensorRT by contract: what they are asked for, and that nothing falls back to the CPU in silence."""

from __future__ import annotations

import stat
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from slimpath.runtime.backends import make_backend
from slimpath.runtime.backends import ort as ort_module
from slimpath.runtime.backends.providers import OrtCudaBackend, OrtTensorrtBackend
from slimpath.runtime.errors import BackendError

CUDA, TENSORRT, CPU = "CUDAExecutionProvider", "TensorrtExecutionProvider", "CPUExecutionProvider"


@dataclass
class FakeOrt:
    """ONNX Runtime as far as a load goes: which providers it says that it has, and which it then uses."""

    available: tuple[str, ...] = (TENSORRT, CUDA, CPU)
    active: tuple[str, ...] = (CUDA, CPU)
    on_cpu: tuple[str, ...] = ("Shape", "Gather")
    failure: Exception | None = None
    asked: dict[str, Any] = field(default_factory=dict)
    fed: list[dict[str, np.ndarray]] = field(default_factory=list)
    fallback: bool = True
    __version__ = "1.31.1"

    def get_available_providers(self) -> list[str]:
        return list(self.available)

    def InferenceSession(self, graph: bytes, options: Any, **asked: Any) -> FakeOrt:
        self.asked = {**asked, "options": options}
        if self.failure is not None:
            raise self.failure
        return self

    def SessionOptions(self) -> Any:
        entries: dict[str, str] = {}
        return SimpleNamespace(entries=entries, add_session_config_entry=entries.__setitem__)

    def RunOptions(self) -> Any:
        return SimpleNamespace(add_run_config_entry=lambda *_: None)

    def get_providers(self) -> list[str]:
        return list(self.active)

    def get_provider_graph_assignment_info(self) -> list[Any]:
        nodes = [SimpleNamespace(op_type=kind) for kind in self.on_cpu]
        return [SimpleNamespace(ep_name=CPU, get_nodes=lambda: nodes)]

    def disable_fallback(self) -> None:
        self.fallback = False

    def get_inputs(self) -> list[Any]:
        return [
            SimpleNamespace(name="image", type="tensor(float)", shape=["I", 3, 32, 48]),
            SimpleNamespace(name="top_k", type="tensor(int64)", shape=["B"]),
        ]

    def get_outputs(self) -> list[Any]:
        return [SimpleNamespace(name="tokens")]

    def run(self, names: Any, feeds: dict[str, np.ndarray], options: Any) -> list[np.ndarray]:
        self.fed.append(feeds)
        return [np.zeros(1)]


@pytest.fixture
def install(monkeypatch, tmp_path):
    """Put a fake in the place of ONNX Runtime."""

    def put(**settings: Any) -> FakeOrt:
        module: Any = ModuleType("onnxruntime")
        fake = FakeOrt(**settings)
        for name in ("get_available_providers", "InferenceSession", "SessionOptions", "RunOptions", "__version__"):
            setattr(module, name, getattr(fake, name))
        module.__file__ = str(tmp_path / "onnxruntime" / "__init__.py")
        monkeypatch.setitem(sys.modules, "onnxruntime", module)
        return fake

    return put


def test_build_without_the_provider_is_refused_with_the_cure(install, monkeypatch):
    monkeypatch.setattr(ort_module, "_installed", lambda: ["onnxruntime"])
    install(available=("AzureExecutionProvider", CPU))
    with pytest.raises(
        BackendError, match=r"has no CUDAExecutionProvider; it has Azure.*uninstall onnxruntime.*onnxruntime-gpu"
    ):
        OrtCudaBackend(threads=1).load(b"", Path())


def test_this_build_is_refused_if_it_has_no_cuda():
    import onnxruntime

    if CUDA in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime is built for CUDA")
    with pytest.raises(BackendError, match="has no CUDAExecutionProvider"):
        make_backend("onnxruntime-cuda", threads=1).load(b"", Path())
    with pytest.raises(BackendError, match="has no TensorrtExecutionProvider"):
        make_backend("onnxruntime-tensorrt", threads=1).load(b"", Path())


@pytest.mark.parametrize("active", [(CPU,), ()])
def test_session_that_fell_back_to_the_cpu_is_refused_with_the_cause(install, active):
    install(active=active)
    with pytest.raises(
        BackendError,
        match=r"but ONNX Runtime fell back to .*libonnxruntime_providers_cuda.so is not part",
    ):
        OrtCudaBackend(threads=1).load(b"", Path())


def test_library_that_does_not_load_is_named(install, tmp_path):
    install(active=(CPU,))
    library = tmp_path / "onnxruntime" / "capi" / "libonnxruntime_providers_cuda.so"
    library.parent.mkdir(parents=True)
    library.write_bytes(b"no library")
    with pytest.raises(BackendError, match=r"libonnxruntime_providers_cuda.so: .*install the CUDA and cuDNN"):
        OrtCudaBackend(threads=1).load(b"", Path())


def test_tensorrt_that_became_cuda_is_refused(install):
    install(active=(CUDA, CPU))
    with pytest.raises(BackendError, match=r"Tensorrt.* was asked for, but ONNX Runtime fell back to CUDA"):
        OrtTensorrtBackend(threads=1).load(b"", Path())


def test_graph_whose_products_stay_on_the_cpu_is_refused(install):
    install(on_cpu=("Shape", "MatMul", "Gemm"))
    with pytest.raises(BackendError, match="leaves Gemm, MatMul of this graph to the CPU"):
        OrtCudaBackend(threads=1).load(b"", Path())


def test_failing_load_is_a_backend_error_with_the_cause(install):
    install(failure=RuntimeError("CUDA failure 35: driver version is insufficient"))
    with pytest.raises(BackendError, match="cannot load the graph with CUDAExecutionProvider: CUDA failure 35"):
        OrtCudaBackend(threads=1).load(b"", Path())


def test_session_is_asked_for_without_fallback_and_without_tf32(install, tmp_path):
    fake = install()
    OrtCudaBackend(threads=3, device=1).load(b"graph", tmp_path)
    (provider, options), last = fake.asked["providers"]
    assert (provider, last, fake.asked["enable_fallback"], fake.fallback) == (CUDA, CPU, 0, False)
    assert (options["device_id"], options["use_tf32"]) == ("1", "0")
    entries = fake.asked["options"].entries
    assert entries["session.model_external_initializers_file_folder_path"] == str(tmp_path)
    assert entries["session.intra_op.allow_spinning"] == "0"
    assert fake.asked["options"].intra_op_num_threads == 3


def test_graph_has_run_once_when_it_is_loaded(install):
    fake = install()
    OrtCudaBackend(threads=1).load(b"graph", Path())
    (feeds,) = fake.fed
    assert {name: value.shape for name, value in feeds.items()} == {"image": (1, 3, 32, 48), "top_k": (1,)}
    assert feeds["top_k"].dtype == np.int64
    assert feeds["top_k"][0] == 1  # a token that visits no expert would run none


def test_engines_are_kept_in_a_private_folder_of_the_cache(install, own_cache):
    fake = install(active=(TENSORRT, CUDA, CPU))
    OrtTensorrtBackend(threads=1).load(b"graph", Path())
    (provider, options), (second, cuda), last = fake.asked["providers"]
    assert (provider, second, last, cuda["use_tf32"]) == (TENSORRT, CUDA, CPU, "0")
    folder = own_cache / "tensorrt"
    assert options["trt_engine_cache_path"] == options["trt_timing_cache_path"] == str(folder)
    assert options["trt_engine_cache_enable"] == "1"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_cache_that_cannot_be_written_is_refused_before_anything_is_built(install, own_cache):
    fake = install(active=(TENSORRT, CUDA, CPU))
    (own_cache / "tensorrt").write_text("in the way")
    with pytest.raises(BackendError, match=r"engines cannot be kept there.*SLIMPATH_CACHE"):
        OrtTensorrtBackend(threads=1).load(b"graph", Path())
    assert fake.asked == {}
