"""Options of `slimpath serve`, one for each field of the settings' dataclasses: written once, there."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Optional, TypeVar

import typer

from ..service.settings import SECTIONS, SettingField, setting_fields
from .common import Debug, Json

_Verb = TypeVar("_Verb", bound=Callable[..., None])
_METAVARS = {"str": "TEXT", "int": "N", "float": "X", "tuple": "LIST"}


def as_options(function: _Verb) -> _Verb:
    """Give a verb, whose `**flags` take them, an option for every setting that may be a flag."""
    parameters = [
        _parameter(
            "bundles",
            Optional[list[str]],  # noqa: UP045  # typer reads it at run time, on Python 3.10 too
            typer.Argument(metavar="[BUNDLE]...", help="Folders, or NAME=FOLDER.", show_default="the bundled model"),
        ),
        _parameter(
            "config",
            Optional[Path],  # noqa: UP045
            typer.Option("--config", metavar="FILE", help="Settings, TOML or JSON.", show_default="SLIMPATH_CONFIG"),
        ),
        *(_option(item) for item in setting_fields() if not item.secret),
        _parameter("print_config", bool, typer.Option("--print-config", help="Show all settings and end."), False),
        inspect.Parameter("json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Json),
        inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Debug),
    ]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return function


def given_flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Key of a setting -> what its flag was given, of those that were."""
    keys = {item.word: item.key for item in setting_fields()}
    return {keys[word]: value for word, value in flags.items() if value is not None}


def _option(item: SettingField) -> inspect.Parameter:
    panel = (SECTIONS[item.section].__doc__ or item.section).strip().splitlines()[0].rstrip(".")
    panel = panel.partition(";")[0]
    if item.type == "bool":
        option = typer.Option(
            f"{item.flag}/--no-{item.flag[2:]}",
            help=item.help,
            show_default="on" if item.default else "off",
            rich_help_panel=panel,
        )
        return _parameter(item.word, Optional[bool], option)  # noqa: UP045
    metavar = "|".join(item.choices) or next(text for kind, text in _METAVARS.items() if item.type.startswith(kind))
    default = ",".join(item.default) if isinstance(item.default, tuple) else item.default
    option = typer.Option(
        item.flag,
        metavar=metavar,
        help=item.help,
        show_default=False if default in (None, "") else str(default),
        rich_help_panel=panel,
    )
    return _parameter(item.word, Optional[str], option)  # noqa: UP045


def _parameter(name: str, kind: Any, info: Any, default: Any = None) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info])
