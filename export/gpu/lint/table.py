"""The tables of `tensorrt.json`: which operators and types each release of TensorRT takes, from where, as of when."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_FILE = Path(__file__).with_name("tensorrt.json")
RELEASES = ("10", "11")

#: Inputs that are indices or shapes, not data: they may be whole numbers where the table lists the types of data.
#: Operator -> places of its data.
_FIRST_ONLY = (
    "Reshape", "Slice", "Expand", "Tile", "Squeeze", "Unsqueeze", "Split", "Pad", "Resize", "TopK", "CumSum",
    "OneHot", "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
    "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare", "Gather", "GatherElements", "GatherND",
    "ConstantOfShape", "DequantizeLinear", "QuantizeLinear",
)  # fmt: skip
DATA_INPUTS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(_FIRST_ONLY, (0,)),
    "ScatterElements": (0, 2),
    "ScatterND": (0, 2),
    "Where": (1, 2),
    "ConstantOfShape": (),
}
#: Whose outputs are of another kind than the data that the table speaks of: truth values, indices, shapes, codes.
OTHER_OUTPUTS = frozenset({
    "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "ArgMax", "ArgMin",
    "Shape", "Size", "QuantizeLinear", "DequantizeLinear", "NonZero",
})  # fmt: skip


@dataclass(frozen=True)
class Release:
    """What one release takes.

    Args:
        read: the version whose documents were read.
        opset: lowest and highest.
        types: operator -> element types of its data, empty where it is not supported.
        rules: operator -> names of functions in `rules.py`.
    """

    name: str
    read: str
    opset: tuple[int, int]
    types: dict[str, frozenset[str]]
    rules: dict[str, tuple[str, ...]]
    axes: int
    elements: int
    topk: int


@cache
def releases() -> tuple[Release, ...]:
    """Every release of the tables."""
    document: dict[str, Any] = json.loads(_FILE.read_text(encoding="utf-8"))
    return tuple(_release(document, name) for name in RELEASES)


def sources() -> list[dict[str, str]]:
    """Where the tables come from, each with its date."""
    return json.loads(_FILE.read_text(encoding="utf-8"))["sources"]


def _release(document: dict[str, Any], name: str) -> Release:
    about, limits, operators = document["releases"][name], document["limits"], document["operators"]
    return Release(
        name,
        about["read"],
        tuple(about["opset"]),
        {operator: frozenset(entry.get(name, entry["10"])) for operator, entry in operators.items()},
        {operator: tuple(entry.get("rules", ())) for operator, entry in operators.items()},
        limits["axes"],
        limits["elements"],
        limits["topk"],
    )
