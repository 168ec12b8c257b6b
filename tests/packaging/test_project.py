"""What the project says of itself: one list of packages, one version, one set of bounds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import slimpath

ROOT = Path(slimpath.__file__).resolve().parent
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
NOT_SHIPPED = {"tests", "benchmarks", "docs", "deploy", "build", "dist"}


def listed(key: str) -> list[str]:
    """The texts of a list in pyproject.toml (Python 3.10 has no TOML reader)."""
    found = re.search(rf"^{re.escape(key)} = \[(.*?)\]$", PROJECT, re.MULTILINE | re.DOTALL)
    assert found is not None, key
    return re.findall(r'"([^"]+)"', re.sub(r"#.*", "", found[1]))


def test_every_package_is_listed():
    folders = {
        path.parent.relative_to(ROOT)
        for path in ROOT.rglob("__init__.py")
        if not any(part in NOT_SHIPPED or part.startswith(".") for part in path.relative_to(ROOT).parts)
    }
    assert {".".join(["slimpath", *folder.parts]) for folder in folders} == set(listed("packages"))


def test_no_python_file_lies_outside_a_package():
    packages = {ROOT.joinpath(*name.split(".")[1:]) for name in listed("packages")}
    stray = [
        path.relative_to(ROOT)
        for path in ROOT.rglob("*.py")
        if path.parent not in packages
        and not any(part in NOT_SHIPPED or part.startswith(".") for part in path.relative_to(ROOT).parts)
    ]
    assert stray == []


def test_only_two_python_files_lie_at_the_root():
    assert {path.name for path in ROOT.glob("*.py")} == {"__init__.py", "__main__.py"}


def test_version_is_the_same_everywhere():
    stated = re.search(r'^version = "([^"]+)"$', PROJECT, re.MULTILINE)
    assert stated is not None and stated[1] == slimpath.__version__


def test_lowest_pins_are_the_lower_bounds():
    pins = (ROOT / ".ci" / "lowest-pins.txt").read_text(encoding="utf-8")
    pinned = dict(line.split("==") for line in pins.splitlines() if "==" in line)
    for requirement in (*listed("dependencies"), *listed("demo")):
        name, bounds = re.fullmatch(r"([a-z0-9-]+)(>=.*)", requirement).groups()  # type: ignore[union-attr]
        lower = bounds.removeprefix(">=").split(",")[0]
        assert pinned[name] == lower or pinned[name] == f"{lower}.0", requirement


def test_public_names_exist():
    for name in slimpath.__all__:
        assert getattr(slimpath, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        slimpath.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_licence_is_the_apache_licence():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text and "Version 2.0, January 2004" in text and len(text) > 10_000
