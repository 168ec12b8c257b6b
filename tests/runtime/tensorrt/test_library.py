"""What is missing or broken is said, with the cure; CUDA's errors come with their names."""

from __future__ import annotations

import sys
from importlib import metadata
from types import ModuleType

import pytest

from slimpath.runtime.backends import backend_names, make_backend
from slimpath.runtime.errors import BackendError
from slimpath.runtime.tensorrt.cuda import Cuda
from slimpath.runtime.tensorrt.device import Device, shared_device
from slimpath.runtime.tensorrt.library import installed_version, load_tensorrt, make_logger, reason
from slimpath.tests.runtime.tensorrt.fake_machine import Machine


def test_backend_is_listed_and_made_without_its_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert "tensorrt" in backend_names()
    assert make_backend("tensorrt").name == "tensorrt"


def test_missing_tensorrt_is_an_error_with_the_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(BackendError, match=r"TensorRT cannot be imported: .*apt install python3-libnvinfer"):
        load_tensorrt()


def test_broken_tensorrt_is_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", ModuleType("tensorrt"))
    with pytest.raises(BackendError, match=r"TensorRT cannot be imported: .*__version__"):
        load_tensorrt()


@pytest.mark.parametrize("version", ["8.6.1", "12.0.0", "strange"])
def test_version_that_was_never_looked_at_is_refused(monkeypatch, version):
    module = ModuleType("tensorrt")
    module.__version__, module.Runtime = version, object  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    with pytest.raises(BackendError, match=f"TensorRT {version} is not a version that slimpath knows; .*10.3 to 11.4"):
        load_tensorrt()


def test_missing_cuda_bindings_are_an_error_with_the_cure(install, monkeypatch):
    install()
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(BackendError, match=r"CUDA's Python bindings cannot be imported: .*cuda-bindings"):
        Device()


def test_machine_without_a_gpu_is_an_error_with_the_cure(install):
    install(machine=Machine(no_device=True))
    with pytest.raises(BackendError, match=r"cudaSetDevice failed: cudaErrorNoDevice \(text of .*--runtime nvidia"):
        Device()


def test_device_is_opened_once(install):
    fake = install()
    assert shared_device() is shared_device()
    assert len(fake.machine.streams) == 1


@pytest.mark.parametrize("integrated", [False, True])
def test_facts_of_the_device(install, integrated):
    install(machine=Machine(name="Orin", sm=(8, 7), integrated=integrated, driver=12060))
    facts = Cuda().facts
    assert (facts.name, facts.sm, facts.integrated, facts.driver_cuda) == ("Orin", "8.7", integrated, "12.6")


def test_last_error_of_the_log_is_the_reason_else_the_last_warning(install):
    fake = install()
    log = make_logger(fake.module)
    severity = fake.classes["ILogger"]
    assert reason(log) == "it logged no reason"
    log.log(severity.WARNING, "a\n warning")
    assert reason(log) == "a warning"
    log.log(severity.ERROR, "an error")
    log.log(severity.WARNING, "another warning")
    assert reason(log) == "an error"
    for _ in range(100):
        log.log(severity.INTERNAL_ERROR, "the last")
    assert reason(log) == "the last" and len(log.messages) < 20


def test_version_is_found_without_importing(monkeypatch):
    monkeypatch.setattr(metadata, "version", lambda name: {"tensorrt-cu12": "10.16.1.11"}[name])
    monkeypatch.setattr(metadata, "PackageNotFoundError", KeyError)
    assert installed_version() == make_backend("tensorrt").version == "10.16.1.11"
    monkeypatch.setattr(metadata, "version", lambda name: {}[name])
    assert installed_version() == "missing"
