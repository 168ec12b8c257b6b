"""Where the server's own time goes: the tables from given stamps, and one measurement from end to end."""

from __future__ import annotations

from types import ModuleType

import pytest

from slimpath.tests.scripts import load_script


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load_script("service_stages", monkeypatch)


def calls(script: ModuleType, each_ms: float) -> list[dict[str, float]]:
    return [dict.fromkeys(script.STAGES, each_ms + number) for number in range(3)]


def test_the_engine_is_not_counted(script: ModuleType) -> None:
    call = dict.fromkeys(script.STAGES, 1.0)
    assert script.outside({**call, "answered": 70.0}) == len(script.STAGES) - 1


def test_tables_hold_every_stage_and_every_variant(script: ModuleType) -> None:
    measured = {name: calls(script, number) for number, name in enumerate(script.VARIANTS)}
    _, text, _ = script.tables(measured)
    for words in script.STAGES.values():
        assert f"| {words} |" in text
    around_ms = (len(script.STAGES) - 1) * 2.0
    assert f"| copies: {script.VARIANTS['copies']} | {around_ms:.2f} |" in text


def test_every_variant_is_one_that_the_server_knows(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    child = load_script("service_stages_child", monkeypatch)
    assert set(script.VARIANTS) == {*child.VARIANTS, script.AS_IT_IS, "uvloop"}


def test_a_server_notes_every_place_in_order(script: ModuleType) -> None:
    for call in script.stages(script.AT_ONCE, 2):
        assert list(call) == list(script.STAGES)
        assert all(value >= 0 for value in call.values())
