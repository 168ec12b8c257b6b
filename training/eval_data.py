"""What an evaluation looks at: rendered rooms, or the files of a data set, with what trivial answers are fitted on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..runtime.bundles.manifest import Manifest
from ..runtime.tasks import TaskSpec, parse_tasks
from .datasets import LAYOUTS, FileDataset, open_dataset
from .edge_match import MAX_DISTANCE
from .errors import DataError, EvaluationError
from .eval_rooms import RoomRange, open_rooms
from .metrics import Metric, metric_for
from .placed import Placed, Subset, spread
from .run_train import room_classes
from .sources import SampleSource
from .synthrooms import VERSIONS
from .tasks import TASK_KINDS

__all__ = ["ROOM_TASKS", "FileData", "JudgedData", "edge_distance", "judged_files", "judged_rooms", "other_classes"]

ROOM_TASKS = ("semseg", "depth", "normals", "edge", "saliency", "scene")
_FITTED_ON = 200  # samples at most: a mean of more pictures hardly moves
_EDGE_DISTANCE = {"nyud_mt": 0.011, "nyud_v2": 0.011}


def edge_distance(layout: str | None) -> float:
    """Largest distance of matched edges, as a share of the diagonal: NYUD's published figure, PASCAL's for the rest."""
    return _EDGE_DISTANCE.get(layout or "", MAX_DISTANCE)


@dataclass(frozen=True)
class FileData:
    """Files to judge on.

    Args:
        layout: one of `datasets.LAYOUTS`.
        split: what is judged.
        fit_split: what trivial answers are fitted on; where it cannot be read, they are fitted on what is judged.
        samples: judge that many, spread over the split; None for all.
        at_network: judge at the network's size, as MTLoRA and InvPT do, and not at each picture's own.
    """

    layout: str
    root: Path
    split: str = "val"
    fit_split: str = "train"
    samples: int | None = None
    at_network: bool = False


@dataclass(frozen=True)
class JudgedData:
    """Samples to judge on, as `metrics` need them.

    Args:
        samples: with `image` and a label of every task; answers are brought to the size of the label.
        known: the same at the network's size: what trivial answers are fitted on.
        source: in words, as the manifest keeps it.
        fitted_on: the same of `known`.
        metrics: of every task that is judged.
        skipped: tasks of the bundle that are not, for want of labels.
    """

    samples: SampleSource
    known: SampleSource
    source: str
    fitted_on: str
    metrics: dict[str, Metric]
    skipped: tuple[str, ...]


Agree = Callable[[str, Mapping[str, Metric]], None]
"""Told in words what will be judged and by which metrics, as soon as that is known; raises to have none of it."""


def _anything(source: str, metrics: Mapping[str, Metric]) -> None:
    """Agree to whatever will be judged."""


@contextmanager
def judged_rooms(
    manifest: Manifest,
    wanted: RoomRange,
    fitted_on: RoomRange,
    *,
    tasks: Sequence[str] | None,
    cache: Path | None,
    workers: int,
    progress: bool,
    agree: Agree = _anything,
) -> Iterator[JudgedData]:
    """Rendered rooms; `agree` is called before any is rendered.

    Raises:
        EvaluationError: the ranges overlap, a task that SynthRooms does not label, or other classes than the bundle's.
    """
    wanted.check_apart(fitted_on)
    chosen = _chosen(manifest, ROOM_TASKS, tasks, "SynthRooms")
    classes = room_classes()
    for spec in chosen:
        if spec.channels != classes.get(spec.name, spec.channels):
            raise EvaluationError(
                f"SynthRooms labels {classes[spec.name]} classes of '{spec.name}', this bundle has {spec.channels}; "
                "evaluate a bundle trained on this version's rooms"
            )
    source = f"SynthRooms ({VERSIONS.get(wanted.world, wanted.world)}), {wanted}"
    metrics = {spec.name: metric_for(spec.name, spec.channels, spec.classes) for spec in chosen}
    agree(source, metrics)
    with (
        open_rooms(fitted_on, cache, workers=workers, progress=progress) as known,
        open_rooms(wanted, cache, workers=workers, progress=progress) as samples,
    ):
        yield JudgedData(
            samples,
            known,
            source,
            f"{fitted_on.count} training scenes ({fitted_on})",
            metrics,
            _without(manifest, chosen),
        )


def judged_files(
    manifest: Manifest, files: FileData, size_hw: tuple[int, int], tasks: Sequence[str] | None
) -> JudgedData:
    """The files of a data set; every one that is needed is looked at first.

    Raises:
        DataError: files are missing, damaged or do not fit together; they are named.
        EvaluationError: a task that the bundle or the data set does not have, or other classes than the bundle's.
    """
    kind = LAYOUTS.get(files.layout)
    labelled = kind.labelled(files.root, files.split) if kind is not None else ()
    chosen = _chosen(manifest, labelled, tasks, f"the data set in {files.root}") if labelled else []
    names = [spec.name for spec in chosen] or list(kind.known_tasks if kind is not None else ())
    judged = open_dataset(files.layout, files.root, files.split, names)
    for spec in chosen:
        _check_classes(spec, judged)
    chosen_numbers = spread(len(judged), files.samples)
    samples: SampleSource = Subset(judged, chosen_numbers)
    fit, fitted_on = _fit_source(files, names, samples)
    if files.at_network:
        samples = Placed(samples, names, size_hw, manifest.preprocessing)
    some = "" if len(chosen_numbers) == len(judged) else f" of {len(judged)}"
    at = "the network's size" if files.at_network else "the pictures' own size"
    distance = edge_distance(files.layout)
    return JudgedData(
        samples,
        Placed(fit, names, size_hw, manifest.preprocessing),
        f"{files.layout}, split {files.split}, {len(samples)}{some} pictures, at {at}",
        fitted_on,
        {spec.name: metric_for(spec.name, spec.channels, spec.classes, edge_distance=distance) for spec in chosen},
        _without(manifest, chosen),
    )


def _fit_source(files: FileData, names: Sequence[str], judged: SampleSource) -> tuple[SampleSource, str]:
    """What trivial answers are fitted on, and how that is said."""
    try:
        fit = open_dataset(files.layout, files.root, files.fit_split, names)
    except DataError:
        return Subset(judged, spread(len(judged), _FITTED_ON)), "the judged pictures themselves"
    numbers = spread(len(fit), _FITTED_ON)
    return Subset(fit, numbers), f"{len(numbers)} pictures of split {files.fit_split}"


def _chosen(manifest: Manifest, labelled: Sequence[str], wanted: Sequence[str] | None, whose: str) -> list[TaskSpec]:
    """The bundle's tasks that are judged, in its order.

    Raises:
        TaskError: the bundle has no such task.
        EvaluationError: the data does not label it, or none at all.
    """
    asked = parse_tasks(None if wanted is None else list(wanted), manifest.task_names)
    usable = [spec for spec in manifest.tasks if spec.name in asked and TASK_KINDS.get(spec.name) == spec.kind]
    found = [spec for spec in usable if spec.name in labelled]
    missing = [name for name in asked if name not in {spec.name for spec in found}]
    if not found or (wanted is not None and missing):
        raise EvaluationError(
            f"{whose} labels {', '.join(labelled)}; "
            + (f"not {', '.join(missing)}" if wanted is not None else f"this bundle has only {', '.join(asked)}")
        )
    return found


def other_classes(name: str, channels: int, classes: Mapping[str, int], counted: Collection[str]) -> int | None:
    """How many classes of a task labels have that cannot be those of a network; None where they can.

    Args:
        name, channels: the task, and the classes that the network tells apart.
        classes: of each task of the labels that has any.
        counted: tasks whose classes were counted: the last ones may not occur.
    """
    known = classes.get(name, channels)
    return None if known == channels or (known < channels and name in counted) else known


def _check_classes(spec: TaskSpec, data: FileDataset) -> None:
    """Refuse classes that cannot mean the same.

    Raises:
        EvaluationError: their number or their names differ.
    """
    names = data.class_names.get(spec.name, [])
    if (known := other_classes(spec.name, spec.channels, data.classes, data.counted)) is not None:
        raise EvaluationError(
            f"{data.root} has {known} classes of '{spec.name}', this bundle {spec.channels}; "
            "evaluate a bundle trained on these classes, or leave the task out with --tasks"
        )
    if names and spec.classes and list(spec.classes) != list(names):
        first = next(pair for pair in zip(names, spec.classes, strict=True) if pair[0] != pair[1])
        raise EvaluationError(
            f"the classes of '{spec.name}' are others: '{first[0]}' in {data.root}, '{first[1]}' in the bundle"
        )


def _without(manifest: Manifest, chosen: Sequence[TaskSpec]) -> tuple[str, ...]:
    found = {spec.name for spec in chosen}
    return tuple(name for name in manifest.task_names if name not in found)
