"""Twin-Merging: what the tasks share, merged; what each has for itself, compressed to low rank and kept per task.

    theta* = theta_0 + lambda sum_t tau_t        shared part, by task arithmetic
    v_t = SVD_r(theta_t - theta*)                exclusive part of task t
    theta(x) = theta* + sum_t w_t(x) v_t         at run time, w from a router that looks at the input

Source: Lu et al. 2024, "Twin-Merging: Dynamic Integration of Modular Expertise in Model Merging";
LZY-the-boys/Twin-Merging, discriminative/twin_merge.py (`extract_twin_vector`) and sparsify.py (`svd`: the largest
singular values of every matrix; vectors are left whole).

Here a request names its task, so no router has to guess: w is 1 for that task and 0 for the others. Where the backbone
has places for a task's low-rank adapters (`models/adapters.py`), v_t of that matrix is exactly such an adapter. The
other matrices and all vectors have no such place; there w is the same for every task, 1 / T, and the sum is merged.
Axes: T tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...models.families import AnyConfig
from .config import MergeConfig
from .family import Family
from .svd import truncated
from .task_arithmetic import task_arithmetic
from .twin_sites import TwinSite, join_adapters, split_places
from .vectors import Tensors

__all__ = ["Twin", "twin"]


@dataclass(frozen=True)
class Twin:
    """What is added to the base; with adapters, also the configuration that has them, and their tensors."""

    change: Tensors
    config: AnyConfig
    adapters: Tensors
    carried: tuple[str, ...]


def twin(family: Family, vectors: Sequence[Mapping[str, Tensor]], config: MergeConfig) -> Twin:
    """Shared and exclusive parts, the latter as adapters as far as `config.exclusive` and the backbone allow."""
    shared = task_arithmetic(vectors, config.factor)
    exclusive = [{name: vector[name] - shared[name] for name in shared} for vector in vectors]
    made, places = family.config, list[TwinSite]()
    if config.exclusive == "adapters":
        made, places = split_places(family.config, config.rank)
    carried = {place.tensor for place in places}
    change = {
        name: value if name in carried else value + _mean([truncated(own[name], config.rank) for own in exclusive])
        for name, value in shared.items()
    }
    adapters: Tensors = {}
    for member, own in zip(family.members, exclusive, strict=True):
        for task in member.tasks:
            adapters |= join_adapters(member.model, task, own, places, made)
    return Twin(change, made, adapters, tuple(sorted(carried)))


def _mean(values: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean(dim=0)
