"""The tasks that training knows: their kind, and how many channels the SynthRooms ground truth asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .errors import ConfigError

__all__ = ["IGNORED_CLASS", "TASK_KINDS", "TrainTask", "train_tasks"]

IGNORED_CLASS = 255
"""Class id of pixels that have no label."""

TASK_KINDS: dict[str, str] = {
    "semseg": "classes",
    "human_parts": "classes",
    "depth": "depth",
    "normals": "normals",
    "edge": "probability",
    "saliency": "probability",
    "scene": "image_classes",
}
_FIXED_CHANNELS = {"depth": 1, "normals": 3, "probability": 1}


@dataclass(frozen=True)
class TrainTask:
    """One task as the trainer sees it: its name, its kind (see `runtime.tasks`) and its output channels."""

    name: str
    kind: str
    channels: int

    @property
    def dense(self) -> bool:
        """True where the task has one target per pixel, False where it has one per image."""
        return self.kind != "image_classes"


def train_tasks(names: Sequence[str], classes: dict[str, int]) -> tuple[TrainTask, ...]:
    """Describe the tasks called `names`.

    Args:
        names: task names, each in `TASK_KINDS`, none twice.
        classes: number of classes of each task that has classes, by task name.

    Raises:
        ConfigError: a name is unknown or given twice, or its number of classes is missing.
    """
    if len(set(names)) != len(names) or not names:
        raise ConfigError(f"tasks must be at least one name, none twice, got {list(names)}")
    tasks = []
    for name in names:
        if name not in TASK_KINDS:
            raise ConfigError(f"task must be one of {', '.join(TASK_KINDS)}, got '{name}'")
        kind = TASK_KINDS[name]
        if kind not in _FIXED_CHANNELS and name not in classes:
            raise ConfigError(f"task '{name}' has classes, but these samples label none; take it off `tasks`")
        tasks.append(TrainTask(name, kind, _FIXED_CHANNELS.get(kind) or classes[name]))
    return tuple(tasks)
