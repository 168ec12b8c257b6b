"""Request parameters -> tasks, budget, deadline, priority. The names are those of docs/protocol.md.

They come in the JSON, or, for raw requests that have none, in the query string, where everything is text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ...runtime.planning.budget import PARAMETERS
from ...runtime.tasks import TaskRequest, parse_task_choice
from ..settings import HIGHEST_PRIORITY
from .header import Scalar, bad

MAX_TEXT = 1024
LOWEST_PRIORITY = HIGHEST_PRIORITY + 1  # Triton counts from 1, the highest; from here on it is as without one
VENDOR = ("task", "budget", *PARAMETERS, "quality_floor", "deadline_ms", "size", "strict")


@dataclass(frozen=True)
class Wishes:
    """What a request asks for.

    Args:
        tasks: as `Request.tasks`; the requested outputs with their preferences and floors.
        budget: as `Request.budget`; None for full.
        deadline_s: from the request's arrival; None for none.
        priority: higher goes first; 0 without one.
    """

    tasks: TaskRequest
    budget: str | None
    deadline_s: float | None
    priority: int
    size: str | None
    strict: bool


def read_wishes(parameters: Mapping[str, Scalar], outputs: list[str] | None, known: tuple[str, ...]) -> Wishes:
    """Read the parameters of a request.

    Args:
        outputs: names of the requested outputs, None for those of the parameter `task`, or all.
        known: the tasks of the model.

    Raises:
        HttpError: 400; a value that cannot be read. TaskError: a task that the model does not have.
    """
    return Wishes(
        _tasks(parameters, outputs, known),
        _budget(parameters),
        _deadline_s(parameters),
        _priority(parameters.get("priority")),
        _text(parameters, "size"),
        _flag(parameters, "strict"),
    )


def _tasks(parameters: Mapping[str, Scalar], outputs: list[str] | None, known: tuple[str, ...]) -> TaskRequest:
    text, floor = _text(parameters, "task"), _floor(parameters)
    if text is None and outputs is None and floor is None:
        return None
    choice = parse_task_choice(text, known)
    names = list(choice.preferences) if outputs is None else outputs
    if text is not None and (surplus := [name for name in choice.preferences if name not in names]):
        raise bad(f"the parameter task names {surplus[0]!a}, which is not among the requested outputs")
    wanted = {name: f"{choice.preferences.get(name, 1.0):.17g}" for name in names}
    for name in wanted:
        least = choice.floors.get(name, floor)
        if least is not None:
            wanted[name] += f">={least:.17g}"
    return wanted


def _floor(parameters: Mapping[str, Scalar]) -> float | None:
    floor = _number(parameters, "quality_floor")
    if floor is not None and not 0 < floor <= 1:
        raise bad(f"quality_floor must be above 0 and at most 1, got {floor:g}")
    return floor


def _budget(parameters: Mapping[str, Scalar]) -> str | None:
    terms = []
    budget = parameters.get("budget")
    if isinstance(budget, (int, float)) and not isinstance(budget, bool):  # a share, as a number
        terms.append(f"{_as_number('budget', budget):g}")
    elif text := _text(parameters, "budget"):
        terms.append(text)
    for name, term in PARAMETERS.items():
        value = _number(parameters, name)
        if value is not None:
            if value <= 0:
                raise bad(f"{name} must be above 0, got {value:g}")
            terms.append(term.format(int(value) if value == int(value) else value))
    return ",".join(terms) or None


def _deadline_s(parameters: Mapping[str, Scalar]) -> float | None:
    """The sooner one of `deadline_ms` and the protocol's own `timeout`, in microseconds."""
    found = []
    for name, unit_s in (("deadline_ms", 1e-3), ("timeout", 1e-6)):
        value = _number(parameters, name)
        if value is not None and (value < 0 or (name == "deadline_ms" and value == 0)):
            raise bad(f"{name} must be above 0, got {value:g}")
        if value:  # a timeout of 0 is none, as for Triton
            found.append(value * unit_s)
    return min(found, default=None)


def _priority(value: Scalar) -> int:
    """Triton's 1 is the highest, 0 means none was given; the scheduler's higher goes first, and 0 is none."""
    if value is None:
        return 0
    number = _whole("priority", value)
    if number < 0:
        raise bad(f"priority must be 0 (none) or from 1 (highest) up, got {number}")
    return max(0, LOWEST_PRIORITY - number) if number else 0


def _whole(name: str, value: Scalar) -> int:
    number = _as_number(name, value)
    if number != int(number):
        raise bad(f"{name} must be a whole number, got {number:g}")
    return int(number)


def _number(parameters: Mapping[str, Scalar], name: str) -> float | None:
    value = parameters.get(name)
    return None if value is None else _as_number(name, value)


def _as_number(name: str, value: Scalar) -> float:
    try:
        number = math.nan if isinstance(value, bool) or value is None else float(value)
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or abs(number) > 1e15:
        raise bad(f"{name} must be a number, got {str(value)[:32]!a}")
    return number


def _text(parameters: Mapping[str, Scalar], name: str) -> str | None:
    value = parameters.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise bad(f"{name} must be a text of at most {MAX_TEXT} characters")
    return value


def _flag(parameters: Mapping[str, Scalar], name: str) -> bool:
    value = parameters.get(name, False)
    named = {"true": True, "1": True, "false": False, "0": False}
    found = named.get(value.lower()) if isinstance(value, str) else value
    if not isinstance(found, bool):
        raise bad(f"{name} must be true or false, got {str(value)[:32]!a}")
    return found
