"""docs/decoders.md holds the table as it is, and names presets that exist."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

import slimpath
from slimpath.tests.scripts import load_script

pytest.importorskip("torch", reason="the figures are counted in networks")

ROOT = Path(slimpath.__file__).parent


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load_script("decoders", monkeypatch)


def test_table_is_what_is_counted(script: ModuleType):
    text = script.PAGE.read_text(encoding="utf-8")
    assert script.page(text) == text, "run: python benchmarks/decoders.py"
    with pytest.raises(SystemExit, match="has no"):
        script.page("# Decoders\n")


def test_presets_that_are_named_exist(script: ModuleType):
    from slimpath.models import HeadConfig, preset_config

    named = set(re.findall(r"\btaskexpert_[a-z0-9]+_[a-z]+\b", script.PAGE.read_text(encoding="utf-8")))
    assert len(named) >= 4
    for name in named:
        assert preset_config(name, (HeadConfig("depth", "depth", 1),)).has_decoder_experts
