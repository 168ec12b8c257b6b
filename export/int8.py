"""Weights in int8: symmetric, a scale per output, once per tensor for all widths.

Stored beside the fp32 tensor `name`, in its layout: `name.int8`, whose narrow versions are prefixes of the same bytes,
and `name.int8_scale`. Up-projections and qkv are [units, in]: an output is a unit, and a narrow width reads a prefix of
the scales too. Down-projections are [units, out]: an output sums over units, so all widths share the scale of the full
one. A narrow width could have had a finer one; it never clips, since a prefix has no larger values.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

PRECISION = "int8"
VALUES, SCALE, ZERO = ".int8", ".int8_scale", ".int8_zero"
#: Zero points of weights are all 0, so all refer to a prefix of this one. In a graph each has a name of its own: ONNX
#: Runtime replaces them one by one where it has to turn weights into uint8 (see runtime/backends/ort.py).
ZEROS = "int8.zeros"
LIMIT = 127  # -128 stays unused, so that the grid is symmetric

#: The large products of the encoders; routers, norms, convolutions, adapters and bias tables are not among them.
_PRODUCT = re.compile(r"encoder\..*\b(?:attn\.(qkv|proj)|(?:mlp|experts)\.(up|down))(?:\.\d+)?")
_OUTPUTS_FIRST = {"qkv", "up"}


@dataclass(frozen=True)
class Int8Weight:
    """`values` [rows, columns] of int8; the weight is values * scale, with a scale per row or column.

    `rows_are_outputs`: there is a scale per row; otherwise per column.
    """

    values: np.ndarray
    scale: np.ndarray
    rows_are_outputs: bool

    def prefix(self, rows: int) -> "Int8Weight":
        """The weight of a narrower width."""
        return Int8Weight(
            self.values[:rows], self.scale[:rows] if self.rows_are_outputs else self.scale, self.rows_are_outputs
        )

    def dequantised(self) -> np.ndarray:
        """What it stands for, fp32."""
        return self.values * (self.scale[:, None] if self.rows_are_outputs else self.scale)


#: Name of an fp32 tensor and its values as a graph has them -> the int8 weight, None for what stays fp32.
Lookup = Callable[[str, np.ndarray], Int8Weight | None]


def is_product(name: str) -> bool:
    """Whether a tensor is the weight of a product that int8 graphs compute in int8."""
    return _PRODUCT.fullmatch(name) is not None


def quantise(name: str, weight: np.ndarray) -> Int8Weight | None:
    """The int8 weight of a named fp32 tensor; None where it stays fp32."""
    match = _PRODUCT.fullmatch(name)
    if match is None or weight.ndim != 2:
        return None
    rows_are_outputs = (match[1] or match[2]) in _OUTPUTS_FIRST
    scale = np.abs(weight).max(axis=1 if rows_are_outputs else 0).astype(np.float32) / np.float32(LIMIT)
    scale = np.where(scale > np.finfo(np.float32).tiny, scale, np.float32(1))  # an output without weights stays 0
    steps = np.rint(weight / (scale[:, None] if rows_are_outputs else scale))
    return Int8Weight(np.clip(steps, -LIMIT, LIMIT).astype(np.int8), scale, rows_are_outputs)


def int8_weights(tensors: Mapping[str, torch.Tensor]) -> dict[str, Int8Weight]:
    """The int8 weight of every product among named tensors, under the names of the fp32 ones."""
    found = {name: quantise(name, value.numpy()) for name, value in tensors.items() if is_product(name)}
    return {name: weight for name, weight in found.items() if weight is not None}


def stored_tensors(weights: Mapping[str, Int8Weight]) -> dict[str, torch.Tensor]:
    """What the weights file holds of them, by name."""
    tensors = {name + VALUES: torch.from_numpy(weight.values) for name, weight in weights.items()}
    tensors |= {name + SCALE: torch.from_numpy(weight.scale) for name, weight in weights.items()}
    widest = max(len(weight.scale) for weight in weights.values())
    return tensors | {ZEROS: torch.zeros(widest, dtype=torch.int8)}


def is_stored(name: str) -> bool:
    """Whether a tensor of a weights file is one of `stored_tensors`, and none of the network's own."""
    return name == ZEROS or name.endswith((VALUES, SCALE))


def of_widest(weights: Mapping[str, Int8Weight]) -> Lookup:
    """Looks up the weights of any width among those of the full one."""

    def found(name: str, weight: np.ndarray) -> Int8Weight | None:
        return weights[name].prefix(len(weight)) if name in weights else None

    return found
