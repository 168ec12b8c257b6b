"""What a checkpoint says about itself besides its weights: tasks in words, preprocessing, licence, provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ..runtime.bundles.preprocessing import Preprocessing
from ..runtime.tasks import TaskSpec
from .augment import IMAGE_MEAN, IMAGE_STD, PAD_RGB
from .config import TrainConfig
from .start import Origin
from .tasks import TrainTask

__all__ = ["PREPROCESSING", "checkpoint_metadata", "task_specs"]

LICENCE = "Apache-2.0"
PREPROCESSING = Preprocessing("letterbox", IMAGE_MEAN, IMAGE_STD, pad_rgb=(PAD_RGB[0], PAD_RGB[1], PAD_RGB[2]))
"""How pictures reach a network that this training made."""
_WORDS: dict[str, tuple[str, str]] = {
    "semseg": ("class id", "what every pixel belongs to"),
    "human_parts": ("class id", "which part of a person every pixel belongs to"),
    "depth": ("m", "distance along the optical axis, for a camera of 40 to 75 degrees vertical view"),
    "normals": ("unit vector", "surface normals in camera axes: x right, y up, z towards the viewer"),
    "edge": ("probability", "boundaries of objects and creases of surfaces, not of texture"),
    "saliency": ("probability", "the object with the largest area over depth"),
    "scene": ("probability", "what kind of room it is"),
}
_WORDS_OF_FILES: dict[str, tuple[str, str]] = {
    **_WORDS,
    "depth": ("", "distance as the data set measures it"),
    "normals": ("unit vector", "surface normals in the data set's own axes"),
    "edge": ("probability", "boundaries as the data set draws them"),
    "saliency": ("probability", "what stands out, as the data set marks it"),
}
"""Of data sets in files, whose axes, units and definitions are their own."""


def task_specs(
    tasks: Sequence[TrainTask], *, rooms: bool = True, class_names: Mapping[str, Sequence[str]] | None = None
) -> tuple[TaskSpec, ...]:
    """Tasks in the words of a bundle's manifest; classes have SynthRooms' names (`rooms`), or `class_names`."""
    from .synthrooms import CLASSES, PALETTE, ROOM_TYPES

    names: Mapping[str, Sequence[str]] = {"semseg": CLASSES, "scene": ROOM_TYPES} if rooms else class_names or {}
    specs = []
    for task in tasks:
        unit, description = (_WORDS if rooms else _WORDS_OF_FILES)[task.name]
        known = tuple(names.get(task.name, ()))
        classes = known if len(known) == task.channels else ()
        palette = PALETTE if rooms and task.name == "semseg" and classes else ()
        kind: Any = task.kind
        specs.append(TaskSpec(task.name, kind, task.channels, classes, palette, unit, description))
    return tuple(specs)


def checkpoint_metadata(
    config: TrainConfig,
    tasks: Sequence[TrainTask],
    step: int,
    minutes: float,
    origin: Origin | None = None,
    class_names: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """JSON values for `save_checkpoint`; `slimpath export` carries them into the manifest.

    Args:
        origin: the checkpoint that the training started from.
        class_names: by task, where a data set in files names its classes.
    """
    settings = msgspec.json.decode(config.to_json())
    # A folder of the machine that trained is nobody's business, and does not change the result.
    settings["data"] |= {"shards": bool(config.data.shards), "root": bool(config.data.root)}
    from .synthrooms import VERSIONS

    rooms = config.data.dataset is None
    drawn = f"SynthRooms ({VERSIONS[config.data.world]})"
    data = drawn if rooms else f"{config.data.dataset}, split {config.data.split}"
    settings["start"] = None if origin is None else origin.sha256
    return {
        "tasks": msgspec.to_builtins(task_specs(tasks, rooms=rooms, class_names=class_names)),
        "preprocessing": msgspec.to_builtins(PREPROCESSING),
        "licence": LICENCE if rooms else f"under the terms of its training data, {config.data.dataset}",
        "provenance": {
            "trained_by": "slimpath train",
            "data": data,
            "step": step,
            "steps": config.steps,
            "minutes": round(minutes, 1),
            "training": settings,
            **({"started_from": dict(origin.provenance)} if origin is not None and origin.provenance else {}),
        },
    }
