"""The table of commands, installs.json: what to type on which platform to get something."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ANY = "any"


@dataclass(frozen=True)
class Install:
    """How to get one thing on one platform.

    Args:
        commands: in their order, for a shell in slimpath's environment.
        notes: what to know before typing them.
    """

    what: str
    commands: tuple[str, ...]
    notes: tuple[str, ...] = ()


@cache
def table() -> dict[str, Any]:
    """The whole of installs.json."""
    return json.loads((Path(__file__).parent / "installs.json").read_text(encoding="utf-8"))


def install(item: str, platform: str, **words: object) -> Install | None:
    """The commands for one item; None where there is nothing to be had for that platform.

    Args:
        item: a name of the table.
        platform: see `Machine.platform`.
        words: for places in the commands that depend on the machine, such as {mode}.
    """
    entry = table()["items"][item]
    found = entry.get(platform, entry.get(ANY))
    if found is None:
        return None
    commands = tuple(command.format(**words) if words else command for command in found["commands"])
    notes = [found["note"]] if "note" in found else []
    notes += [
        f"{name} is {what}" for name, what in table()["indexes"].items() if any(name in line for line in commands)
    ]
    return Install(entry["what"], commands, tuple(notes))
