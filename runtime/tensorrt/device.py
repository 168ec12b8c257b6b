"""What all engines of a device share: the library's runtime, one stream, one block of scratch memory, one lock.

Runs go through one stream one after the other, so the engines' scratch memory (activations) may be the same block: it
is as large as the largest engine needs, not as large as all of them together.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .cuda import Cuda
from .library import load_tensorrt, make_logger
from .names import Runtime, TrtModule


class Device:
    """A CUDA device with TensorRT on it.

    Args:
        cuda: tests bring their own.

    Raises:
        BackendError: a library is missing, or there is no device.
    """

    def __init__(self, cuda: Cuda | None = None) -> None:
        trt: TrtModule = load_tensorrt()
        self.trt: TrtModule = trt
        self.cuda = cuda or Cuda()
        self.log = make_logger(trt)
        self.runtime: Runtime = trt.Runtime(self.log)
        self.lock = threading.RLock()  # of the stream, the scratch memory, and the calling thread's device
        self.stream: Any = self.cuda.make_stream()
        self.scratch, self.scratch_bytes = 0, 0
        self._recording = False
        self._after_recording: list[Callable[[], None]] = []

    @contextmanager
    def recording(self) -> Iterator[None]:
        """While a CUDA graph is recorded nothing may be freed: an engine that is collected meanwhile waits."""
        self._recording = True
        try:
            yield
        finally:
            self._recording = False
            while self._after_recording:
                self._after_recording.pop()()

    def when_idle(self, work: Callable[[], None]) -> None:
        """Do it now, or as soon as the recording that is under way is done. The lock must be held."""
        if self._recording:
            self._after_recording.append(work)
        else:
            work()

    def reserve_scratch(self, size: int) -> None:
        """Make the scratch memory at least that large. Whoever used the old block asks again before its next run."""
        if size <= self.scratch_bytes:
            return
        with self.lock:
            if self.scratch:
                self.cuda.wait(self.stream)
                self.cuda.free(self.scratch)
                self.scratch, self.scratch_bytes = 0, 0
            self.scratch = self.cuda.allocate(size)
            self.scratch_bytes = size

    @property
    def version(self) -> str:
        return str(self.trt.__version__)


_lock = threading.Lock()
_devices: list[Device] = []


def shared_device() -> Device:
    """The device of this process, opened once: the first call initialises CUDA.

    Raises:
        BackendError: as for `Device`.
    """
    with _lock:
        if not _devices:
            _devices.append(Device())
        return _devices[0]
