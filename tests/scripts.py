"""Scripts of `benchmarks/` as modules."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

import slimpath

BENCHMARKS = Path(slimpath.__file__).parent / "benchmarks"


def load_script(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """One of them, and what it imports from its own folder, as new: what a test changes in it no other test sees."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for known, module in list(sys.modules.items()):
        if Path(getattr(module, "__file__", None) or "").parent == BENCHMARKS:
            monkeypatch.delitem(sys.modules, known)
    return importlib.import_module(name)
