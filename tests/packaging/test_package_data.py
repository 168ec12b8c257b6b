"""What lies beside the code and is read at run time gets into the wheel: setuptools leaves it out unless told."""

from __future__ import annotations

import re
from pathlib import Path

import slimpath
from slimpath.tests.packaging.test_project import PROJECT, listed

ROOT = Path(slimpath.__file__).resolve().parent


def patterns() -> dict[str, list[str]]:
    """Package -> what of its folder is shipped beside its modules."""
    section = PROJECT.partition("[tool.setuptools.package-data]\n")[2].partition("\n[")[0]
    lines = re.findall(r'^"?([\w.]+)"? = \[(.*?)\]', section, re.MULTILINE | re.DOTALL)
    return {package: re.findall(r'"([^"]+)"', shipped) for package, shipped in lines}


def found(package: str, glob: str) -> set[Path]:
    """The files that a pattern stands for."""
    return {path for path in ROOT.joinpath(*package.split(".")[1:]).glob(glob) if path.is_file()}


def test_every_file_beside_the_code_is_shipped():
    shipped = {path for package, globs in patterns().items() for glob in globs for path in found(package, glob)}
    folders = [ROOT.joinpath(*name.split(".")[1:]) for name in set(listed("packages")) - {"slimpath"}]
    here = {path for folder in folders for path in folder.iterdir() if path.is_file()}
    # runtime/py.typed is for readers of this folder alone; the package's own lies at its root.
    missing = {path for path in here - shipped if path.suffix not in (".py", ".pyc", ".md", ".typed")}
    assert sorted(str(path.relative_to(ROOT)) for path in missing) == []


def test_every_pattern_finds_something():
    for package, globs in patterns().items():
        for glob in globs:
            assert found(package, glob), (package, glob)


def test_table_of_commands_is_shipped():
    assert ROOT / "runtime" / "doctor" / "installs.json" in found(
        "slimpath.runtime.doctor", patterns()["slimpath.runtime.doctor"][0]
    )
