"""What the server's code may not do at all: unpickle, run what it was sent, fetch, or load foreign libraries."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

import slimpath

ROOT = Path(slimpath.__file__).resolve().parent
# `runtime/doctor` looks what is installed, in a process of its own, and is no part of a server.
SERVED = [
    path
    for folder in ("service", "runtime")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "doctor" not in path.parts
]
MODULES = {
    "pickle",
    "marshal",
    "shelve",
    "dill",
    "joblib",
    "yaml",
    "requests",
    "urllib.request",
    "tarfile",
    "PIL",
    "torch",
}
CALLS = {"eval", "exec", "compile", "register_custom_ops_library", "extractall", "unsafe_load"}
# Outgoing connections: the client and the load generator call servers, a stream its camera.
CALLERS = {"httpx", "http.client", "aiohttp"}
MAY_CALL = ("service/client.py", "service/loadtest/")


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module


def faults(path: Path) -> Iterator[str]:
    """What a file does that it must not."""
    name = path.relative_to(ROOT).as_posix()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules = set(imported(tree))
    banned = MODULES if name.startswith(MAY_CALL) else MODULES | CALLERS
    yield from (f"{name}: imports {module}" for module in sorted(modules & banned))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = getattr(node.func, "id", None) or getattr(node.func, "attr", "")
        if called in CALLS and not (called == "compile" and isinstance(node.func, ast.Attribute)):  # re.compile
            yield f"{name}, line {node.lineno}: calls {called}"
        for keyword in node.keywords:
            value = keyword.value
            if keyword.arg == "allow_pickle" and not (isinstance(value, ast.Constant) and value.value is False):
                yield f"{name}, line {node.lineno}: unpickles"


def test_no_file_of_the_server_does_what_it_must_not():
    assert len(SERVED) > 100
    assert [fault for path in SERVED for fault in faults(path)] == []


def test_the_server_loads_neither_pillow_nor_torch():
    names = ("PIL", "torch", "httpx")
    code = f"import sys, slimpath.service.server; print([name for name in {names} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"


def lower_bounds() -> dict[str, tuple[int, ...]]:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return {
        name: tuple(int(part) for part in version.split(".") if part.isdigit())
        for name, version in re.findall(r'"([a-z0-9-]+)(?:\[[^]]*\])?>=([0-9.]+)', text)
    }


@pytest.mark.parametrize(
    ("package", "floor"), [("starlette", (1, 0, 1)), ("python-multipart", (0, 0, 18)), ("onnx", (1, 21))]
)
def test_versions_with_known_holes_are_not_allowed(package: str, floor: tuple[int, ...]):
    assert lower_bounds()[package] >= floor
    if package != "onnx":  # which the server does not load
        assert tuple(int(part) for part in metadata.version(package).split(".")[:3] if part.isdigit()) >= floor
