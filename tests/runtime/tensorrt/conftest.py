"""A fake machine with a fake TensorRT on it, and a bundle to compile."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from slimpath.runtime import Bundle
from slimpath.runtime.tensorrt.worker import Job, build
from slimpath.tests.runtime.tensorrt.fake_bindings import TENSORRT_VERSIONS
from slimpath.tests.runtime.tensorrt.fake_machine import Machine
from slimpath.tests.runtime.tensorrt.fake_tensorrt import TensorrtFake
from slimpath.tests.runtime.tensorrt.gpu_bundle import build_gpu_bundle
from slimpath.tests.runtime.tensorrt.installing import install_fakes


@pytest.fixture(scope="session")
def gpu_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read it only."""
    return build_gpu_bundle(tmp_path_factory.mktemp("gpu") / "moe")


@pytest.fixture(scope="session")
def dense_gpu_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without experts; its encoders have no image_index."""
    return build_gpu_bundle(tmp_path_factory.mktemp("gpu") / "dense", moe=False)


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., TensorrtFake]:
    """Put fakes in the place of `tensorrt` and `cuda.bindings`, on a machine like a Jetson or with a card."""

    def put(version: str = TENSORRT_VERSIONS[-1], machine: Machine | None = None) -> TensorrtFake:
        return install_fakes(monkeypatch, version, machine)

    return put


@pytest.fixture(scope="session")
def built_engines(gpu_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the engines of the first size in fp32 and fp16, by the newest version."""
    bundle = Bundle.open(gpu_bundle)
    assert bundle.manifest.gpu is not None
    folder = tmp_path_factory.mktemp("engines")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIMPATH_CACHE", str(folder))
        install_fakes(patch)
        for graph in bundle.manifest.gpu.graphs:
            if graph.size_hw == bundle.manifest.sizes[0]:
                build(Job(str(bundle.path), graph.file, False, 64 << 20, 3, 1), lambda *_: None)
    return folder


@pytest.fixture
def engines(built_engines: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That cache, in use; read it only."""
    monkeypatch.setenv("SLIMPATH_CACHE", str(built_engines))
    return built_engines


@pytest.fixture(params=TENSORRT_VERSIONS)
def fake(request: pytest.FixtureRequest, install: Callable[..., TensorrtFake]) -> TensorrtFake:
    """Every version whose bindings were read."""
    return install(request.param)


_IMPORT = "import sys\nfrom slimpath.tests.runtime.tensorrt import child\n"
_SHIMS = {
    "tensorrt.py": f"{_IMPORT}sys.modules[__name__] = child.FAKE.module\n",
    "cuda/__init__.py": "",
    "cuda/bindings/__init__.py": f"{_IMPORT}runtime = child.CUDA.module\n",
}


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Processes that are started have the fakes, set as asked."""
    for name, text in _SHIMS.items():
        path = tmp_path / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"), prepend=os.pathsep)

    def put(version: str = TENSORRT_VERSIONS[-1], **settings: object) -> None:
        monkeypatch.setenv("FAKE_TENSORRT", json.dumps({"version": version, **settings}))

    put()
    return put
