"""NVML: NVIDIA GPUs (Volta and newer) count their own energy in millijoules. Jetsons do not: see energy_hwmon.py.

Needs the package nvidia-ml-py (module `pynvml`), which is not a dependency. Written against its API and tested against
an imitation; unverified on a GPU.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .energy import FoundMeter


class NvmlMeter:
    """One GPU's counter.

    Args:
        library: the module `pynvml`, initialised.
        handle: of the GPU.
    """

    window_s = 0.2  # the counter moves every 20 to 100 ms

    def __init__(self, library: Any, handle: Any) -> None:
        self._library, self._handle = library, handle
        self.name = f"nvml {gpu_name(library, handle)}"

    def energy_j(self) -> float:
        try:
            return self._library.nvmlDeviceGetTotalEnergyConsumption(self._handle) / 1e3
        except self._library.NVMLError as error:
            raise OSError(f"NVML: {error}") from error

    def close(self) -> None:
        """NVML stays initialised: other parts of the process may use it."""


def find_nvml(index: int = 0) -> FoundMeter:
    """The counter of a GPU, or why it cannot be used."""
    library, reason = _library()
    if library is None:
        return FoundMeter(None, reason)
    try:
        meter = NvmlMeter(library, library.nvmlDeviceGetHandleByIndex(index))
        meter.energy_j()
    except (library.NVMLError, OSError) as error:
        return FoundMeter(None, f"this GPU does not count its energy: {error}")
    return FoundMeter(meter)


def gpu_names() -> tuple[str, ...]:
    """Names of the GPUs with the driver's version, for the fingerprint; empty without NVML or GPUs."""
    library, _ = _library()
    if library is None:
        return ()
    try:
        driver = _str(library.nvmlSystemGetDriverVersion())
        handles = [library.nvmlDeviceGetHandleByIndex(index) for index in range(library.nvmlDeviceGetCount())]
        return tuple(f"{gpu_name(library, handle)} (driver {driver})" for handle in handles)
    except library.NVMLError:
        return ()


def gpu_name(library: Any, handle: Any) -> str:
    return _str(library.nvmlDeviceGetName(handle))


def _library() -> tuple[Any, str]:
    """`pynvml`, initialised; or None and why."""
    try:
        library: Any = import_module("pynvml")
    except ImportError:
        return None, "a GPU's energy needs the package nvidia-ml-py"
    try:
        library.nvmlInit()
    except library.NVMLError as error:
        return None, f"NVML cannot be used: {error}"
    return library, ""


def _str(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)  # older versions give bytes
