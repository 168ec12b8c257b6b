"""CUDA's runtime as far as engines need it, through NVIDIA's package `cuda-bindings`. Addresses are plain ints."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import BackendError
from .names import CudaModule


@dataclass(frozen=True)
class DeviceFacts:
    """Of one CUDA device: `sm` such as "8.7", `integrated` where it shares the memory of the CPU."""

    name: str
    sm: str
    integrated: bool
    driver_cuda: str


class Cuda:
    """One device.

    Raises:
        BackendError: every method, where CUDA reports an error: with its name and its own words.
    """

    def __init__(self, device: int = 0) -> None:
        self._rt: CudaModule = _import_runtime()
        self.device = device
        self.use()
        self.facts = self._facts()

    def use(self) -> None:
        """Make this device that of the calling thread: CUDA keeps one for each thread."""
        self._done("cudaSetDevice", self._rt.cudaSetDevice(self.device))

    def free_memory(self) -> int:
        """Bytes that are free on the device now."""
        free, _ = self._take("cudaMemGetInfo", self._rt.cudaMemGetInfo())
        return int(free)

    def allocate(self, size: int) -> int:
        """Bytes on the device; the address is aligned to 256."""
        (address,) = self._take("cudaMalloc", self._rt.cudaMalloc(size))
        return int(address)

    def free(self, address: int) -> None:
        self._done("cudaFree", self._rt.cudaFree(address))

    def allocate_host(self, size: int, *, mapped: bool) -> tuple[int, int]:
        """Pinned bytes of the host, and where the device sees them (0 unless `mapped`)."""
        flags = self._rt.cudaHostAllocMapped if mapped else self._rt.cudaHostAllocDefault
        (host,) = self._take("cudaHostAlloc", self._rt.cudaHostAlloc(size, flags))
        if not mapped:
            return int(host), 0
        (seen,) = self._take("cudaHostGetDevicePointer", self._rt.cudaHostGetDevicePointer(host, 0))
        return int(host), int(seen)

    def free_host(self, address: int) -> None:
        self._done("cudaFreeHost", self._rt.cudaFreeHost(address))

    def make_stream(self) -> Any:
        """A stream that does not wait for the default stream. `int()` of it is what TensorRT takes."""
        (stream,) = self._take(
            "cudaStreamCreateWithFlags", self._rt.cudaStreamCreateWithFlags(self._rt.cudaStreamNonBlocking)
        )
        return stream

    def destroy_stream(self, stream: Any) -> None:
        self._done("cudaStreamDestroy", self._rt.cudaStreamDestroy(stream))

    def wait(self, stream: Any) -> None:
        """Until all that was put into the stream is done."""
        self._done("cudaStreamSynchronize", self._rt.cudaStreamSynchronize(stream))

    def copy_to_device(self, device: int, host: int, size: int, stream: Any) -> None:
        kind = self._rt.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._done("cudaMemcpyAsync", self._rt.cudaMemcpyAsync(device, host, size, kind, stream))

    def copy_to_host(self, host: int, device: int, size: int, stream: Any) -> None:
        kind = self._rt.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._done("cudaMemcpyAsync", self._rt.cudaMemcpyAsync(host, device, size, kind, stream))

    def begin_capture(self, stream: Any) -> None:
        """From now on what goes into the stream is recorded, not done. Other threads are not disturbed by it."""
        mode = self._rt.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._done("cudaStreamBeginCapture", self._rt.cudaStreamBeginCapture(stream, mode))

    def end_capture(self, stream: Any) -> Any:
        """The recorded graph, ready to launch."""
        (graph,) = self._take("cudaStreamEndCapture", self._rt.cudaStreamEndCapture(stream))
        try:
            (ready,) = self._take("cudaGraphInstantiate", self._rt.cudaGraphInstantiate(graph, 0))
        finally:
            self._done("cudaGraphDestroy", self._rt.cudaGraphDestroy(graph))
        return ready

    def abandon_capture(self, stream: Any) -> None:
        """End a capture that failed, whatever CUDA says to it: the stream must be usable again."""
        status, *graph = self._rt.cudaStreamEndCapture(stream)
        if status == self._rt.cudaError_t.cudaSuccess and graph:
            self._rt.cudaGraphDestroy(graph[0])

    def launch(self, ready: Any, stream: Any) -> None:
        self._done("cudaGraphLaunch", self._rt.cudaGraphLaunch(ready, stream))

    def destroy_graph(self, ready: Any) -> None:
        self._done("cudaGraphExecDestroy", self._rt.cudaGraphExecDestroy(ready))

    def _facts(self) -> DeviceFacts:
        (found,) = self._take("cudaGetDeviceProperties", self._rt.cudaGetDeviceProperties(self.device))
        (driver,) = self._take("cudaDriverGetVersion", self._rt.cudaDriverGetVersion())
        name = found.name.decode(errors="replace") if isinstance(found.name, bytes) else str(found.name)
        cuda = f"{int(driver) // 1000}.{int(driver) % 1000 // 10}"
        return DeviceFacts(name.rstrip("\0"), f"{found.major}.{found.minor}", bool(found.integrated), cuda)

    def _take(self, what: str, answer: tuple[Any, ...]) -> tuple[Any, ...]:
        """The values behind the status that every call of the bindings begins with."""
        status, *values = answer
        if status != self._rt.cudaError_t.cudaSuccess:
            name, text = self._words(status)
            raise BackendError(f"{what} failed: {name}{f' ({text})' if text else ''}", hint=_HINTS.get(name, ""))
        return tuple(values)

    def _done(self, what: str, answer: tuple[Any, ...]) -> None:
        self._take(what, answer)

    def _words(self, status: Any) -> tuple[str, str]:
        _, text = self._rt.cudaGetErrorString(status)
        return status.name, text.decode(errors="replace") if isinstance(text, bytes) else str(text or "")


_HINTS = {
    "cudaErrorNoDevice": "there is no NVIDIA GPU that this process may use; in a container: --runtime nvidia",
    "cudaErrorInsufficientDriver": "the NVIDIA driver is missing, or older than cuda-bindings wants",
    "cudaErrorMemoryAllocation": "the device's memory is full: close other programs, or load fewer graphs",
}


def host_view(address: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array over bytes that this module allocated; it must not outlive them."""
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address)).view(dtype).reshape(shape)


def _import_runtime() -> CudaModule:
    try:
        from cuda.bindings import runtime  # type: ignore[import-not-found]

        runtime.cudaMalloc  # noqa: B018  a broken install is a folder without contents
    except (ImportError, AttributeError, OSError, RuntimeError) as error:
        raise BackendError(
            f"CUDA's Python bindings cannot be imported: {error}",
            hint='pip install "cuda-bindings>=12.9,<13" for CUDA 12 (JetPack 6), "cuda-bindings>=13,<14" for CUDA 13',
        ) from error
    return runtime
