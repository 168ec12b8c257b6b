"""Weights of graphs for GPUs: one safetensors file, every tensor once per type, narrow graphs refer to prefixes of it.

Graphs are made before the file is: it holds what they refer to, at the widest. Constants too large to live in a graph
are stored by what they contain, so that equal ones are stored once.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch

from ...models.model import SHARED_PARTS
from ...runtime.bundles.gpu_spec import GPU_WEIGHTS_FILE
from ..errors import GraphBuildError
from ..slim import INLINE_LIMIT_BYTES
from ..weights import PER_SIZE, WeightsFile

#: Roots of the names that parameters have in a graph; any other initialiser is a constant that the exporter made.
_PARAMETERS = (*SHARED_PARTS, "heads.")


class GpuTensors:
    """Collects what graphs refer to."""

    def __init__(self) -> None:
        self._widest: dict[str, np.ndarray] = {}

    def collect(self, model: ir.Model, size_hw: tuple[int, int]) -> None:
        """Name every large initialiser of a graph as it is stored, and remember the widest of each name.

        Raises:
            GraphBuildError: two graphs mean different numbers by one name, or widths that are no prefixes.
        """
        for value in list(model.graph.initializers.values()):
            assert value.const_value is not None and value.name is not None
            array = np.ascontiguousarray(value.const_value.numpy())
            if not value.name.startswith(_PARAMETERS) and array.nbytes <= INLINE_LIMIT_BYTES:
                continue
            name = _stored_name(value.name, array, size_hw)
            shared = self._share(name, array)
            del model.graph.initializers[value.name]
            if name in model.graph.initializers:  # an equal constant
                value.replace_all_uses_with(model.graph.initializers[name])
                continue
            value.name, value.const_value = name, ir.tensor(shared, name=name)
            model.graph.register_initializer(value)

    def _share(self, name: str, array: np.ndarray) -> np.ndarray:
        """The array as a view of the widest of its name, so that graphs in memory share their weights, too."""
        known = self._widest.get(name)
        wide = array if known is None or known.size < array.size else known
        narrow = array if wide is known else known
        if narrow is not None and not np.array_equal(_bytes(wide)[: narrow.nbytes], _bytes(narrow)):
            raise GraphBuildError(f"'{name}' {wide.shape} and {narrow.shape} are no prefixes of one tensor")
        self._widest[name] = wide
        return wide.reshape(-1)[: array.size].reshape(array.shape)

    def write(self, folder: Path) -> WeightsFile:
        """Write the file."""
        tensors = {name: torch.from_numpy(array.copy()) for name, array in sorted(self._widest.items())}
        return WeightsFile.write(folder / GPU_WEIGHTS_FILE, tensors)


def refer_to_gpu_weights(model: ir.Model, weights: WeightsFile) -> int:
    """Replace what is stored by references; returns the bytes referred to."""
    referred = 0
    for name, value in list(model.graph.initializers.items()):
        if name not in weights.offsets:
            continue
        assert value.const_value is not None
        array = value.const_value.numpy()
        offset, length = weights.prefix_of(name, array)
        value.const_value = ir.ExternalTensor(
            GPU_WEIGHTS_FILE,
            offset,
            length,
            value.const_value.dtype,
            name=name,
            shape=ir.Shape(array.shape),
            base_dir=weights.path.parent,
        )
        referred += length
    return referred


def _stored_name(name: str, array: np.ndarray, size_hw: tuple[int, int]) -> str:
    """Type and name of a parameter, with its size where sizes do not share it; type and digest of a constant."""
    base, _, _ = name.partition("@")
    if not base.startswith(_PARAMETERS):
        return f"{array.dtype}/constant/{hashlib.sha256(array.tobytes()).hexdigest()[:16]}"
    place = f".{size_hw[0]}x{size_hw[1]}" if base in PER_SIZE else ""
    return f"{array.dtype}/{base}{place}"


def _bytes(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1).view(np.uint8)


def port_shapes(values: Iterable[ir.Value]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Names and shapes of inputs or outputs.

    Raises:
        GraphBuildError: an axis has no fixed size.
    """
    found = []
    for value in values:
        if value.shape is None or not all(isinstance(axis, int) for axis in value.shape):
            raise GraphBuildError(f"'{value.name}' has the shape {value.shape}, expected numbers only")
        found.append((str(value.name), tuple(int(axis) for axis in value.shape)))  # type: ignore[arg-type]
    return tuple(found)
