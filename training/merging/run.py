"""`merge`: from checkpoints to a checkpoint, with the settings beside it.

Axes: T fine-tunes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...models import MultiTaskModel, save_checkpoint
from ..files import write_json
from ..start import sha256_of
from .adamerging import adamerging
from .assemble import assemble, metadata_of
from .atlas import atlas
from .config import MergeConfig
from .errors import MergeError
from .family import Family, Source, load_family
from .learned import Learned, Steps
from .pictures import LabelledPictures, Pictures, open_pictures
from .task_arithmetic import task_arithmetic
from .ties import ties
from .twin import twin
from .vectors import Tensors, added, cosines, flat

__all__ = ["DEFAULT_DATA", "MergeReport", "Merged", "merge_checkpoints", "merge_family"]

DEFAULT_DATA = "rooms:64"


@dataclass(frozen=True)
class Merged:
    """A merged network, the coefficients if any were learned, and the matrices whose exclusive parts are adapters."""

    model: MultiTaskModel
    learned: Learned | None = None
    carried: tuple[str, ...] = ()


@dataclass(frozen=True)
class MergeReport:
    """What a merge made.

    Args:
        lengths: by fine-tune (its tasks joined by +): length of its task vector, as a share of the base's.
        cosines: of each pair of task vectors, [T, T].
        data: the pictures that coefficients were learned on.
        first_loss, last_loss: what was minimised, before the first and the last step.
        carried: matrices whose exclusive parts are adapters (twin).
    """

    checkpoint: Path
    settings: Path
    method: str
    tasks: tuple[str, ...]
    parameters: int
    lengths: dict[str, float]
    cosines: list[list[float]]
    data: str | None
    first_loss: float | None
    last_loss: float | None
    carried: tuple[str, ...]
    seconds: float


def merge_family(
    family: Family,
    config: MergeConfig,
    pictures: Pictures | None = None,
    progress: Steps = lambda done, loss: None,
    *,
    vectors: Sequence[Tensors] | None = None,
) -> Merged:
    """Merge in memory.

    Args:
        family: see `load_family`.
        config: every setting.
        pictures: what coefficients are learned on; labelled for `atlas`.
        progress: told after every step of a method that learns.
        vectors: those of `family`, if the caller has them already.

    Raises:
        MergeError: the method needs pictures, or labels, that are not there; or its loss is not finite.
    """
    vectors = family.vectors() if vectors is None else vectors
    if config.method == "twin":
        parts = twin(family, vectors, config)
        merged = added(family.base_tensors(), parts.change)
        return Merged(assemble(family, merged, parts.config, parts.adapters), carried=parts.carried)
    change, learned = _change(family, vectors, config, pictures, progress)
    return Merged(assemble(family, added(family.base_tensors(), change)), learned)


def _change(
    family: Family, vectors: Sequence[Tensors], config: MergeConfig, pictures: Pictures | None, progress: Steps
) -> tuple[Tensors, Learned | None]:
    if config.method == "task-arithmetic":
        return task_arithmetic(vectors, config.factor), None
    if config.method == "ties":
        return ties(vectors, config.keep, config.factor), None
    if config.method == "adamerging" and pictures is not None:
        return adamerging(family, vectors, pictures, config, progress)
    if config.method == "atlas" and isinstance(pictures, LabelledPictures):
        return atlas(family, vectors, pictures, config, progress)
    needed = "labelled pictures" if config.method == "atlas" else "pictures"
    raise MergeError(f"{config.method} needs {needed}, got {'others' if pictures else 'none'}", hint="say rooms:64")


def merge_checkpoints(
    base: Path,
    sources: Sequence[Source],
    out: Path,
    config: MergeConfig,
    *,
    data: str = DEFAULT_DATA,
    tasks: Sequence[str] = (),
    check_base: bool = True,
    progress: Steps = lambda done, loss: None,
) -> MergeReport:
    """Merge files into a checkpoint, `out`, and its settings beside it, `out` with the suffix .json.

    Args:
        base, sources, tasks, check_base: see `load_family`.
        data: pictures for the methods that learn: "rooms:N", a folder of rendered rooms, a folder of pictures.

    Raises:
        FileNotFoundError: a file is not there.
        CheckpointError: a file is no checkpoint, or a damaged one.
        MergeError: the files cannot be merged, or the settings cannot work.
    """
    started = time.monotonic()
    out, settings = Path(out), Path(out).with_suffix(".json")
    _check_target(out, [base, *(source.path for source in sources)])
    family = load_family(base, sources, tasks=tasks, check_base=check_base)
    vectors = family.vectors()
    pictures = _pictures(family, data, config) if config.learned else None
    done = merge_family(family, config, pictures, progress, vectors=vectors)
    record = _record(family, config, pictures)
    save_checkpoint(out, done.model, metadata_of(family, record))
    coefficients = done.learned.by_tensor() if done.learned else {}
    document = {**record, "carried": done.carried, "coefficients": coefficients, "sha256": sha256_of(out)}
    write_json(settings, document)
    losses = done.learned.losses if done.learned else ()
    length = float(flat(family.base_tensors()).double().norm())
    return MergeReport(
        checkpoint=out,
        settings=settings,
        method=config.method,
        tasks=family.tasks,
        parameters=sum(value.numel() for value in done.model.parameters()),
        lengths={
            "+".join(member.tasks): float(flat(vector).norm()) / max(length, 1e-300)
            for member, vector in zip(family.members, vectors, strict=True)
        },
        cosines=cosines(vectors).tolist(),
        data=pictures.name if pictures else None,
        first_loss=losses[0] if losses else None,
        last_loss=losses[-1] if losses else None,
        carried=done.carried,
        seconds=time.monotonic() - started,
    )


def _pictures(family: Family, data: str, config: MergeConfig) -> Pictures:
    from ...export.describe import preprocessing

    spec = preprocessing(family.members[0].metadata)
    labelled = config.method == "atlas"
    return open_pictures(data, family.config.tasks, family.config.image_hw, spec, labelled=labelled)


def _record(family: Family, config: MergeConfig, pictures: Pictures | None) -> dict[str, Any]:
    """Settings and origins. Folders of this machine are nobody's business: files are named by what is in them."""
    members = [
        {"file": member.path.name, "sha256": member.sha256, "tasks": list(member.tasks)} for member in family.members
    ]
    return {
        "merging": asdict(config) | {"scale": config.factor},
        "base": {"file": family.path.name, "sha256": family.sha256},
        "fine_tunes": members,
        "pictures": {"name": pictures.name, "count": pictures.count} if pictures else None,
    }


def _check_target(out: Path, inputs: Sequence[Path]) -> None:
    if out.suffix != ".safetensors":
        raise MergeError(f"the result must be a .safetensors file, got {out}", hint="for example merged.safetensors")
    if out.exists() and any(path.exists() and out.samefile(path) for path in inputs):
        raise MergeError(f"{out} is one of the checkpoints that are merged", hint="write the result somewhere else")
