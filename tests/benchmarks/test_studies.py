"""The studies: their budget, what differs between runs, the sums of the tables, and that the whole runs and goes on."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from slimpath.tests.scripts import load_script

pytest.importorskip("tqdm", reason="rendering rooms needs tqdm")
pytest.importorskip("scipy", reason="intervals need scipy")
pytest.importorskip("matplotlib", reason="the heat map needs matplotlib")
pytest.importorskip("torchjd", reason="PCGrad needs TorchJD")

PLAIN = {"semseg": 0.2, "depth": 1.0, "normals": 20.0}
BETTER = {"semseg": 0.22, "depth": 0.9, "normals": 18.0}  # each by a tenth
WORSE = {"semseg": 0.18, "depth": 1.1, "normals": 22.0}
TRIVIAL = {"semseg": 0.1, "depth": 2.0, "normals": 40.0}
HALFWAY = {"semseg": 0.15, "depth": 1.5, "normals": 30.0}


@pytest.fixture
def studies(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load_script("studies", monkeypatch)


def part(name: str) -> ModuleType:
    """A module that the script has loaded."""
    return sys.modules[name]


def found(variant: str, seed: int, values: dict[str, float]) -> dict[str, Any]:
    """A run as it is measured; narrow, it is halfway between trivial and plain."""
    shares = {task: [[0.5, 0.5, 0.0, 0.0]] for task in PLAIN}
    other = {**shares, "depth": [[0.0, 0.0, 0.5, 0.5]]}
    return {
        "variant": variant,
        "seed": seed,
        "training_cpu_s": 30,
        "cpu_s": 40,
        "encoder_mflops": 1.5,
        "encoder_parameters": 1000,
        "widths": {"0.5": dict(HALFWAY), "1": values},
        "top_k": {str(k): dict(PLAIN if k == 4 else WORSE) for k in (1, 2, 3, 4, 6, 8)},
        "experts": {"untrained": shares, "even pictures": other, "odd pictures": other},
        "settings": {"model": "m3vit_micro", "lr": 1e-3, "seed": seed, "stages": [{"image_hw": [8, 8], "batch": 2}]},
        "network": {"top_k": 4},
    }


def measured(studies: ModuleType, base: dict[str, float] = BETTER) -> dict[str, Any]:
    """A document: two seeds, of which the second scores as the first; all variants plain but the base."""
    runs = part("studies_runs")
    kinds = [runs.BASE, *runs.SINGLES.values(), runs.CI_KD, runs.WIDEST, runs.DENSE]
    each = [(name, seed) for seed in range(2) for name in kinds] + [(name, 0) for name in runs.BALANCING]
    all_runs = []
    for name, seed in each:
        task = next((task for task, single in runs.SINGLES.items() if single == name), None)
        run = found(name, seed, dict(base if name == runs.BASE else PLAIN))
        if task:
            run["widths"] = {width: {task: values[task]} for width, values in run["widths"].items()}
        all_runs.append(run)
    return studies.document(runs.Plan(seeds=2), all_runs, TRIVIAL)


def test_runs_are_no_more_than_allowed_and_differ_in_what_is_studied_alone(studies: ModuleType):
    runs = part("studies_runs")
    planned = runs.all_runs(runs.Plan())
    assert len(planned) <= part("studies_tables").MOST_RUNS
    assert len({(run.variant, run.config.seed) for run in planned}) == len(planned)
    by_name = {run.variant: vars(run.config) for run in reversed(planned)}  # of the first seed
    base = by_name[runs.BASE]
    changed = {name: {key for key in base if base[key] != settings[key]} for name, settings in by_name.items()}
    assert changed[runs.WIDEST] == {"sandwich"} and changed[runs.DENSE] == {"model"}
    assert changed[runs.CI_KD] == changed["PCGrad"] == {"methods"}
    assert changed[runs.SINGLES["depth"]] == {"tasks", "stages", "data"}


def test_single_tasks_see_as_many_pictures_and_labels_as_among_the_others(studies: ModuleType):
    runs = part("studies_runs")
    for run in runs.all_runs(runs.Plan()):
        (stage,), config = run.config.stages, run.config
        assert stage.batch // config.data.rows_per_image == runs.Plan().pictures
        assert stage.batch // len(config.tasks) == runs.Plan().pictures


def test_dense_network_costs_what_the_experts_cost_that_a_token_visits(studies: ModuleType, tmp_path: Path):
    from dataclasses import replace

    from slimpath.models import HeadConfig, preset_config
    from slimpath.models.flops import encoder_cost

    heads = (HeadConfig("depth", "depth", 1),)
    network = part("studies_runs").NETWORK
    costs = [
        encoder_cost(replace(preset_config(name, heads), **network)).flops(1, 1, network["top_k"])
        for name in ("m3vit_micro", "vit_micro")
    ]
    assert costs[0] == pytest.approx(costs[1], rel=0.05)  # the routers' products


def test_gains_are_above_zero_where_it_is_better_whichever_way_the_metric_goes(studies: ModuleType):
    results = part("studies_results")
    better = results.Results(measured(studies))
    assert better.gains("base", results.ALONE) == pytest.approx([10, 10])
    assert better.gains("CI-KD", "base") == pytest.approx([-100 / 3 * (0.02 / 0.22 + 0.1 / 0.9 + 2 / 18)] * 2)
    assert better.gains("base", results.ALONE, "0.5") == pytest.approx([0, 0])
    assert better.top_k_changes("base", 1) == pytest.approx([-10, -10])
    assert better.training_s(results.ALONE, 0) == 90 and better.training_s("base", 0) == 30


def test_share_kept_is_zero_at_the_trivial_answer_and_none_where_nothing_was_learnt(studies: ModuleType):
    results = part("studies_results").Results
    assert results(measured(studies, PLAIN)).kept("base", "0.5") == pytest.approx([50, 50])
    assert np.isnan(results(measured(studies, {**PLAIN, "depth": 2.1})).kept("base", "0.5")).all()
    assert "no better than trivial" in part("studies_tables").kept(results(measured(studies, {**PLAIN, "depth": 2.1})))


def test_interval_is_wide_with_few_seeds_and_says_so(studies: ModuleType):
    results = part("studies_results")
    low, high = results.interval([1.0, 2.0, 3.0])  # deviation 1, t of two degrees of freedom 4.3027
    assert (low, high) == pytest.approx((2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-3)
    assert results.told([1.0, 2.0, 3.0]) == "not told apart"
    assert results.told([2.0, 2.1, 2.2]) == "better" and results.told([-2.0, -2.1, -2.2]) == "worse"
    assert results.told([5.0]) == "not told apart"


def test_distance_of_expert_use_is_one_where_no_expert_is_shared(studies: ModuleType):
    results = part("studies_results")
    assert results.apart([0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]) == 1 and results.apart([0.2, 0.8], [0.2, 0.8]) == 0
    # Of three tasks one differs: two of three pairs have nothing in common.
    found = results.Results(measured(studies)).distances(0)
    assert found["untrained"] == [0, 0] and found["halves"] == [0, 0]
    assert found["trained"] == pytest.approx([2 / 3, 2 / 3])


def test_words_follow_the_figures(studies: ModuleType):
    tables = part("studies_tables")
    good, bad = (tables.page_text(measured(studies, base)) for base in (BETTER, WORSE))
    assert "delta_m of the base is +10.0 ± 0.0 %" in good and "(better)" in good and "*base* has the highest" in good
    assert "delta_m of the base is -10.0 ± 0.0 %" in bad and "(worse)" in bad and "*base* has the highest" not in bad
    assert "| base | 0.2200 ± 0.0000 | 0.9000 ± 0.0000 | 18.0000 ± 0.0000 | +10.0 ± 0.0 * | 30 |" in good
    assert "the longest took 40 s of CPU time" in good and "17 runs (of at most 24)" in good
    assert "| 1 | -10.0 ± 0.0 * |" in good and "| 4 | 0 | 0 |" in good


def test_page_says_which_runs_there_are_when_some_are_not_done_yet(studies: ModuleType):
    whole = measured(studies)
    runs = [run for run in whole["runs"] if run["seed"] == 0 and run["variant"] not in ("PCGrad", "Rep-MTL")]
    text = part("studies_tables").page_text({**whole, "runs": runs})
    assert (
        "8 runs (of at most 24), seeds 0; 9 planned runs are not done yet;" in text
        and "uncertainty" in text
        and "PCGrad" not in text
    )


def test_raw_document_names_what_every_run_changed(studies: ModuleType):
    runs = measured(studies)["runs"]
    assert runs[0]["changes"] == {} and "settings" not in runs[0]
    assert {run["seed"]: run["changes"] for run in runs if run["variant"] == "base"}[1] == {"seed": 1}


def test_heat_map_is_drawn_small(studies: ModuleType, tmp_path: Path):
    path = studies.draw(measured(studies)["runs"], tmp_path / "heat.png")
    assert path.read_bytes().startswith(b"\x89PNG") and 5_000 < path.stat().st_size < 200_000


def test_page_has_the_place_that_the_figures_go_to(studies: ModuleType):
    text = part("page").with_figures(studies.PAGE.read_text(encoding="utf-8"), "studies.py", "a table")
    assert text.count("\n\na table\n\n") == 1


def test_quick_call_runs_every_variant_and_goes_on_where_it_stopped(
    studies: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    runs = part("studies_runs")
    untouched = [path.stat().st_mtime_ns for path in (studies.PAGE,)]
    monkeypatch.setattr(sys, "argv", ["studies.py", "--quick", "--cache", str(tmp_path)])
    studies.main()
    first = capsys.readouterr().out
    assert "### At full width" in first and "Rep-MTL" in first and len(list(tmp_path.glob("studies-*.json"))) == 10

    def fails(*_: Any) -> None:
        raise AssertionError("a run that was done is measured again")

    monkeypatch.setattr(runs, "measured", fails)
    studies.main()
    assert capsys.readouterr().out == first
    planned = runs.all_runs(studies.QUICK)
    assert len(runs.found_so_far(planned, tmp_path)) == 10
    next(tmp_path.glob("studies-pcgrad-*.json")).unlink()  # one seed is enough there
    assert len(runs.found_so_far(planned, tmp_path)) == 9
    next(tmp_path.glob("studies-dense-*.json")).unlink()
    assert runs.found_so_far(planned, tmp_path) == []
    assert [path.stat().st_mtime_ns for path in (studies.PAGE,)] == untouched


def test_more_experts_than_trained_with_can_be_asked_for(studies: ModuleType):
    import torch

    from slimpath.models import HeadConfig, build_preset

    torch.manual_seed(0)
    model = build_preset("m3vit_micro", (HeadConfig("depth", "depth", 1),)).eval()
    image = torch.randn(1, 3, 32, 32)
    before = copy.deepcopy(model.config)
    answers = [part("studies_runs").at_top_k(model, k)(image, ["depth"]).raw["depth"] for k in (1, 2, 4)]
    assert model.config == before
    torch.testing.assert_close(answers[1], model(image, ["depth"]).raw["depth"])
    assert not torch.equal(answers[0], answers[1]) and not torch.equal(answers[1], answers[2])
