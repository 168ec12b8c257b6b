"""A machine with a GPU, as far as addresses, streams and recorded graphs go: its device memory lies in this process.

Work put into a stream is done when somebody waits for it, never earlier, and what is recorded is done at each launch:
whoever forgets to wait, or to copy, reads poison. Use of memory that was given back is a defect of the caller.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

POISON = 0xA5


@dataclass
class Stream:
    """`recording` is a list of work while a capture is under way; `broken` once something forbidden happened in it."""

    handle: int
    waiting: list[Callable[[], None]] = field(default_factory=list)
    recording: list[Callable[[], None]] | None = None
    broken: bool = False

    def __int__(self) -> int:
        return self.handle

    def put(self, work: Callable[[], None]) -> None:
        (self.waiting if self.recording is None else self.recording).append(work)


@dataclass
class Machine:
    """Settings that tests change, and what happened."""

    name: str = "Orin"
    sm: tuple[int, int] = (8, 7)
    integrated: bool = False
    driver: int = 12060
    free_bytes: int = 4 << 30
    limit_bytes: int = 1 << 40
    capture_fails: bool = False
    no_device: bool = False
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    blocks: dict[int, tuple[Any, int, str]] = field(default_factory=dict)
    streams: dict[int, Stream] = field(default_factory=dict)
    graphs: dict[int, list[Callable[[], None]]] = field(default_factory=dict)
    launches: int = 0

    def allocate(self, size: int, kind: str) -> int:
        block = (ctypes.c_uint8 * (size + 256))()
        address = (ctypes.addressof(block) + 255) & ~255  # as CUDA aligns
        ctypes.memset(address, POISON, size)
        self.blocks[address] = block, size, kind
        return address

    @property
    def held_bytes(self) -> int:
        return sum(size for _, size, _ in self.blocks.values())

    def require(self, address: int, size: int) -> None:
        """Those bytes must lie in one block that was not given back."""
        for start, (_, length, _) in self.blocks.items():
            if start <= address and address + size <= start + length:
                return
        raise AssertionError(f"{size} bytes at {address:#x} belong to nobody")

    def copy(self, target: int, source: int, size: int) -> None:
        self.require(target, size)
        self.require(source, size)
        ctypes.memmove(target, source, size)

    def named(self, name: str) -> list[dict[str, Any]]:
        """Arguments of every call of that name, in order."""
        return [arguments for called, arguments in self.calls if called == name]


class CudaFake:
    """The functions of cuda.bindings.runtime; every one answers (status, values...)."""

    def __init__(self, machine: Machine, version: str) -> None:
        from slimpath.tests.runtime.tensorrt.fake_bindings import make_module

        self._machine = machine
        names = [name for name in dir(type(self)) if name.startswith("cuda")]
        self.module = make_module("cuda", version, {name: getattr(self, name) for name in names}, machine.calls)
        self._errors = self.module.cudaError_t

    def _ok(self, *values: Any) -> tuple[Any, ...]:
        return (self._errors.cudaSuccess, *(values or ()))

    def _forbidden_while_recording(self) -> tuple[Any, ...] | None:
        for stream in self._machine.streams.values():
            if stream.recording is not None:
                stream.broken = True
                return (self._errors.cudaErrorStreamCaptureUnsupported, None)
        return None

    def cudaSetDevice(self, device: int) -> tuple[Any, ...]:
        return (self._errors.cudaErrorNoDevice,) if self._machine.no_device else self._ok()

    def cudaGetDeviceProperties(self, device: int) -> tuple[Any, ...]:
        machine = self._machine
        major, minor = machine.sm
        return self._ok(
            SimpleNamespace(name=machine.name.encode(), major=major, minor=minor, integrated=int(machine.integrated))
        )

    def cudaDriverGetVersion(self) -> tuple[Any, ...]:
        return self._ok(self._machine.driver)

    def cudaGetErrorString(self, error: Any) -> tuple[Any, ...]:
        return self._ok(f"text of {error.name}".encode())

    def cudaMemGetInfo(self) -> tuple[Any, ...]:
        return self._ok(self._machine.free_bytes, 8 << 30)

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        if (refusal := self._forbidden_while_recording()) is not None:
            return refusal
        if self._machine.held_bytes + size > self._machine.limit_bytes:
            return self._errors.cudaErrorMemoryAllocation, None
        return self._ok(self._machine.allocate(size, "device"))

    def cudaFree(self, devPtr: int) -> tuple[Any, ...]:
        assert self._machine.blocks.pop(devPtr)[2] == "device"
        return self._ok()

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[Any, ...]:
        return self._ok(
            self._machine.allocate(size, "mapped" if flags == self.module.cudaHostAllocMapped else "pinned")
        )

    def cudaHostGetDevicePointer(self, pHost: int, flags: int) -> tuple[Any, ...]:
        assert self._machine.blocks[pHost][2] == "mapped"
        return self._ok(pHost)

    def cudaFreeHost(self, ptr: int) -> tuple[Any, ...]:
        assert self._machine.blocks.pop(ptr)[2] in ("pinned", "mapped")
        return self._ok()

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        stream = Stream(1000 + len(self._machine.streams))
        self._machine.streams[stream.handle] = stream
        return self._ok(stream)

    def cudaStreamDestroy(self, stream: Stream) -> tuple[Any, ...]:
        del self._machine.streams[stream.handle]
        return self._ok()

    def cudaStreamSynchronize(self, stream: Stream) -> tuple[Any, ...]:
        if (refusal := self._forbidden_while_recording()) is not None:
            return refusal[:1]
        while stream.waiting:
            stream.waiting.pop(0)()
        return self._ok()

    def cudaMemcpyAsync(self, dst: int, src: int, count: int, kind: Any, stream: Stream) -> tuple[Any, ...]:
        to_device = kind == self.module.cudaMemcpyKind.cudaMemcpyHostToDevice
        device, host = (dst, src) if to_device else (src, dst)
        assert self._machine.blocks[device][2] == "device" and self._machine.blocks[host][2] == "pinned"
        stream.put(lambda: self._machine.copy(dst, src, count))
        return self._ok()

    def cudaStreamBeginCapture(self, stream: Stream, mode: Any) -> tuple[Any, ...]:
        assert stream.recording is None and not stream.waiting
        stream.recording, stream.broken = [], self._machine.capture_fails
        return self._ok()

    def cudaStreamEndCapture(self, stream: Stream) -> tuple[Any, ...]:
        recorded, stream.recording = stream.recording, None
        if recorded is None or stream.broken:
            return self._errors.cudaErrorStreamCaptureUnsupported, None
        self._machine.graphs[id(recorded)] = recorded
        return self._ok(recorded)

    def cudaGraphInstantiate(self, graph: Any, flags: int) -> tuple[Any, ...]:
        ready = list(self._machine.graphs[id(graph)])
        self._machine.graphs[id(ready)] = ready
        return self._ok(ready)

    def cudaGraphDestroy(self, graph: Any) -> tuple[Any, ...]:
        del self._machine.graphs[id(graph)]
        return self._ok()

    def cudaGraphExecDestroy(self, graphExec: Any) -> tuple[Any, ...]:
        del self._machine.graphs[id(graphExec)]
        return self._ok()

    def cudaGraphLaunch(self, graphExec: Any, stream: Stream) -> tuple[Any, ...]:
        assert stream.recording is None
        self._machine.launches += 1
        for work in self._machine.graphs[id(graphExec)]:
            stream.put(work)
        return self._ok()
