"""A Dockerfile as stages of instructions, as far as the tests need it."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Stage:
    """One FROM and what follows it: instructions as (word, rest of the line), continuation lines joined."""

    name: str
    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, word: str) -> list[str]:
        """What follows each instruction of that name."""
        return [rest for name, rest in self.instructions if name == word]

    def last(self, word: str) -> str:
        """What follows the last one; it is the one that holds.

        Raises:
            IndexError: the stage has none.
        """
        return self.all(word)[-1]

    def command(self, word: str) -> list[str]:
        """The last instruction of that name in its exec form, options before it left out."""
        return json.loads(self.last(word)[self.last(word).index("[") :])


def read_stages(path: Path) -> dict[str, Stage]:
    """All stages by name, in their order. Comments are left out."""
    text = "\n".join(
        line for line in path.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")
    )
    stages: dict[str, Stage] = {}
    current: Stage | None = None
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if not line.strip():
            continue
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            current = stages[name.strip()] = Stage(name.strip(), base.strip())
        elif current is not None:
            current.instructions.append((word, rest.strip()))
    return stages


def lineage(stages: dict[str, Stage], name: str) -> list[Stage]:
    """A stage and those of this file that it stands on, itself last."""
    stage = stages[name]
    return [*(lineage(stages, stage.base) if stage.base in stages else []), stage]


def copied(stage: Stage) -> list[tuple[str | None, list[str]]]:
    """Of every COPY: the stage it copies from (None: the build context), and what it copies."""
    found = []
    for rest in stage.all("COPY"):
        words = shlex.split(rest)
        source = next((word.removeprefix("--from=") for word in words if word.startswith("--from=")), None)
        found.append((source, [word for word in words if not word.startswith("--")][:-1]))
    return found
