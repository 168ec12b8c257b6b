"""The merged network: the merged backbone, and what belongs to a task from that task's fine-tune."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...models import MultiTaskModel
from ...models.families import AnyConfig
from ...models.model import SHARED_PARTS
from .family import Family
from .vectors import Tensors

__all__ = ["assemble", "metadata_of", "of_task"]


def of_task(model: MultiTaskModel, task: str) -> Tensors:
    """What only one task uses, by its name in the model: head, routers, adapters."""
    own = tuple(f"{part}.{task}." for part in ("heads", "routers", "adapters"))
    return {name: value for name, value in model.state_dict().items() if name.startswith(own)}


def assemble(
    family: Family,
    merged: Mapping[str, Tensor],
    config: AnyConfig | None = None,
    replaced: Mapping[str, Tensor] | None = None,
) -> MultiTaskModel:
    """Put a network together.

    Args:
        family: where heads, routers and adapters come from.
        merged: the backbone, by name in the model.
        config: of the result, where it differs from the family's.
        replaced: tensors that replace those of the fine-tunes, or that these do not have.

    Returns:
        A network of its own, in evaluation mode, on the CPU.
    """
    state: dict[str, Tensor] = {**family.members[0].model.state_dict()}
    state = {name: value for name, value in state.items() if name.startswith(SHARED_PARTS)} | dict(merged)
    for task in family.tasks:
        state |= of_task(family.member_of(task).model, task)
    state |= dict(replaced or {})
    with torch.device("meta"):  # no weights are drawn only to be overwritten, and the random state stays as it is
        model = MultiTaskModel(config or family.config)
    model.load_state_dict({name: value.detach().clone() for name, value in state.items()}, assign=True)
    return model.eval()


def metadata_of(family: Family, record: Mapping[str, Any]) -> dict[str, Any]:
    """What is saved with the network: the tasks in words, preprocessing, licences and provenance of the fine-tunes.

    Args:
        record: what the merge says about itself.
    """
    described = {
        spec["name"]: spec
        for member in family.members
        for spec in member.metadata.get("tasks", [])
        if isinstance(spec, dict) and spec.get("name") in member.tasks
    }
    licences = dict.fromkeys(
        str(member.metadata["licence"]) for member in family.members if "licence" in member.metadata
    )
    metadata: dict[str, Any] = {"tasks": [described[task] for task in family.tasks if task in described]}
    if "preprocessing" in family.members[0].metadata:
        metadata["preprocessing"] = family.members[0].metadata["preprocessing"]
    if licences:
        metadata["licence"] = " AND ".join(licences)
    metadata["provenance"] = {"merged_by": "slimpath merge", **record}
    return metadata
