"""Every preset's graphs for GPUs pass the linter.

Tracing takes seconds a preset, so here is linted the largest of every family, in its own sizes but shortened to four
blocks, or two a stage; `test_families.py` has the smallest. `benchmarks/gpu_graphs.py` lints all of them, also whole,
and checks that the shortened ones have every kind of node. What it found is kept in docs/measured, and held against the
presets here.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

import slimpath
from slimpath.export.gpu.trace import trace_job
from slimpath.models import PRESETS
from slimpath.runtime.bundles.gpu_spec import GPU_PRECISIONS
from slimpath.tests.scripts import load_script

BENCHMARKS = Path(slimpath.__file__).parent / "benchmarks"


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load_script("gpu_graphs", monkeypatch)


@pytest.mark.parametrize("preset", [name for name in PRESETS if name.endswith("_base")])
def test_linter_passes_on_the_widest_encoder_in_every_precision(graphs: ModuleType, preset: str) -> None:
    model = graphs.random_preset(preset, short=True)
    job = [job for job in graphs.jobs_of(model) if job.task is None][-1]
    assert job.width == 1.0 and job.rows == (1 if not graphs.per_row(model) else len(graphs.TASKS))
    full = {key: value.detach().numpy() for key, value in model.named_parameters()}
    seen = []
    for precision, graph in graphs.precisions_of(trace_job(model, job), full):
        seen.append(precision)
        assert graphs.findings_of(graph, job.file(precision)) == []
    assert tuple(seen) == GPU_PRECISIONS


@pytest.mark.parametrize("preset", ["m3vit_micro", "swin_micro"])
def test_linter_passes_on_heads_of_every_kind(graphs: ModuleType, preset: str) -> None:
    model = graphs.random_preset(preset, short=True)
    full = {key: value.detach().numpy() for key, value in model.named_parameters()}
    jobs = [job for job in graphs.jobs_of(model) if job.task is not None]
    assert {job.task for job in jobs} == set(model.config.task_names) and len(jobs) > len(graphs.TASKS)
    for job in jobs:
        for precision, graph in graphs.precisions_of(trace_job(model, job), full):
            assert graphs.findings_of(graph, job.file(precision)) == []


def test_what_a_shortened_preset_lacks_is_noticed(graphs: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    all_jobs, preset = graphs.jobs_of, graphs.random_preset
    monkeypatch.setattr(graphs, "jobs_of", lambda model: [job for job in all_jobs(model) if job.task is None][-1:])
    found = graphs.look_at("vit_micro", compare_whole=True)
    assert (found.kinds_not_in_short, found.findings) == (0, []) and 0 < found.error <= found.allowed
    monkeypatch.setattr(graphs, "random_preset", lambda name, short=False: preset("swin_micro" if short else name))
    assert graphs.look_at("vit_micro", compare_whole=False).kinds_not_in_short > 0


def test_every_whole_preset_was_linted_and_nothing_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    page = load_script("gpu_page", monkeypatch)
    found = page.kept(page.LINT)["presets"]
    assert tuple(found) == PRESETS, "run: python benchmarks/gpu_graphs.py"
    for name, row in found.items():
        assert row["graphs"] > 0 and row["findings"] == [] and row["kinds_not_in_short"] == 0, name
        whole = name.endswith(("_micro", "_nano", "_tiny"))
        assert row["compared"] == ("whole" if whole else "shortened"), name
        assert 0 < row["error"] <= row["allowed"], name


def test_the_page_is_what_the_kept_figures_make(monkeypatch: pytest.MonkeyPatch) -> None:
    page = load_script("gpu_page", monkeypatch)
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.page(text) == text, "run: python benchmarks/gpu_page.py"
    assert page.kept(page.PRECISION)["kept"] is True
    with pytest.raises(SystemExit, match="has no"):
        page.page("# Graphs for GPUs\n")
