"""A base and its fine-tunes, read and checked: everything that a merge starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...models import HeadConfig, ModelError, MultiTaskModel, load_checkpoint
from ...models.families import AnyConfig
from ..start import sha256_of
from .checks import check_drift, check_finite, check_preprocessing, check_same_backbone
from .errors import MergeError
from .vectors import Tensors, backbone, task_vector

__all__ = ["Family", "Member", "Source", "load_family"]


@dataclass(frozen=True)
class Source:
    """A fine-tune as it is named: its file, and which of its tasks is meant (None: all that it has)."""

    path: Path
    task: str | None = None

    @classmethod
    def parse(cls, text: str) -> Source:
        """From `FILE` or `TASK=FILE`; a file that is really there under the whole text wins."""
        task, equals, path = text.partition("=")
        if equals and task.isidentifier() and not Path(text).exists():
            return cls(Path(path), task)
        return cls(Path(text))


@dataclass(frozen=True)
class Member:
    """A fine-tune: its network, what was saved with it, and the tasks that it brings."""

    path: Path
    sha256: str
    model: MultiTaskModel
    metadata: dict[str, Any]
    heads: tuple[HeadConfig, ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that it brings."""
        return tuple(head.name for head in self.heads)


@dataclass(frozen=True)
class Family:
    """A base, at the image size of its fine-tunes, and these, in the order of the result's tasks."""

    path: Path
    sha256: str
    base: MultiTaskModel
    members: tuple[Member, ...]

    @property
    def config(self) -> AnyConfig:
        """What the merged network is: the backbone that all have, with every task's head."""
        heads = tuple(head for member in self.members for head in member.heads)
        return replace(self.members[0].model.config, tasks=heads)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of all tasks, in the order of the result."""
        return self.config.task_names

    def member_of(self, task: str) -> Member:
        """The fine-tune that brings a task."""
        return next(member for member in self.members if task in member.tasks)

    def base_tensors(self) -> Tensors:
        """The base's backbone."""
        return backbone(self.base)

    def vectors(self) -> list[Tensors]:
        """The task vector of every fine-tune, float64."""
        base = self.base_tensors()
        return [task_vector(base, backbone(member.model)) for member in self.members]


def load_family(base: Path, sources: Sequence[Source], *, tasks: Sequence[str] = (), check_base: bool = True) -> Family:
    """Read a base and its fine-tunes, and refuse what cannot be merged.

    Args:
        base: the checkpoint that all of them were fine-tuned from.
        sources: the fine-tunes; the order of the result's tasks is theirs, unless `tasks` says another.
        tasks: what the result must have; a fine-tune with none of these is refused.
        check_base: refuse fine-tunes that look as if they came from another base.

    Raises:
        FileNotFoundError: a file is not there.
        CheckpointError: a file is no checkpoint, or a damaged one.
        MergeError: other base, other shapes, missing tasks, the same task twice, numbers that are not finite.
    """
    if not sources:
        raise MergeError("expected at least one fine-tune, got none")
    base_model, _ = load_checkpoint(base)
    check_finite(base_model, str(base))
    members = tuple(_load_member(source) for source in sources)
    base_model = _at_size(base_model, members[0], base)
    digest = sha256_of(base)
    for member in members:
        check_same_backbone(base_model.config, member.model.config, member.path)
        check_finite(member.model, str(member.path), member.tasks)
        if check_base:
            check_drift(base_model, member.model, member.metadata, digest, member.path)
    check_preprocessing([(member.path, member.metadata) for member in members])
    _check_once(members)
    return Family(base, digest, base_model, _in_order(members, tasks) if tasks else members)


def _load_member(source: Source) -> Member:
    model, metadata = load_checkpoint(source.path)
    if source.task is None:
        heads = model.config.tasks
    elif source.task in model.config.task_names:
        heads = (model.config.task(source.task),)
    else:
        raise MergeError(
            f"{source.path}: expected task '{source.task}', this checkpoint has {', '.join(model.config.task_names)}",
            hint="name one of these before the '='",
        )
    return Member(source.path, sha256_of(source.path), model, metadata, tuple(heads))


def _at_size(base: MultiTaskModel, member: Member, path: Path) -> MultiTaskModel:
    """The base at the image size of the fine-tunes, whose training has resampled its positions in the same way."""
    wanted = member.model.config.image_hw
    if base.config.image_hw == wanted:
        return base
    try:
        return base.resized(wanted)
    except ModelError as error:
        raise MergeError(f"{path} has images of {base.config.image_hw}, {member.path} of {wanted}: {error}") from error


def _check_once(members: Sequence[Member]) -> None:
    owner: dict[str, Path] = {}
    for member in members:
        for task in member.tasks:
            if task in owner:
                raise MergeError(
                    f"expected every task from one fine-tune, got '{task}' from both {owner[task]} and {member.path}",
                    hint=f"say which one is meant as TASK=FILE, such as {task}={member.path}, for each file",
                )
            owner[task] = member.path


def _in_order(members: Sequence[Member], tasks: Sequence[str]) -> tuple[Member, ...]:
    """The fine-tunes with the wanted tasks only, in their order."""
    there = [task for member in members for task in member.tasks]
    if missing := [task for task in tasks if task not in there]:
        raise MergeError(
            f"expected tasks {', '.join(tasks)}, no fine-tune brings {', '.join(missing)} (they bring "
            f"{', '.join(there)})",
            hint="give a checkpoint of each missing task, or leave it out of --tasks",
        )
    kept = [replace(member, heads=tuple(head for head in member.heads if head.name in tasks)) for member in members]
    if idle := [member for member in kept if not member.heads]:
        raise MergeError(
            f"{idle[0].path} brings none of the tasks {', '.join(tasks)}", hint="leave the file out, or name its task"
        )
    ordered = sorted(kept, key=lambda member: min(tasks.index(task) for task in member.tasks))
    return tuple(
        replace(member, heads=tuple(sorted(member.heads, key=lambda head: tasks.index(head.name))))
        for member in ordered
    )
