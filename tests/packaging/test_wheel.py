"""The wheel: what is in it, and that what is in it starts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import slimpath

ROOT = Path(slimpath.__file__).resolve().parent
pytest.importorskip("setuptools", minversion="77", reason="builds without a network: needs setuptools in place")


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: setuptools leaves a build folder, whose old files would find their way into the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    unwanted = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "runs", "slimpath-*")
    shutil.copytree(ROOT, source, ignore=unwanted)
    pip("wheel", str(source), "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder / "out"))
    (built,) = (folder / "out").glob("*.whl")
    return built


def files(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


def test_wheel_has_every_module_and_nothing_else(wheel: Path):
    modules = {name for name in files(wheel) if name.endswith(".py")}
    shipped = ("cli", "export", "models", "runtime", "service", "training")
    here = {path for folder in shipped for path in (ROOT / folder).rglob("*.py")} | set(ROOT.glob("*.py"))
    assert modules == {f"slimpath/{path.relative_to(ROOT).as_posix()}" for path in here}


def test_wheel_has_types_licence_and_entry_point(wheel: Path):
    names = files(wheel)
    assert "slimpath/py.typed" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    with zipfile.ZipFile(wheel) as archive:
        (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
        assert "slimpath = slimpath.cli.app:main" in archive.read(entry_points).decode()
        (metadata,) = (name for name in names if name.endswith("METADATA"))
        assert "License-Expression: Apache-2.0" in archive.read(metadata).decode()


def test_wheel_has_the_bundled_model_and_the_room_whole(wheel: Path):
    assets = [path for path in (ROOT / "assets").rglob("*") if path.is_file()]
    inside = {name for name in files(wheel) if name.startswith("slimpath/assets/")}
    assert inside == {f"slimpath/{path.relative_to(ROOT).as_posix()}" for path in assets}
    assert {"slimpath/assets/m3vit_nano/manifest.json", "slimpath/assets/synthrooms_scene.npz"} <= inside
    assert sum(path.stat().st_size for path in (ROOT / "assets" / "m3vit_nano").iterdir()) <= 28_000_000


def test_wheel_has_no_tests_and_no_docs(wheel: Path):
    tops = {name.split("/")[1] for name in files(wheel) if name.startswith("slimpath/")}
    assert not tops & {"tests", "benchmarks", "docs", "deploy", "pyproject.toml", "Makefile"}


def test_installed_wheel_starts(wheel: Path, tmp_path: Path):
    pip("install", "--no-deps", "--quiet", "--target", str(tmp_path / "site"), str(wheel))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    expected = f"slimpath {slimpath.__version__}\n"
    script = tmp_path / "site" / "bin" / "slimpath"
    for command in ([sys.executable, str(script), "--version"], [sys.executable, "-m", "slimpath", "--version"]):
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=60, check=False
        )
        assert (done.returncode, done.stdout) == (0, expected), done.stderr
    where = "import slimpath; print(slimpath.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", where], capture_output=True, text=True, cwd=tmp_path, env=environment, check=True
    )
    assert done.stdout.startswith(str(tmp_path))  # the wheel's, not the one that is installed for the tests
