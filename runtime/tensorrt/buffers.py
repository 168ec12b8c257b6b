"""Memory for the inputs and outputs of an engine, allocated once.

On a GPU with memory of its own each tensor has a pinned block of the host and a block of the device, and a copy goes
between them. A Jetson's GPU shares the memory of the CPU: there one pinned block, mapped for the GPU, is both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import BackendError
from .cuda import Cuda, host_view


@dataclass
class Buffer:
    """One tensor.

    Args:
        host: the block of the host, of the tensor's shape and type.
        device: the address that the engine is given.
        is_input: copied to the device before a run, else from it afterwards.
        last: the array that the device holds already, where it cannot have changed since.
    """

    name: str
    host: np.ndarray
    host_address: int
    device: int
    is_input: bool
    shared: bool
    last: np.ndarray | None = None

    def write(self, value: np.ndarray) -> bool:
        """Put an input into the block of the host; False where it is there already.

        Raises:
            BackendError: another shape, or a type that cannot become the buffer's.
        """
        if value is self.last:
            return False
        if value.shape != self.host.shape:
            raise BackendError(f"the engine takes {self.name} as {list(self.host.shape)}, got {list(value.shape)}")
        try:
            np.copyto(self.host, value, casting="same_kind")
        except TypeError as error:
            raise BackendError(f"the engine takes {self.name} as {self.host.dtype}, got {value.dtype}") from error
        self.last = None if value.flags.writeable else value
        return True

    def to_device(self, cuda: Cuda, stream: Any) -> None:
        if not self.shared:
            cuda.copy_to_device(self.device, self.host_address, self.host.nbytes, stream)

    def to_host(self, cuda: Cuda, stream: Any) -> None:
        if not self.shared:
            cuda.copy_to_host(self.host_address, self.device, self.host.nbytes, stream)

    def free(self, cuda: Cuda) -> None:
        if not self.shared:
            cuda.free(self.device)
        cuda.free_host(self.host_address)

    @property
    def nbytes(self) -> int:
        """Of host and device together."""
        return self.host.nbytes * (1 if self.shared else 2)


def allocate(cuda: Cuda, name: str, shape: tuple[int, ...], dtype: np.dtype, *, is_input: bool) -> Buffer:
    """A zeroed buffer, in the memory that fits the device.

    Raises:
        BackendError: there is not that much memory.
    """
    size = max(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize, 1)
    shared = cuda.facts.integrated
    host_address, device = cuda.allocate_host(size, mapped=shared)
    if not shared:
        try:
            device = cuda.allocate(size)
        except BackendError:
            cuda.free_host(host_address)
            raise
    host = host_view(host_address, shape, dtype)
    host[...] = 0
    return Buffer(name, host, host_address, device, is_input, shared)
