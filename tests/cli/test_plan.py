"""`slimpath plan`: the parts add up, and the neighbours are the next steps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slimpath.cli import plan as plan_verb
from slimpath.cli.plan import cost_parts, next_cheaper, next_dearer
from slimpath.cli.plan_text import changes, print_neighbours, print_plan
from slimpath.runtime import Bundle, Planner
from slimpath.runtime.bundles.manifest_parts import Cost
from slimpath.tests.runtime.plan_cases import MadeUpCosts, accuracy, make_manifest
from slimpath.tests.runtime.tiny_bundle import build_tiny_bundle


@pytest.fixture(scope="module")
def unmeasured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without accuracies every step in cost is a choice."""
    return build_tiny_bundle(tmp_path_factory.mktemp("bundles") / "unmeasured", accuracies=False)


def test_parts_add_up_to_the_plan(unmeasured: Path):
    bundle = Bundle.open(unmeasured)
    plan = Planner(bundle.manifest).plan("depth,edge", 0.6)
    parts = cost_parts(bundle.manifest, plan)
    encoder = bundle.graph("encoder", plan.size_hw, plan.encoder_width).cost
    rows = len(plan.tasks)
    expected = encoder.flops_image + rows * (encoder.flops_row + plan.top_k * encoder.flops_row_per_expert)
    assert list(parts) == ["encoder", "depth", "edge"]
    assert sum(parts.values()) == plan.flops
    assert parts["encoder"] == expected


def test_neighbours_are_the_steps_before_and_after(unmeasured: Path):
    planner = Planner(Bundle.open(unmeasured).manifest)
    steps = planner.curve("depth,edge", points=10_000)  # all of them
    assert len(steps) > 3
    for before, here, after in zip(steps, steps[1:], steps[2:]):
        assert next_cheaper(planner, here).flops == before.flops  # type: ignore[union-attr]  # there is one
        assert next_dearer(planner, here).flops == after.flops  # type: ignore[union-attr]
    assert next_cheaper(planner, steps[0]) is None
    assert next_dearer(planner, steps[-1]) is None


def test_plan_prints_parts_and_accuracies(slimpath: Callable[..., Any], tiny_bundle: Path, unmeasured: Path):
    measured = slimpath("plan", "--bundle", tiny_bundle, "--tasks", "depth,edge")
    assert measured.exit_code == 0, measured.output
    assert "is better" in measured.stdout
    plain = slimpath("plan", "--bundle", unmeasured, "--budget", "0.5", "--curve")
    assert plain.stdout.count("unmeasured") >= 5
    assert "from cheapest to full" in plain.stdout


def test_json_holds_choice_parts_and_neighbours(slimpath: Callable[..., Any], unmeasured: Path):
    document = json.loads(slimpath("plan", "--bundle", unmeasured, "--budget", "0.98", "--json").stdout)
    assert document["share"] <= 0.98
    assert document["cheaper"]["flops"] < document["flops"] < document["dearer"]["flops"]
    assert sum(document["parts"].values()) == document["flops"]


def test_budget_that_nothing_fits_is_said_and_with_strict_refused(slimpath: Callable[..., Any], unmeasured: Path):
    loose = slimpath("plan", "--bundle", unmeasured, "--budget", "1FLOPs")
    assert loose.exit_code == 0
    assert "not met" in loose.stdout
    assert slimpath("plan", "--bundle", unmeasured, "--budget", "1FLOPs", "--strict").exit_code == 2


def test_budget_in_milliseconds_without_a_profile_says_how_to_get_one(slimpath: Callable[..., Any], unmeasured: Path):
    refused = slimpath("plan", "--bundle", unmeasured, "--budget", "20ms")
    assert refused.exit_code == 2
    assert "slimpath calibrate BUNDLE" in refused.stderr


def test_floors_and_min_are_understood(slimpath: Callable[..., Any], tiny_bundle: Path):
    done = slimpath("plan", "--bundle", tiny_bundle, "--tasks", "depth=2>=0.9,edge", "--budget", "min", "--json")
    document = json.loads(done.stdout)
    assert (document["floors"], document["budget_met"]) == ({"depth": 0.9}, True)
    assert document["qualities"]["depth"] >= 0.9


def test_neighbours_say_what_is_lost_and_gained(slimpath: Callable[..., Any], tiny_bundle: Path):
    document = json.loads(slimpath("plan", "--bundle", tiny_bundle, "--tasks", "depth,edge", "--budget", "0.98",
                                   "--json").stdout)  # fmt: skip
    assert all(change["gain"] <= 0 for change in document["cheaper"]["changes"].values())
    assert any(change["gain"] > 0 for change in document["dearer"]["changes"].values())
    text = slimpath("plan", "--bundle", tiny_bundle, "--tasks", "depth,edge", "--budget", "0.98").stdout
    assert "cheaper: -" in text and "worse by" in text
    assert "dearer: +" in text and "better by" in text
    cheapest = slimpath("plan", "--bundle", tiny_bundle, "--budget", "min").stdout
    assert "there is no cheaper one" in cheapest


@pytest.fixture
def profiled() -> Planner:
    points = [
        accuracy("depth", width, 0, 1.0, value, ci_low=value - 0.1, ci_high=value + 0.1)
        for width, value in ((0.5, 0.70), (1.0, 0.75))
    ]
    manifest = make_manifest({0.5: Cost(100), 1.0: Cost(200)}, {"depth": {1.0: 10}}, 0, points)
    return Planner(manifest, MadeUpCosts(1, headroom=1.2))


def test_measured_costs_are_shown_part_by_part(profiled: Planner, capsys: pytest.CaptureFixture[str]):
    chosen = profiled.plan("depth")
    print_plan(profiled.manifest, chosen, "")
    near = profiled.neighbours(chosen)
    print_neighbours(profiled.manifest, near.cheaper, chosen, near.dearer)
    shown = capsys.readouterr().out
    assert f"{chosen.latency_ms:.3g} ms (95 %: {chosen.p95_ms:.3g})" in shown
    for name, cost in chosen.parts:
        (line,) = (line for line in shown.splitlines() if line.split()[:1] == [name] and "ms" in line)
        assert f"{cost.latency_ms:.3g} ms" in line and f"{cost.energy_mj:.3g} mJ" in line
    assert "slimpath calibrate" not in shown


def test_change_within_the_error_of_the_measurement_is_marked(profiled: Planner):
    full, half = profiled.plan("depth"), profiled.plan("depth", "width=0.5")
    (change,) = changes(profiled.manifest, full, half)
    assert (change.task, change.within_noise, round(change.gain, 6)) == ("depth", True, -0.05)


def test_plot_is_a_picture_and_leaves_nothing_else(slimpath: Callable[..., Any], tiny_bundle: Path, tmp_path: Path):
    pytest.importorskip("matplotlib")
    for kind, start in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        out = tmp_path / "plots" / f"knob.{kind}"
        done = slimpath("plan", "--bundle", tiny_bundle, "--tasks", "depth=2,edge", "--budget", "0.98", "--plot", out)
        assert done.exit_code == 0, done.output
        assert out.read_bytes().startswith(start) and f"wrote {out}" in done.stderr
    assert sorted(path.name for path in out.parent.iterdir()) == ["knob.pdf", "knob.png", "knob.svg"]


def test_plot_of_an_unmeasured_bundle_is_drawn(slimpath: Callable[..., Any], unmeasured: Path, tmp_path: Path):
    pytest.importorskip("matplotlib")
    done = slimpath("plan", "--bundle", unmeasured, "--tasks", "scene", "--plot", tmp_path / "knob.png")
    assert done.exit_code == 0, done.output


def test_plot_of_another_kind_names_the_kinds(slimpath: Callable[..., Any], tiny_bundle: Path, tmp_path: Path):
    pytest.importorskip("matplotlib")
    refused = slimpath("plan", "--bundle", tiny_bundle, "--plot", tmp_path / "knob.bmp")
    assert refused.exit_code == 2 and "png, svg, pdf" in refused.stderr
    assert not list(tmp_path.glob("knob*"))


def test_plot_without_matplotlib_gives_the_line_that_installs_it(
    slimpath: Callable[..., Any], tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    refused = slimpath("plan", "--bundle", tiny_bundle, "--plot", tmp_path / "knob.png")
    assert refused.exit_code == 2
    assert 'pip install "slimpath[plot]"' in refused.stderr


def test_profile_of_another_device_is_named_and_flops_are_used(
    slimpath: Callable[..., Any], tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(plan_verb, "find_profile", lambda *_: (None, "no profile holds here; the nearest differs: CPU"))
    shown = slimpath("plan", "--bundle", tiny_bundle).stdout
    assert "the nearest differs: CPU" in shown and "FLOPs" in shown
