"""Tasks: what they are called, what their numbers mean, and how a request names them.

A request names tasks as "depth,edge", as "depth=2,edge" (preferences), as a list, as a dict of preferences, or
not at all (every task of the bundle). A preference is a weight: twice the preference, twice the say in what the
planner spends the budget on. 0 is allowed: the task is computed, but has no say.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from .errors import TaskError

TaskKind = Literal["classes", "depth", "normals", "probability", "image_classes"]
# classes        dense class ids, graph gives logits [R, K, H, W]            (semseg, human_parts)
# depth          metres, graph gives [R, 1, H, W]
# normals        unit vectors [R, 3, H, W], camera axes x right, y up, z towards the viewer
# probability    dense probability [R, 1, H, W]                              (edge, saliency)
# image_classes  probabilities [R, K], one label per image                   (scene)

TaskRequest = str | Iterable[str] | Mapping[str, float] | None


class TaskSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One task of a bundle.

    Args:
        name: how requests call it; also the name of the head graph's output.
        channels: K for the two class kinds, 3 for normals, 1 otherwise.
        classes: names of the K classes, in order of their ids; empty where unnamed.
        palette: RGB colour per class, for pictures.
        unit: of the values in a Result ("m", "unit vector", "probability", "class id").
    """

    name: str
    kind: TaskKind
    channels: int
    classes: tuple[str, ...] = ()
    palette: tuple[tuple[int, int, int], ...] = ()
    unit: str = ""
    description: str = ""


def parse_tasks(request: TaskRequest, known: Iterable[str]) -> dict[str, float]:
    """Turn a request for tasks into task -> preference, in the order of the request.

    Args:
        request: None, "depth=2,edge", ["depth", "edge"], or {"depth": 2.0}.
        known: the tasks that there are.

    Raises:
        TaskError: unknown or repeated task, nothing requested, or a preference that is negative, NaN or infinite.
    """
    names = list(known)
    if request is None:
        return dict.fromkeys(names, 1.0)
    pairs = list(_pairs(request))
    if not pairs:
        raise TaskError("no task was requested", hint=f"name at least one of {', '.join(names)}, or leave tasks out")
    preferences: dict[str, float] = {}
    for name, preference in pairs:
        if name not in names:
            raise TaskError(f"unknown task {name!r}", hint=f"this bundle has {', '.join(names)}")
        if name in preferences:
            raise TaskError(f"task {name!r} is named twice", hint="name each task once")
        preferences[name] = _preference(name, preference)
    if not any(preferences.values()):
        raise TaskError("every preference is 0", hint="give at least one task a preference above 0")
    return preferences


def _pairs(request: str | Iterable[str] | Mapping[str, float]) -> Iterable[tuple[str, object]]:
    if isinstance(request, str):
        return [_split(part) for part in request.split(",")] if request.strip() else []
    if isinstance(request, Mapping):
        return [(str(name), preference) for name, preference in request.items()]
    if not isinstance(request, Iterable):
        raise TaskError(
            f"tasks must be a text, a list of names or a dict of preferences, got {type(request).__name__}",
            hint='for example tasks="depth=2,edge"',
        )
    parts = list(request)
    for part in parts:
        if not isinstance(part, str):
            raise TaskError(f"a task's name must be a text, got {part!r}", hint='for example tasks=["depth", "edge"]')
    return [_split(part) for part in parts]


def _split(part: str) -> tuple[str, object]:
    name, equals, preference = part.partition("=")
    if not name.strip():
        raise TaskError(f"a task without a name: {part!r}", hint='write for example "depth=2,edge"')
    return name.strip(), preference.strip() if equals else 1.0


def _preference(name: str, value: object) -> float:
    try:
        preference = float(value)  # type: ignore[arg-type]  # whatever came; the except names it
    except (TypeError, ValueError):
        preference = math.nan
    if isinstance(value, bool) or not math.isfinite(preference) or preference < 0:
        raise TaskError(
            f"the preference of task {name!r} must be a number from 0 up, got {value!r}",
            hint=f"for example {name}=2",
        )
    return preference
