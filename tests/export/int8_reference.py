"""What int8 graphs mean, in NumPy: the operators that ONNX's own reference evaluator does not know."""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

DOMAIN = "com.microsoft"
_erf = np.vectorize(math.erf, otypes=[np.float64])


def quantised(x: np.ndarray) -> tuple[np.ndarray, float, int]:
    """uint8 values, scale, zero point: the range of the tensor, widened to hold 0, in 255 steps."""
    low, high = np.float32(min(x.min(initial=0), 0)), np.float32(max(x.max(initial=0), 0))
    scale = np.float32((high - low) / np.float32(255)) or np.float32(1)
    zero = int(np.clip(np.rint(-low / scale), 0, 255))
    return np.clip(np.rint(x / scale) + zero, 0, 255).astype(np.uint8), float(scale), zero


def product(q: np.ndarray, scale: float, zero: int, weight_KN: np.ndarray, weight_scale_N: np.ndarray) -> np.ndarray:
    """The integer product, exact, then one scale per output."""
    sums = (q.astype(np.int64) - int(zero)) @ weight_KN.astype(np.int64)
    return (sums * (np.float64(scale) * weight_scale_N)).astype(np.float32)


class QGemm(OpRun):
    op_domain = DOMAIN

    def _run(self, q, scale, zero, weight, weight_scale, weight_zero, transA=0, transB=0, alpha=1.0):
        assert transB and not transA and alpha == 1.0 and not weight_zero.any()
        return (product(q, scale, zero, weight.T, weight_scale),)


class DynamicQuantizeMatMul(OpRun):
    op_domain = DOMAIN

    def _run(self, x, weight, weight_scale, weight_zero=None, bias=None):
        assert weight_zero is None
        answer = product(*quantised(x), weight, weight_scale)
        return (answer if bias is None else answer + bias,)


class BiasGelu(OpRun):
    op_domain = DOMAIN

    def _run(self, x, bias):
        hidden = (x + bias).astype(np.float64)
        return ((hidden * 0.5 * (1 + _erf(hidden / math.sqrt(2)))).astype(np.float32),)


class DynamicQuantizeLinear(OpRun):
    op_domain = ""

    def _run(self, x):
        values, scale, zero = quantised(x)
        return values, np.array(scale, np.float32), np.array(zero, np.uint8)


class GatherElements(OpRun):
    """ONNX's own refuses indices that are smaller than the data along other axes."""

    op_domain = ""

    def _run(self, data, indices, axis=0):
        return (np.take_along_axis(data[tuple(slice(size) for size in _but(axis, data, indices))], indices, axis),)


def _but(axis: int, data: np.ndarray, indices: np.ndarray) -> list[int]:
    return [data.shape[i] if i == axis % data.ndim else indices.shape[i] for i in range(data.ndim)]


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """All outputs, by NumPy."""
    operators = [QGemm, DynamicQuantizeMatMul, BiasGelu, DynamicQuantizeLinear, GatherElements]
    return ReferenceEvaluator(model, new_ops=operators).run(None, feeds)  # type: ignore[return-value]
