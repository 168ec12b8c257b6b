"""What a server is told to serve: bundle folders, by a name that fits into a URL."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ..runtime.bundles.bundle import Bundle
from .model_errors import LoadFailed

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def name_and_folder(source: str | os.PathLike[str]) -> tuple[str, Path]:
    """NAME=FOLDER, or a folder that is called as its manifest says.

    Raises:
        LoadFailed: no usable name; SlimpathError: the manifest cannot be read.
    """
    text = os.fspath(source)
    given, equals, rest = text.partition("=")
    if equals and not os.path.isdir(text):
        if not NAME.fullmatch(given):
            raise LoadFailed(f"a model's name must be letters, digits, '.', '_' and '-', got {shown(given)}")
        return given, Path(rest).expanduser()
    folder = Path(text).expanduser()
    name = _manifest_name(folder)
    if not NAME.fullmatch(name):
        raise LoadFailed(f"the bundle's name {shown(name)} does not fit into a URL", hint=f"serve it as NAME={folder}")
    return name, folder


def _manifest_name(folder: Path) -> str:
    return Bundle.open(folder).manifest.name


def shown(name: str | None) -> str:
    """A name from outside, in a message: short, and without what a terminal or a log would obey."""
    return ascii(name if name is None or len(name) <= 128 else name[:128] + "...")
