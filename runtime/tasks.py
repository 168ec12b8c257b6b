"""Tasks: what they are called, what their numbers mean, and how a request names them.

A request names tasks as "depth,edge", as "depth=2,edge" (preferences), as a list, as a dict of preferences, or
not at all (every task of the bundle). A preference is a weight: twice the preference, twice the say in what the
planner spends the budget on. 0 is allowed: the task is computed, but has no say.

A floor is the least share of its full accuracy that a task may keep: "depth>=0.9", "depth=2>=0.9", {"depth": ">=0.9"}.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from .errors import TaskError

TaskKind = Literal["classes", "depth", "normals", "probability", "image_classes"]
# classes        dense class ids, graph gives logits [R, K, H, W]            (semseg, human_parts)
# depth          metres, graph gives [R, 1, H, W]
# normals        unit vectors [R, 3, H, W], camera axes x right, y up, z towards the viewer
# probability    dense probability [R, 1, H, W]                              (edge, saliency)
# image_classes  probabilities [R, K], one label per image                   (scene)

TaskRequest = str | Iterable[str] | Mapping[str, float] | Mapping[str, str] | Mapping[str, float | str] | None


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


@dataclass(frozen=True)
class TaskChoice:
    """The tasks of a request, in its order.

    Args:
        preferences: task -> weight, at least one above 0.
        floors: task -> least share of its full accuracy, in (0, 1]; only tasks that have one.
    """

    preferences: dict[str, float]
    floors: dict[str, float] = field(default_factory=dict)


def parse_tasks(request: TaskRequest, known: Iterable[str]) -> dict[str, float]:
    """Turn a request for tasks into task -> preference, in the order of the request.

    Args:
        request: None, "depth=2,edge", ["depth", "edge"], or {"depth": 2.0}.
        known: the tasks that there are.

    Raises:
        TaskError: unknown or repeated task, nothing requested, a preference that is negative, NaN or infinite, or a
            floor that is not above 0 and at most 1.
    """
    return parse_task_choice(request, known).preferences


def parse_task_choice(request: TaskRequest, known: Iterable[str]) -> TaskChoice:
    """`parse_tasks`, floors included: None, "depth=2>=0.9,edge", ["depth>=0.9"], or {"depth": "2>=0.9", "edge": 1}.

    Raises:
        TaskError: as there.
    """
    names = list(known)
    if request is None:
        return TaskChoice(dict.fromkeys(names, 1.0))
    wishes = list(_wishes(request))
    if not wishes:
        raise TaskError("no task was requested", hint=f"name at least one of {', '.join(names)}, or leave tasks out")
    preferences: dict[str, float] = {}
    floors: dict[str, float] = {}
    for name, preference, floor in wishes:
        if name not in names:
            raise TaskError(f"unknown task {name!r}", hint=f"this bundle has {', '.join(names)}")
        if name in preferences:
            raise TaskError(f"task {name!r} is named twice", hint="name each task once")
        preferences[name] = _preference(name, preference)
        if floor is not None:
            floors[name] = _floor(name, floor)
    if not any(preferences.values()):
        raise TaskError("every preference is 0", hint="give at least one task a preference above 0")
    return TaskChoice(preferences, floors)


_Wish = tuple[str, object, str | None]  # task, preference, floor


def _wishes(request: str | Iterable[str] | Mapping[str, float | str]) -> Iterable[_Wish]:
    if isinstance(request, str):
        return [_split(part) for part in request.split(",")] if request.strip() else []
    if isinstance(request, Mapping):
        return [_with_value(str(name), value) for name, value in request.items()]
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


def _split(part: str) -> _Wish:
    wish, bound, floor = part.partition(">=")
    name, equals, preference = wish.partition("=")
    if not name.strip():
        raise TaskError(f"a task without a name: {part!r}", hint='write for example "depth=2,edge"')
    return name.strip(), preference.strip() if equals else 1.0, floor.strip() if bound else None


def _with_value(name: str, value: object) -> _Wish:
    """The value of a dict: a preference, ">=0.9" or "2>=0.9"."""
    if not isinstance(value, str):
        return name, value, None
    preference, bound, floor = value.partition(">=")
    return name, preference.strip() or (1.0 if bound else ""), floor.strip() if bound else None


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


def _floor(name: str, text: str) -> float:
    number, scale = (text[:-1], 100) if text.endswith("%") else (text, 1)
    try:
        floor = float(number) / scale
    except ValueError:
        floor = math.nan
    if not 0 < floor <= 1:
        raise TaskError(
            f"the floor of task {name!r} must be above 0 and at most 1 (its full accuracy), got {text!r}",
            hint=f'for example "{name}>=0.9"',
        )
    return floor
