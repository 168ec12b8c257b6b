"""Where a network keeps the units that widths cut: heads, hidden units, the hidden units of every expert.

A narrow network is a prefix, so the order of units decides which of them it keeps. At full width every order computes
the same: a unit's rows in all tensors of its layer (and in the adapters that stand beside it) only have to move
together.

Axes: U units of a layer.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...models import MultiTaskModel
from ...models.adapters import LowRank
from ...models.moe import SlimExperts
from .errors import AdaptError

__all__ = ["Part", "UnitGroup", "reorder_", "unit_groups"]

_ONE_UNIT = 1e-9
"""A width that keeps one unit of anything."""

_WAYS_OUT = frozenset({"proj", "proj_shared", "down", "down_shared"})
"""Tensors whose rows a unit's value is multiplied with, by the first part of their names."""

_SITE = re.compile(r"(block|stage)(\d+)_(\w+)")
_LAYER_OF_SITE = {"qkv": "attn", "proj": "attn", "fc1": "mlp", "fc2": "mlp"}


@dataclass(frozen=True)
class Part:
    """A tensor that holds `rows` consecutive rows for every unit. `way_out`: those that the unit's value goes through
    on its way back to the residual stream."""

    tensor: nn.Parameter
    rows: int
    way_out: bool


@dataclass(frozen=True)
class UnitGroup:
    """Units that are ordered together: `count` of them, in every part."""

    name: str
    count: int
    parts: tuple[Part, ...]


def unit_groups(model: MultiTaskModel) -> list[UnitGroup]:
    """Every group of units with at least two of them, of encoder and heads.

    Raises:
        AdaptError: a layer keeps its units in a way that is not known here.
    """
    beside = _task_parts(model)
    groups = []
    for name, layer in model.named_modules():
        if hasattr(layer, "narrow_"):
            for which, parts in _layer_parts(layer).items():
                groups.append(_group(f"{name}{which}", [*parts, *beside.pop(name, [])]))
    if beside:
        raise AdaptError(f"adapters beside {', '.join(beside)} are slimmed, but no such layer is")
    return groups


def _layer_parts(layer: nn.Module) -> Mapping[str, list[Part]]:
    """What a copy that is cut to one unit has less of, is what units are kept in.

    Experts have units of their own each, unless an adapter changes all of them alike.
    """
    small = copy.deepcopy(layer)
    small.narrow_(_ONE_UNIT)  # type: ignore[operator]
    cut = dict(small.named_parameters())
    shorter = {name: value for name, value in layer.named_parameters() if cut[name].shape != value.shape}
    apart = isinstance(layer, SlimExperts) and all(name.rpartition(".")[2].isdecimal() for name in shorter)
    found: dict[str, list[Part]] = {}
    for name, tensor in shorter.items():
        first, _, rest = name.partition(".")
        found.setdefault(f".{rest}" if apart else "", []).append(Part(tensor, cut[name].shape[0], first in _WAYS_OUT))
    return found


def _task_parts(model: MultiTaskModel) -> dict[str, list[Part]]:
    """Adapters of tasks that read or write units of a layer, by the layer's name."""
    found: dict[str, list[Part]] = {}
    for whole, one in zip(model.encoder.sites(), model.encoder.sites(_ONE_UNIT), strict=True):
        if whole == one:
            continue
        layer = _layer_of(model, whole.name)
        for task in model.adapters.values():
            adapter = task[whole.name]  # type: ignore[index]
            assert isinstance(adapter, LowRank)
            if whole.inputs != one.inputs:
                found.setdefault(layer, []).append(Part(adapter.down, one.inputs, way_out=True))
            if whole.outputs != one.outputs:
                found.setdefault(layer, []).append(Part(adapter.up, one.outputs, way_out=False))
    return found


def _layer_of(model: MultiTaskModel, site: str) -> str:
    match = _SITE.fullmatch(site)
    if match is None or match[3] not in _LAYER_OF_SITE:
        raise AdaptError(f"it is not known which layer the adapters at '{site}' belong to")
    kind, number, suffix = match.groups()
    if kind == "block":
        return f"encoder.blocks.{number}.{_LAYER_OF_SITE[suffix]}"
    last = len(model.encoder.stages[int(number)].blocks) - 1  # tasks branch off in the last block of a stage
    return f"encoder.stages.{number}.blocks.{last}.{_LAYER_OF_SITE[suffix]}"


def _group(name: str, parts: list[Part]) -> UnitGroup:
    counts = {part.tensor.shape[0] // part.rows for part in parts}
    if len(counts) != 1 or any(part.tensor.shape[0] % part.rows for part in parts):
        raise AdaptError(f"{name} has units of several kinds ({sorted(counts)}): they cannot be ordered together")
    return UnitGroup(name, counts.pop(), tuple(parts))


@torch.no_grad()
def reorder_(groups: list[UnitGroup], importance: list[Tensor]) -> None:
    """Put the most important units first; equal ones stay in their order.

    Args:
        groups: of the network that changes.
        importance: of every unit, [U] for each group.
    """
    for group, value_U in zip(groups, importance, strict=True):
        order_U = torch.argsort(value_U, descending=True, stable=True)
        for part in group.parts:
            part.tensor.copy_(_by_unit(part)[order_U].flatten(0, 1))


def rows_of_units(group: UnitGroup, *, way_out: bool) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Of every part, or of the ways out alone: each unit's numbers, [U, ...], and their gradient if there is one."""
    for part in group.parts:
        if part.way_out or not way_out:
            gradient = part.tensor.grad
            yield _by_unit(part), None if gradient is None else gradient.unflatten(0, (-1, part.rows))


def _by_unit(part: Part) -> Tensor:
    return part.tensor.detach().unflatten(0, (-1, part.rows))
