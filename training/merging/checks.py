"""What a merge refuses, each with what was expected, what came, and how to go on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...models import MultiTaskModel
from ...models.families import AnyConfig
from ...models.model import SHARED_PARTS
from ..start import TRAINING_ONLY
from .errors import MergeError
from .vectors import backbone

__all__ = ["LEAST_COSINE", "check_drift", "check_finite", "check_preprocessing", "check_same_backbone"]

LEAST_COSINE = 0.1
"""Below this cosine of all matrices, a checkpoint does not come from that base: networks that began from different
random numbers have one near 0, and what a fine-tuning changes is small beside what it started from."""

_SHOWN = 5  # tensors named in a message


def check_same_backbone(base: AnyConfig, tuned: AnyConfig, path: Path) -> None:
    """Refuse a fine-tune whose network differs from the base's in anything but its tasks and how experts were trained.

    Raises:
        MergeError: naming every field that differs.
    """
    expected, got = ({**one.to_dict(), "has_decoder_experts": one.has_decoder_experts} for one in (base, tuned))
    names = [name for name in {**expected, **got} if name not in ("tasks", *TRAINING_ONLY)]
    if differs := [name for name in names if expected.get(name) != got.get(name)]:
        lines = [f"{name}: expected {expected.get(name)}, got {got.get(name)}" for name in differs]
        raise MergeError(
            f"{path} is another network than the base ({'; '.join(lines)})",
            hint="merge checkpoints that were fine-tuned from this base, all at one image size",
        )


def check_finite(model: MultiTaskModel, source: str, tasks: Sequence[str] | None = None) -> None:
    """Refuse numbers that are not finite in the backbone, or in what belongs to `tasks` (of a base: nothing else).

    A router's bias of minus infinity rules an expert out and is left alone.

    Raises:
        MergeError: naming the tensors.
    """
    names = tuple(f"{part}.{task}." for task in tasks or () for part in ("heads", "routers", "adapters"))
    state = model.state_dict()
    bad = [
        name for name, value in state.items() if name.startswith((*SHARED_PARTS, *names)) and not _usable(name, value)
    ]
    if bad:
        more = f" and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        raise MergeError(
            f"{source}: expected finite numbers, got NaN or infinity in {', '.join(bad[:_SHOWN])}{more}",
            hint="its training has diverged; take an earlier checkpoint, or train with a lower lr",
        )


def _usable(name: str, value: Tensor) -> bool:
    if name.startswith("routers.") and ".bias." in name:
        value = value[value != -math.inf]
    return not value.is_floating_point() or bool(torch.isfinite(value).all())


def check_drift(
    base: MultiTaskModel, tuned: MultiTaskModel, metadata: dict[str, Any], base_sha256: str, path: Path
) -> None:
    """Refuse a fine-tune that came from another base: by what its training wrote down, else by its numbers.

    Raises:
        MergeError: it did.
    """
    hint = "give the checkpoint that it was fine-tuned from; --no-check-base merges all the same"
    recorded = _recorded_start(metadata)
    if recorded == base_sha256:
        return
    if recorded is not None:
        raise MergeError(
            f"{path} was fine-tuned from another base: expected one with SHA-256 {base_sha256[:16]}..., "
            f"got {recorded[:16]}...",
            hint=hint,
        )
    cosine = matrix_cosine(base, tuned)
    if cosine < LEAST_COSINE:
        raise MergeError(
            f"{path} does not look fine-tuned from this base: expected a cosine of their weights of at least "
            f"{LEAST_COSINE:g}, got {cosine:.3f}",
            hint=hint,
        )


def matrix_cosine(base: MultiTaskModel, tuned: MultiTaskModel) -> float:
    """Cosine of the two backbones, each as one vector of all its matrices.

    Vectors (norms, biases) and positions are left out: those start alike in every training.
    """
    ours, theirs = backbone(base), backbone(tuned)
    names = [name for name, value in ours.items() if value.ndim > 1 and not name.endswith("position")]
    first, second = (torch.cat([tensors[name].double().reshape(-1) for name in names]) for tensors in (ours, theirs))
    return float(torch.nn.functional.cosine_similarity(first, second, dim=0))


def check_preprocessing(members: Sequence[tuple[Path, dict[str, Any]]]) -> None:
    """Refuse fine-tunes that want their pictures prepared in different ways: one backbone sees one picture.

    Raises:
        MergeError: two of them do.
    """
    (first_path, first), *others = members
    for path, metadata in others:
        if metadata.get("preprocessing") != first.get("preprocessing"):
            raise MergeError(
                f"{path} expects another preprocessing ({metadata.get('preprocessing')}) than {first_path} "
                f"({first.get('preprocessing')})",
                hint="merge fine-tunes that were trained on pictures prepared in the same way",
            )


def _recorded_start(metadata: dict[str, Any]) -> str | None:
    provenance = metadata.get("provenance")
    training = provenance.get("training") if isinstance(provenance, dict) else None
    start = training.get("start") if isinstance(training, dict) else None
    return start if isinstance(start, str) else None
