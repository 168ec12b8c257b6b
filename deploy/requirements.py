"""Prints what pyproject.toml asks for, and what the named extras add, one requirement a line.

    python3 deploy/requirements.py service > requirements.txt

For the Dockerfile, whose layer of libraries is then made anew only when they change.
"""

from __future__ import annotations

import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]  # there where it is needed


def requirements(pyproject: Path, extras: list[str]) -> list[str]:
    """The base requirements and those of the extras.

    Raises:
        KeyError: there is no such extra.
    """
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    return [*project["dependencies"], *(line for extra in extras for line in optional[extra])]


if __name__ == "__main__":
    print("\n".join(requirements(Path("pyproject.toml"), sys.argv[1:])))
