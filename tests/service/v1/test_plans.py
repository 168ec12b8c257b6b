"""A plan in words: the budget, the load, and what the choice and its costs rest on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from slimpath.runtime import Bundle, Planner
from slimpath.service.v1.plans import plan_info, reasons


@pytest.fixture(scope="module")
def planner(bundle: Path) -> Planner:
    return Planner(Bundle.open(bundle).manifest)


@pytest.mark.parametrize(
    ("tasks", "budget", "begins"),
    [
        (None, None, "no limit was set: the full configuration"),
        ("depth>=0.5", None, "no limit was set: the full configuration that keeps depth>=0.5"),
        (None, "0.98", "the best configuration within 0.98"),
        (None, "min", "the cheapest configuration"),
        (None, "1kFLOPs", "nothing keeps 1000FLOPs; this comes nearest"),
        (None, "width=0.5", "the best configuration within width=0.5"),
    ],
)
def test_the_first_reason_is_the_budget(planner: Planner, tasks: str | None, budget: str | None, begins: str):
    assert reasons(planner.plan(tasks, budget), None, "")[0].startswith(begins)


def test_load_is_a_reason_and_the_budget_stays_the_one_that_was_asked_for(planner: Planner):
    asked, narrower = planner.plan(None, "0.98"), planner.plan(None, "min")
    info = plan_info(narrower, "onnxruntime", asked=asked, why_narrower="others are waiting")
    assert info.budget == "0.98" and info.encoder_width == narrower.encoder_width
    assert any(reason.endswith("others are waiting") and "narrowed from" in reason for reason in info.reasons)


def test_costs_say_whether_they_were_measured(planner: Planner):
    plan = planner.plan(None, None)
    assert "no profile" in reasons(plan, None, "")[-1]
    assert reasons(replace(plan, costed_by="profile"), None, "")[-1] == "costs were measured on this device"


def test_a_plan_is_shown_without_running_it(client: httpx.Client):
    answer = client.get("/v1/plan", params={"tasks": "depth", "budget": "width=0.5", "curve": "true"}).json()
    assert answer["chosen"]["plan"]["encoder_width"] == 0.5
    flops = [each["predicted"]["flops"] for each in answer["curve"]]
    assert flops == sorted(flops) and flops


@pytest.mark.parametrize(
    "query", ["tasks=x", "budget=nonsense", "size=1x1", "unknown=1", "curve=perhaps", "tasks=a&tasks=b"]
)
def test_what_cannot_be_planned_is_refused(client: httpx.Client, query: str):
    assert client.get(f"/v1/plan?{query}").status_code == 422


def test_models_say_what_they_can_do(client: httpx.Client):
    (model,) = client.get("/v1/models").json()["models"]
    assert model["tasks"]["semseg"]["formats"][0] == "rle" and model["tasks"]["depth"]["unit"] == "m"
    assert (model["ready"], model["top_k"], model["sizes_hw"]) == (True, 2, [[32, 48], [32, 32]])
    assert model["predicts"] == "flops" and model["licence"] == "Apache-2.0"
