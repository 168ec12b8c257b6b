"""`slimpath plan`: the parts add up, and the neighbours are the next steps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slimpath.cli.plan import cost_parts, next_cheaper, next_dearer
from slimpath.runtime import Bundle, Planner
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
