"""`triton_python_backend_utils` and the stub that calls a Python model, as far as its contract goes.

Learnt from triton-inference-server/python_backend (src/pb_stub.cc, README.md, July 2026): models are imported as
`VERSION.model` with the model's folder on sys.path; `initialize` gets texts alone; `execute` returns a list with one
InferenceResponse per request; tensors need a name and an array of a dtype that Triton has; outputs that nobody asked
for are dropped; parameters are JSON, their values bool, int or str; an exception fails every request of the call.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

CODES = ("UNKNOWN", "INTERNAL", "NOT_FOUND", "INVALID_ARG", "UNAVAILABLE", "UNSUPPORTED", "ALREADY_EXISTS", "CANCELLED")
DTYPES = {
    "TYPE_BOOL": "bool", "TYPE_UINT8": "uint8", "TYPE_INT8": "int8", "TYPE_INT32": "int32", "TYPE_INT64": "int64",
    "TYPE_FP16": "float16", "TYPE_FP32": "float32", "TYPE_FP64": "float64", "TYPE_STRING": "object",
}  # fmt: skip


class TritonError:
    """An error of one response; `code` is INTERNAL unless said otherwise."""

    def __init__(self, message: str, code: int = CODES.index("INTERNAL")) -> None:
        if not isinstance(message, str) or not isinstance(code, int):
            raise TypeError("TritonError(message: str, code: int)")
        self._message, self._code = message, code

    def message(self) -> str:
        return self._message

    def code(self) -> int:
        return self._code


for _number, _name in enumerate(CODES):
    setattr(TritonError, _name, _number)


class Tensor:
    """A named array."""

    def __init__(self, name: str, array: np.ndarray) -> None:
        if not name:
            raise RuntimeError("Tensor name cannot be an empty string.")
        if not isinstance(array, np.ndarray) or str(array.dtype) not in DTYPES.values():
            raise TypeError(f"no Triton type for {array!r}")
        self._name, self._array = name, np.ascontiguousarray(array)

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> np.ndarray:
        return self._array


class InferenceRequest:
    """What one client sent."""

    def __init__(
        self,
        inputs: Sequence[Tensor],
        requested_output_names: Sequence[str],
        *,
        request_id: str = "",
        parameters: dict[str, Any] | None = None,
        cancelled: bool = False,
    ) -> None:
        self._inputs, self._outputs = list(inputs), set(requested_output_names)
        self._id, self._parameters, self._cancelled = request_id, json.dumps(parameters or {}), cancelled

    def inputs(self) -> list[Tensor]:
        return self._inputs

    def requested_output_names(self) -> set[str]:
        return self._outputs

    def request_id(self) -> str:
        return self._id

    def parameters(self) -> str:
        return self._parameters

    def is_cancelled(self) -> bool:
        return self._cancelled


class InferenceResponse:
    """What one client gets. Old releases have no `parameters`: `OldInferenceResponse`."""

    def __init__(
        self,
        output_tensors: Sequence[Tensor] = (),
        error: TritonError | None = None,
        parameters: dict[str, bool | int | str] | None = None,
    ) -> None:
        for key, value in (parameters or {}).items():
            if not isinstance(key, str) or not isinstance(value, bool | int | str):
                raise TypeError(f"a parameter must be bool, int or str, got {key}={value!r}")
        if not all(isinstance(tensor, Tensor) for tensor in output_tensors):
            raise TypeError("output_tensors must be Tensors")
        self.tensors, self.failure = list(output_tensors), error
        self.told = parameters or {}


class OldInferenceResponse(InferenceResponse):
    """Of a release whose responses carry no parameters."""

    def __init__(self, output_tensors: Sequence[Tensor] = (), error: TritonError | None = None) -> None:
        super().__init__(output_tensors, error)


def get_input_tensor_by_name(request: InferenceRequest, name: str) -> Tensor | None:
    """The input of that name, or None."""
    return next((tensor for tensor in request.inputs() if tensor.name() == name), None)


class Stub:
    """Calls a loaded model as Triton's stub process does."""

    def __init__(self, module: types.ModuleType, config: dict[str, Any], folder: Path) -> None:
        self.config = config
        self.model = module.TritonPythonModel()
        self.model.initialize(
            {
                "model_config": json.dumps(config),
                "model_instance_kind": "CPU",
                "model_instance_name": f"{config['name']}_0",
                "model_instance_device_id": "0",
                "model_repository": str(folder),
                "model_version": "1",
                "model_name": config["name"],
            }
        )

    def execute(self, requests: list[InferenceRequest]) -> list[InferenceResponse]:
        """One call; what the model breaks of the contract fails here."""
        responses = self.model.execute(requests)
        assert isinstance(responses, list), f"execute must return a list, got {type(responses)}"
        assert len(responses) == len(requests), "one response per request"
        for request, response in zip(requests, responses):
            assert isinstance(response, InferenceResponse), f"not an InferenceResponse: {response!r}"
            response.tensors = [t for t in response.tensors if t.name() in request.requested_output_names()]
            self._check_tensors(request, response)
        return responses

    def _check_tensors(self, request: InferenceRequest, response: InferenceResponse) -> None:
        """As the server does on the other side: every requested output, in the type and shape of config.pbtxt."""
        if response.failure is not None:
            return
        declared = {output["name"]: output for output in self.config["output"]}
        assert {t.name() for t in response.tensors} == request.requested_output_names()
        for tensor in response.tensors:
            output, array = declared[tensor.name()], tensor.as_numpy()
            assert str(array.dtype) == DTYPES[output["data_type"]], tensor.name()
            dims = [int(size) for size in output["dims"]]  # int64 fields are texts in protobuf's JSON
            assert len(array.shape) == len(dims) + 1, tensor.name()
            assert all(want in (-1, got) for want, got in zip(dims, array.shape[1:])), tensor.name()


@contextmanager
def loaded(folder: Path, config: dict[str, Any], *, old: bool = False) -> Iterator[Stub]:
    """A model's folder, loaded as Triton would, and finalised in the end."""
    utils = types.ModuleType("triton_python_backend_utils")
    utils.__dict__.update(
        TritonError=TritonError,
        Tensor=Tensor,
        InferenceRequest=InferenceRequest,
        InferenceResponse=OldInferenceResponse if old else InferenceResponse,
        get_input_tensor_by_name=get_input_tensor_by_name,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, utils.__name__, utils)
        spec = importlib.util.spec_from_file_location("1.model", folder / "1" / "model.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    stub = Stub(module, config, folder)
    try:
        yield stub
    finally:
        stub.model.finalize()
