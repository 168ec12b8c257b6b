"""Task vectors: what a fine-tuning changed in the backbone, tensor by tensor.

They are kept in double precision, so that base + (fine-tune - base) is the fine-tune to the last bit of its fp32.
Axes: T tasks (fine-tunes), P numbers of all tensors of the backbone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ...models import MultiTaskModel
from ...models.model import SHARED_PARTS

__all__ = ["Tensors", "added", "backbone", "cosines", "flat", "task_vector", "unflat"]

Tensors = dict[str, Tensor]


def backbone(model: MultiTaskModel) -> Tensors:
    """The tensors that are merged: all numbers of what the tasks share, by their name in the model."""
    state = model.state_dict()
    return {
        name: value.detach()
        for name, value in state.items()
        if name.startswith(SHARED_PARTS) and value.is_floating_point()
    }


def task_vector(base: Mapping[str, Tensor], tuned: Mapping[str, Tensor]) -> Tensors:
    """tau = theta_tuned - theta_base, float64 (Ilharco et al. 2023, section 2)."""
    return {name: tuned[name].double() - value.double() for name, value in base.items()}


def added(base: Mapping[str, Tensor], change: Mapping[str, Tensor]) -> Tensors:
    """theta_base + change, in the precision of the base."""
    return {name: (value.double() + change[name]).to(value.dtype) for name, value in base.items()}


def flat(vector: Mapping[str, Tensor]) -> Tensor:
    """One row of numbers, [P]; `unflat` takes it apart again."""
    return torch.cat([value.reshape(-1) for value in vector.values()])


def unflat(numbers_P: Tensor, like: Mapping[str, Tensor]) -> Tensors:
    """Inverse of `flat`, in the shapes of `like`."""
    pieces = torch.split(numbers_P, [value.numel() for value in like.values()])
    return {name: piece.reshape(value.shape) for (name, value), piece in zip(like.items(), pieces, strict=True)}


def cosines(vectors: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """Cosine of every pair of vectors, [T, T]; 0 where one of them is zero. Near 0: the tasks hardly disturb each
    other."""
    rows_TP = torch.stack([flat(vector) for vector in vectors])
    unit_TP = torch.nn.functional.normalize(rows_TP, dim=1)
    return unit_TP @ unit_TP.T
