"""One engine, ready to run: its buffers, its execution context, and its run recorded as a CUDA graph."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..bundles import graph_names
from ..errors import BackendError
from .buffers import Buffer, allocate
from .device import Device
from .library import reason
from .names import ICudaEngine, IExecutionContext, TrtModule
from .refitting import refit

_log = logging.getLogger(__name__)


class Engine:
    """A deserialised plan with static shapes. Runs of all engines of a device go one after the other.

    Args:
        plan: checked: it was built here, and nobody changed it (engine_file.read_engine).
        stripped: of its weights, which are then taken from `graph`.
        graph: the bytes of the ONNX file, and `where` it lies, with its weights beside it.

    Raises:
        BackendError: TensorRT refuses the plan, or memory is full.
    """

    def __init__(
        self, device: Device, plan: bytes, *, stripped: bool = False, graph: bytes = b"", where: Path = Path()
    ) -> None:
        self._device = device
        with device.lock:
            device.cuda.use()
            engine: ICudaEngine = device.runtime.deserialize_cuda_engine(plan)
            if engine is None:
                raise BackendError(f"TensorRT cannot load the engine: {reason(device.log)}", hint=_AGAIN)
            if stripped:
                refit(device.trt, engine, graph, where, device.log)
            self._engine: ICudaEngine = engine
            self._buffers: dict[str, Buffer] = {}
            self._scratch_bytes = int(engine.device_memory_size_v2)
            self._graphs: dict[bool, Any] = {}
            self._captured = True
            self._prepared_at: int | None = None  # where the scratch memory was then
            self._free = weakref.finalize(self, _free, device, self._buffers, self._graphs)
            self._allocate(engine)
            self._context: IExecutionContext = self._make_context(engine)

    @property
    def library_engine(self) -> ICudaEngine:
        """TensorRT's own object."""
        return self._engine

    @property
    def inputs(self) -> dict[str, np.ndarray]:
        """Name -> the block of the host, for its shape and type."""
        return {name: buffer.host for name, buffer in self._buffers.items() if buffer.is_input}

    @property
    def outputs(self) -> dict[str, np.ndarray]:
        return {name: buffer.host for name, buffer in self._buffers.items() if not buffer.is_input}

    @property
    def buffer_bytes(self) -> int:
        return sum(buffer.nbytes for buffer in self._buffers.values())

    @property
    def uses_graph(self) -> bool:
        """Whether its runs are launches of a CUDA graph."""
        return self._captured

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """All outputs by name, as arrays of their own.

        Args:
            feeds: every input, of the very shapes. An array that is read-only and the same object as last time is not
                copied again: routers change only with the tasks.

        Raises:
            BackendError: an input is missing or of another shape, or the run failed.
        """
        device, buffers = self._device, self._buffers
        with device.lock:
            if not self._free.alive:
                raise BackendError("the engine is closed")
            device.cuda.use()
            self._follow_scratch()
            missing = [name for name, buffer in buffers.items() if buffer.is_input and name not in feeds]
            if missing:
                raise BackendError(f"the engine wants the input {missing[0]!r}; there are {', '.join(feeds)}")
            changed = [name for name, buffer in buffers.items() if buffer.is_input and buffer.write(feeds[name])]
            self._launch(all_inputs=bool(_SELDOM & set(changed)))
            device.cuda.wait(device.stream)
            return {name: buffer.host.copy() for name, buffer in buffers.items() if not buffer.is_input}

    def close(self) -> None:
        """Give the memory back; a second call does nothing."""
        with self._device.lock:
            self._free()

    def _allocate(self, engine: ICudaEngine) -> None:
        trt = self._device.trt
        kinds = _numpy_types(trt)
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            shape, kind = tuple(engine.get_tensor_shape(name)), engine.get_tensor_dtype(name)
            if min(shape, default=1) < 0 or kind not in kinds:
                raise BackendError(f"the engine's {name} is {kind} {list(shape)}: not a static shape of a known type")
            is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            self._buffers[name] = allocate(self._device.cuda, name, shape, kinds[kind], is_input=is_input)

    def _make_context(self, engine: ICudaEngine) -> IExecutionContext:
        trt = self._device.trt
        context: IExecutionContext = engine.create_execution_context(
            trt.ExecutionContextAllocationStrategy.USER_MANAGED
        )
        if context is None:
            raise BackendError(f"TensorRT cannot run the engine: {reason(self._device.log)}", hint=_AGAIN)
        for name, buffer in self._buffers.items():
            if not context.set_tensor_address(name, buffer.device):
                raise BackendError(f"TensorRT refuses the buffer of {name}: {reason(self._device.log)}")
        return context

    def _follow_scratch(self) -> None:
        """Use the device's scratch memory where it is now; recorded graphs hold the address where it was."""
        device = self._device
        device.reserve_scratch(self._scratch_bytes)
        if self._prepared_at == device.scratch:
            return
        if device.scratch_bytes:
            self._context.set_device_memory(device.scratch, device.scratch_bytes)
        _destroy(device, self._graphs)
        self._enqueue(all_inputs=True)  # what the first run sets up must not be part of a recording
        device.cuda.wait(device.stream)
        if self._captured:
            with device.recording():
                self._captured = self._record()
        self._prepared_at = device.scratch

    def _record(self) -> bool:
        """Record two graphs, with and without the inputs that change seldom; False where it cannot be recorded."""
        cuda, stream = self._device.cuda, self._device.stream
        for all_inputs in (True, False):
            cuda.begin_capture(stream)
            try:
                self._enqueue(all_inputs=all_inputs)
            except BackendError as error:
                cuda.abandon_capture(stream)
                _destroy(self._device, self._graphs)
                _log.warning("an engine runs without a CUDA graph, and slower: %s", error)
                return False
            self._graphs[all_inputs] = cuda.end_capture(stream)
        return True

    def _launch(self, *, all_inputs: bool) -> None:
        if self._captured:
            self._device.cuda.launch(self._graphs[all_inputs], self._device.stream)
        else:
            self._enqueue(all_inputs=all_inputs)

    def _enqueue(self, *, all_inputs: bool) -> None:
        cuda, stream = self._device.cuda, self._device.stream
        for name, buffer in self._buffers.items():
            if buffer.is_input and (all_inputs or name not in _SELDOM):
                buffer.to_device(cuda, stream)
        if not self._context.execute_async_v3(int(stream)):
            raise BackendError(f"TensorRT failed: {reason(self._device.log)}")
        for buffer in self._buffers.values():
            if not buffer.is_input:
                buffer.to_host(cuda, stream)


# Large, and the same from call to call as long as the tasks are.
_SELDOM = frozenset({graph_names.ROUTER, graph_names.ROUTER_BIAS, graph_names.ADAPTER})
_AGAIN = "build it again with `slimpath compile BUNDLE --backend tensorrt --force`"


def _destroy(device: Device, graphs: dict[bool, Any]) -> None:
    while graphs:
        device.cuda.destroy_graph(graphs.popitem()[1])


def _free(device: Device, buffers: dict[str, Buffer], graphs: dict[bool, Any]) -> None:
    """Sessions that a pool lets go of are never closed: this also runs when an engine is collected."""

    def work() -> None:
        try:
            device.cuda.use()
            device.cuda.wait(device.stream)
            _destroy(device, graphs)
            while buffers:
                buffers.popitem()[1].free(device.cuda)
        except BackendError as error:  # the driver is already shutting down at exit
            _log.debug("memory of an engine was not given back: %s", error)

    with device.lock:
        device.when_idle(work)


def _numpy_types(trt: TrtModule) -> dict[Any, np.dtype]:
    found = trt.DataType
    return {
        found.FLOAT: np.dtype(np.float32),
        found.HALF: np.dtype(np.float16),
        found.INT32: np.dtype(np.int32),
        found.INT64: np.dtype(np.int64),
        found.BOOL: np.dtype(np.bool_),
    }
