"""The checkpoint that is adapted, as it was (the original) and as it is trained (offered at narrow widths)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...models import HeadConfig, ModelConfig, ModelError, MultiTaskModel, load_checkpoint
from ...models.families import AnyConfig
from ..packs.kinds import LIKE
from ..start import sha256_of
from ..tasks import TASK_KINDS
from .config import AdaptConfig
from .errors import AdaptError

__all__ = ["Original", "hold_statistics", "load_original", "quiet", "renamed", "slimmable"]

FULL_WIDTH = (1.0,)


@dataclass(frozen=True)
class Original:
    """A checkpoint offered at full width, its network in evaluation mode.

    `known_as` maps each task to the name under which trainer, losses and metrics know its kind: its own, if they do.
    """

    path: Path
    sha256: str
    model: MultiTaskModel
    metadata: dict[str, Any]
    known_as: Mapping[str, str]


def load_original(path: Path) -> Original:
    """Read a checkpoint, and refuse what cannot be adapted.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is no checkpoint.
        AdaptError: a bundle, a checkpoint that is slimmable already, weights that are not finite.
    """
    if path.is_dir():
        what = "a bundle" if (path / "manifest.json").is_file() else "a folder"
        raise AdaptError(
            f"expected a checkpoint, a .safetensors file, got {what}, {path}",
            hint="give the file that `slimpath convert` or `slimpath train` wrote",
        )
    model, metadata = load_checkpoint(path)
    if model.config.widths != FULL_WIDTH:
        widths = ", ".join(f"{width:g}" for width in model.config.widths)
        raise AdaptError(
            f"expected a checkpoint offered at full width only, {path} offers the widths {widths} already",
            hint="export it as it is; `slimpath train` with start= trains it further",
        )
    bad = [name for name, value in model.state_dict().items() if not bool(torch.isfinite(value).all())]
    if bad:
        raise AdaptError(f"{path} holds numbers that are not finite, in {', '.join(bad[:3])}")
    return Original(path, sha256_of(path), model, metadata, _known_names(model.config.tasks))


def _known_names(heads: tuple[HeadConfig, ...]) -> dict[str, str]:
    """A name that the trainer has for every task; a foreign one takes a free name of its kind."""
    known = {head.name: head.name for head in heads if TASK_KINDS.get(head.name) == head.kind}
    for head in heads:
        if head.name not in known:
            free = [name for name, kind in TASK_KINDS.items() if kind == head.kind and name not in known.values()]
            if not free:
                raise AdaptError(f"too many tasks of kind {head.kind}: there is no place left for '{head.name}'")
            known[head.name] = LIKE[head.kind] if LIKE[head.kind] in free else free[0]
    return {head.name: known[head.name] for head in heads}


def slimmable(original: MultiTaskModel, config: AdaptConfig) -> MultiTaskModel:
    """A copy, offered at the widths of `config`; with fresh native decoders in the place of published ones if these
    are asked for (seed with `torch.manual_seed`).

    Raises:
        AdaptError: the backbone has no native decoders.
    """
    old = original.config
    heads = tuple(_native(head) if config.native_decoders else head for head in old.tasks)
    try:
        model = MultiTaskModel(replace(old, tasks=heads, widths=config.widths))
    except ModelError as error:
        raise AdaptError(f"native decoders cannot be had for this network: {error}") from error
    swapped = tuple(f"heads.{head.name}." for head, kept in zip(heads, old.tasks) if head != kept)
    state = {name: value for name, value in original.state_dict().items() if not name.startswith(swapped or "\0")}
    model.load_state_dict({**model.state_dict(), **{name: value.clone() for name, value in state.items()}})
    return model.eval()


def _native(head: HeadConfig) -> HeadConfig:
    return head if head.slimmable else HeadConfig(head.name, head.kind, head.channels)


def renamed(model: MultiTaskModel, names: Mapping[str, str], **changes: Any) -> MultiTaskModel:
    """The same network, the very same tensors, with other names for its tasks, and other settings that change no shape.

    Args:
        names: new name of every task.
    """
    heads = tuple(replace(head, name=names[head.name]) for head in model.config.tasks)
    config: AnyConfig = replace(model.config, tasks=heads, **changes)
    with torch.device("meta"):  # no weights are drawn only to be thrown away
        clone = MultiTaskModel(config)
    state = {_renamed_tensor(name, names): value for name, value in model.state_dict(keep_vars=True).items()}
    clone.load_state_dict(state, assign=True)
    return clone.train(model.training)


def _renamed_tensor(name: str, names: Mapping[str, str]) -> str:
    part, _, rest = name.partition(".")
    if part not in ("heads", "routers", "adapters"):
        return name
    task, _, rest = rest.partition(".")
    return f"{part}.{names[task]}.{rest}"


def quiet(config: AnyConfig) -> dict[str, Any]:
    """Settings of the network while it is adapted: routers make no noise, as the original's make none."""
    return {"router_noise": 0.0} if isinstance(config, ModelConfig) else {}


def hold_statistics(model: nn.Module) -> None:
    """Batch norms of published heads keep the statistics they have: those of one width would spoil the others."""
    for layer in model.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.eval()
