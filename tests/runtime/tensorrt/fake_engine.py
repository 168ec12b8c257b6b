"""The running half of the fake TensorRT: an engine computes with ONNX Runtime on the bytes at its addresses."""

from __future__ import annotations

import ctypes
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx.external_data_helper import load_external_data_for_model

if TYPE_CHECKING:
    from slimpath.tests.runtime.tensorrt.fake_tensorrt import TensorrtFake

PLAN = b"fake plan "
_SCRATCH = 4096


class Runtime:
    def __init__(self, world: TensorrtFake, logger: Any) -> None:
        self.world, self.logger = world, logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Any:
        header, _, graph = bytes(serialized_engine)[len(PLAN) :].partition(b"\n")
        if not bytes(serialized_engine).startswith(PLAN) or json.loads(header)["version"] != self.world.version:
            self.world.error(self.logger, "Serialization assertion stdVersionRead == kSERIALIZATION_VERSION failed.")
            return None
        return self.world.make("ICudaEngine", CudaEngine(self.world, self.logger, json.loads(header), graph))


class CudaEngine:
    device_memory_size_v2 = _SCRATCH

    def __init__(self, world: TensorrtFake, logger: Any, header: dict[str, Any], graph: bytes) -> None:
        self.world, self.logger, self.header = world, logger, header
        self.model = onnx.load_model_from_string(graph)
        self.has_weights = not header["stripped"]
        self.ports = {value.name: value for value in (*self.model.graph.input, *self.model.graph.output)}
        self.device_memory_size_v2 = _SCRATCH + 256 * len(self.model.graph.node)

    @property
    def num_io_tensors(self) -> int:
        return len(self.ports)

    def get_tensor_name(self, index: int) -> str:
        return list(self.ports)[index]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return shape_of(self.ports[name])

    def get_tensor_dtype(self, name: str) -> Any:
        words = {1: "FLOAT", 6: "INT32", 7: "INT64", 9: "BOOL", 10: "HALF"}
        return self.world.classes["DataType"][words[self.ports[name].type.tensor_type.elem_type]]

    def get_tensor_mode(self, name: str) -> Any:
        modes = self.world.classes["TensorIOMode"]
        return modes.INPUT if name in {value.name for value in self.model.graph.input} else None

    def create_execution_context(self, strategy: Any) -> Any:
        assert strategy.name == "USER_MANAGED"
        return self.world.make("IExecutionContext", Context(self))

    def create_engine_inspector(self) -> Any:
        return self.world.make("EngineInspector", self)

    def get_engine_information(self, format: Any) -> str:
        if not self.header["detailed"]:
            return json.dumps({"Layers": [node.op_type for node in self.model.graph.node]})
        half = any(value.type.tensor_type.elem_type == 10 for value in self.model.graph.value_info)
        word = self.world.layer_word or ("Half" if half else "Float")
        ports = [{"Name": "x", "Format/Datatype": f"Row major linear {word} format"}]
        return json.dumps({"Layers": [{"Name": node.op_type, "Outputs": ports} for node in self.model.graph.node]})

    def session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        data = self.model.SerializeToString()
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


class Context:
    def __init__(self, engine: CudaEngine) -> None:
        self.engine, self.addresses, self.scratch = engine, {}, (0, 0)
        self.machine = engine.world.machine
        self.warm = False
        self.session: Any = None

    def set_device_memory(self, memory: int, size: int) -> None:
        assert size >= self.engine.device_memory_size_v2 and memory % 256 == 0
        self.scratch = memory, size

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self.addresses[name] = memory
        assert memory % 256 == 0
        return name in self.engine.ports

    def execute_async_v3(self, stream_handle: int) -> bool:
        stream, engine = self.machine.streams[stream_handle], self.engine
        if set(self.addresses) != set(engine.ports) or not engine.has_weights or not self.scratch[0]:
            engine.world.error(engine.logger, "enqueueV3: addresses, weights or device memory are not set")
            return False
        if stream.recording is not None and (not self.warm or stream.broken):
            engine.world.error(engine.logger, "operation not permitted when stream is capturing")
            return False
        self.warm = True
        self.session = self.session or engine.session()
        scratch = self.scratch
        stream.put(lambda: self._run(scratch))
        return True

    def _run(self, scratch: tuple[int, int]) -> None:
        self.machine.require(*scratch)
        feeds = {value.name: self._at(value.name).copy() for value in self.engine.model.graph.input}
        names = [value.name for value in self.engine.model.graph.output]
        for name, value in zip(names, self.session.run(names, feeds)):
            self._at(name)[...] = value + value.dtype.type(self.engine.world.noise)

    def _at(self, name: str) -> np.ndarray:
        value = self.engine.ports[name]
        kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        shape = shape_of(value)
        size = int(np.prod(shape)) * kind.itemsize
        self.machine.require(self.addresses[name], size)
        block = (ctypes.c_uint8 * size).from_address(self.addresses[name])
        return np.ctypeslib.as_array(block).view(kind).reshape(shape)


def shape_of(value: Any) -> tuple[int, ...]:
    return tuple(axis.dim_value if axis.HasField("dim_value") else -1 for axis in value.type.tensor_type.shape.dim)


def with_weights(model: Any, folder: Path) -> Any:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    load_external_data_for_model(copied, str(folder))
    return copied
