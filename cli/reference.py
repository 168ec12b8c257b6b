"""The page docs/cli.md, from the verbs' own help texts: `python -m slimpath.cli.reference`.

Made from the verbs' signatures, not from a printed help, whose layout differs from one version of typer to the next.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import typer

from .app import HELP, app

INTRODUCTION = """# Command line

This page is generated from the help texts: `make docs`.

Results go to stdout, progress and errors to stderr. Exit codes: 0 done; 2 bad input, or a check that failed; 1 a
defect of slimpath (run again with `--debug` and report it).
"""


@dataclass(frozen=True)
class Parameter:
    """One argument or option of a verb."""

    spelling: str
    help: str
    default: str
    is_argument: bool


def reference() -> str:
    """The whole page."""
    sections = [INTRODUCTION, _body(HELP)]
    for command in app.registered_commands:
        if command.callback is not None and command.name is not None:
            sections.append(_section(command.name, command.callback))
    return "\n".join(sections).rstrip() + "\n"


def parameters(function: Callable[..., Any]) -> list[Parameter]:
    """The arguments and options of a verb, from its signature."""
    hints = typing.get_type_hints(function, include_extras=True)
    found: list[Parameter] = []
    for name, parameter in inspect.signature(function).parameters.items():
        if hints[name] is typer.Context:  # what typer itself hands over
            continue
        kind, info = typing.get_args(hints[name])
        is_argument = isinstance(info, typer.models.ArgumentInfo)
        # In an Annotated, typer keeps the first spelling where a default would stand otherwise.
        names = "/".join(part for part in (info.default, *(info.param_decls or ())) if isinstance(part, str))
        value = info.metavar or _value(kind, info)
        spelling = value if is_argument else " ".join(filter(None, (names, value)))
        found.append(Parameter(spelling, info.help or "", _default(parameter.default, info, "/" in names), is_argument))
    return found


def _section(name: str, function: Callable[..., Any]) -> str:
    listed = parameters(function)
    arguments = [parameter for parameter in listed if parameter.is_argument]
    options = [parameter for parameter in listed if not parameter.is_argument]
    usage = " ".join(["slimpath", name, *(argument.spelling for argument in arguments), "[OPTIONS]"])
    rows = [f"| `{row.spelling}` | {row.help} | {row.default} |" for row in (*arguments, *options)]
    table = ["| argument or option | what | default |", "|---|---|---|", *rows]
    return "\n".join([f"## slimpath {name}", "", f"```\n{usage}\n```", "", _body(function.__doc__ or ""), *table, ""])


def _value(kind: Any, info: Any) -> str:
    """What an option takes: nothing for a switch, else its choices, its range, or its type."""
    kinds = [part for part in typing.get_args(kind) if part is not type(None)] or [kind]
    if bool in kinds:
        return ""
    if issubclass(kinds[0], Enum):
        return "{" + ",".join(choice.value for choice in kinds[0]) + "}"
    limits = [f"from {info.min:g}" if info.min is not None else "", f"to {info.max:g}" if info.max is not None else ""]
    return " ".join(filter(None, ({float: "NUMBER", int: "COUNT"}.get(kinds[0], "TEXT"), *limits)))


def _default(default: Any, info: Any, is_switch: bool) -> str:
    if default is inspect.Parameter.empty:
        return "required"
    if isinstance(info.show_default, str):
        return info.show_default
    if isinstance(default, bool):
        return ("on" if default else "off") if is_switch else ""
    if isinstance(default, Enum):
        return str(default.value)
    return "" if default is None else str(default)


def _body(text: str) -> str:
    """A help text as Markdown: what follows the preformatted mark becomes a code block."""
    lines: list[str] = []
    code = False
    for line in inspect.cleandoc(text).splitlines():
        if line.strip() == "\b":
            continue
        indented = line.startswith("  ")
        if indented != code:
            lines.append("```" if not indented else "\n```")
            code = indented
        lines.append(line[2:] if indented else line)
    return "\n".join([*lines, "```" if code else "", ""])


if __name__ == "__main__":
    print(reference(), end="")
