"""Put the fakes in the place of `tensorrt` and `cuda.bindings` in this process."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from slimpath.runtime.tensorrt import device as device_module
from slimpath.tests.runtime.tensorrt.fake_bindings import TENSORRT_VERSIONS
from slimpath.tests.runtime.tensorrt.fake_machine import CudaFake, Machine
from slimpath.tests.runtime.tensorrt.fake_tensorrt import TensorrtFake


def install_fakes(
    monkeypatch: pytest.MonkeyPatch, version: str = TENSORRT_VERSIONS[-1], machine: Machine | None = None
) -> TensorrtFake:
    """A fake TensorRT of that version, on a machine that nobody has opened yet."""
    fake = TensorrtFake(machine or Machine(), version)
    cuda = CudaFake(fake.machine, "12.9.10" if version.startswith("10") else "13.5.0")
    bindings = ModuleType("cuda.bindings")
    bindings.runtime = cuda.module  # type: ignore[attr-defined]
    modules = {
        "tensorrt": fake.module,
        "cuda": ModuleType("cuda"),
        "cuda.bindings": bindings,
        "cuda.bindings.runtime": cuda.module,
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(device_module, "_devices", [])
    return fake
