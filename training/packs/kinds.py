"""A new task is trained and judged like the known task of its kind: the same loss, augmentation and metric."""

from __future__ import annotations

from typing import get_args

from ...runtime.tasks import TaskKind
from ..errors import ConfigError

__all__ = ["LIKE", "check_kind"]

LIKE: dict[str, str] = {
    "classes": "semseg",
    "depth": "depth",
    "normals": "normals",
    "probability": "saliency",
    "image_classes": "scene",
}
"""Kind -> the name under which samples hold the labels, and losses, augmentation and metrics know them."""


def check_kind(kind: str, classes: int) -> int:
    """The channels of a task of that kind.

    Args:
        classes: how many classes were named.

    Raises:
        ConfigError: no such kind, or classes that are missing, too many, or not asked for.
    """
    if kind not in get_args(TaskKind):
        raise ConfigError(f"a task's kind must be one of {', '.join(get_args(TaskKind))}, got '{kind}'")
    named = kind in ("classes", "image_classes")
    if named and not 2 <= classes <= 255:
        raise ConfigError(f"a task of kind {kind} needs 2 to 255 classes, got {classes}; name them, as --classes a,b")
    if not named and classes:
        raise ConfigError(f"a task of kind {kind} has no classes, got {classes}; leave --classes out")
    return classes if named else {"normals": 3}.get(kind, 1)
