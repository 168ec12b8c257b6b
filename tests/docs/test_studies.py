"""docs/studies.md says what docs/measured/studies.json holds, and the studies kept to their budget."""

from __future__ import annotations

import json
import sys

import pytest

from slimpath.tests.scripts import load_script

pytest.importorskip("torch", reason="the script trains")
pytest.importorskip("tqdm", reason="rendering rooms needs tqdm")
pytest.importorskip("scipy", reason="intervals need scipy")
pytest.importorskip("matplotlib", reason="the heat map needs matplotlib")


def test_page_is_that_of_its_measurement_and_the_budget_was_kept(monkeypatch: pytest.MonkeyPatch):
    made = load_script("studies", monkeypatch)
    text = made.PAGE.read_text(encoding="utf-8")
    measured = json.loads(made.RAW.read_text(encoding="utf-8"))
    again = sys.modules["page"].with_figures(text, "studies.py", made.page_text(measured))
    assert again == text, "run: python benchmarks/studies.py --page"
    tables = sys.modules["studies_tables"]
    assert len(measured["runs"]) <= tables.MOST_RUNS
    assert max(run["cpu_s"] for run in measured["runs"]) <= tables.LIMIT_S
    assert 10_000 < made.PICTURE.stat().st_size <= 200_000 and "(images/experts-heat.png)" in text


def test_runs_are_those_that_the_script_would_run(monkeypatch: pytest.MonkeyPatch):
    made = load_script("studies", monkeypatch)
    measured = json.loads(made.RAW.read_text(encoding="utf-8"))
    planned = {(run.variant, run.config.seed): run for run in made.all_runs(made.Plan(**measured["plan"]))}
    assert made.Plan(**measured["plan"]) == made.Plan()
    for kept in measured["runs"]:
        run = planned[kept["variant"], kept["seed"]]
        settings, then = made.flat(json.loads(run.config.to_json())), measured["common"] | kept["changes"]
        assert {name: settings[name] for name in then} == then, run.variant  # others are newer, and off by default
        assert run.network == measured["network"]
