"""What Prometheus reads, counted from jobs that were made up."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from slimpath.runtime.errors import BackendError, ImageError
from slimpath.runtime.planning.plan import Plan
from slimpath.runtime.request import Request
from slimpath.service.metrics import Metrics, kind_of
from slimpath.service.scheduler.errors import Late, Refused, Unavailable
from slimpath.service.scheduler.job import Job, Outcome
from slimpath.service.v2.statistics import Statistics

PLAN = Plan(
    (32, 48), 0.5, 2, {"depth": 0.5}, 10**6, 0.5, {"depth": None}, "flops", True, {"depth": 1.0}, "0.5", energy_mj=40.0
)


@dataclass
class FakeResult:
    plan: Plan = PLAN
    timings_ms: dict[str, float] = field(default_factory=lambda: {"encoder": 3.0, "heads": 1.0, "preprocess": 0.5})


@dataclass
class FakeModel:
    name: str = "tiny"
    backend: str = "onnxruntime"


MODEL: Any = FakeModel()
IMAGE = Request(np.zeros((1, 1, 3), np.uint8))


def outcome(**changes: Any) -> Outcome:
    result: Any = FakeResult()
    return replace(Outcome(result, queue_ms=2.0, batch_size=2, degraded=False, slack_ms=None), **changes)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_an_answer_is_counted_with_its_configuration() -> None:
    metrics = Metrics()
    metrics.answered(MODEL, Job(IMAGE), outcome(), 0.01)
    chosen = {"model": "tiny", "width": "0.5", "top_k": "2", "size": "32x48", "backend": "onnxruntime"}
    assert value(metrics, "slimpath_plans_total", **chosen) == 1
    assert value(metrics, "slimpath_task_answers_total", model="tiny", task="depth") == 1
    assert value(metrics, "slimpath_inferences_total", model="tiny", outcome="answered") == 1
    assert value(metrics, "slimpath_queue_seconds_sum", model="tiny") == pytest.approx(0.002)
    assert value(metrics, "slimpath_inference_seconds_sum", model="tiny") == pytest.approx(0.01)
    assert value(metrics, "slimpath_predicted_energy_joules_total", model="tiny") == pytest.approx(0.04)
    assert value(metrics, "slimpath_degraded_total", model="tiny") is None


def test_degraded_answers_and_broken_budgets_are_counted() -> None:
    metrics = Metrics()
    result: Any = FakeResult(replace(PLAN, budget_met=False, energy_mj=None))
    metrics.answered(MODEL, Job(IMAGE), outcome(result=result, degraded=True), 0.01)
    assert value(metrics, "slimpath_degraded_total", model="tiny") == 1
    assert value(metrics, "slimpath_budget_unmet_total", model="tiny") == 1
    assert value(metrics, "slimpath_predicted_energy_joules_total", model="tiny") is None


@pytest.mark.parametrize(
    ("error", "kind", "missed"),
    [
        (Refused("full", retry_after_s=1), "refused", True),
        (Refused("yours", retry_after_s=1, per_client=True), "client_limit", True),
        (Late("late"), "late", True),
        (Unavailable("down"), "unavailable", True),
        (BackendError("broken"), "failed", True),
        (RuntimeError("a defect"), "failed", True),
        (ImageError("no image"), "bad_request", False),
        (asyncio.CancelledError(), "cancelled", False),
    ],
)
def test_each_way_to_fail_has_its_word_and_counts_as_a_miss_or_not(
    error: BaseException, kind: str, missed: bool
) -> None:
    metrics = Metrics()
    assert kind_of(error) == kind
    metrics.failed(MODEL, Job(IMAGE, deadline_s=1.0), error, 0.01)
    metrics.failed(MODEL, Job(IMAGE), error, 0.01)  # without a deadline nothing is missed
    assert value(metrics, "slimpath_inferences_total", model="tiny", outcome=kind) == 2
    assert value(metrics, "slimpath_slo_total", model="tiny", result="missed") == (1 if missed else None)


def test_deadlines_that_were_met_and_missed_are_told_apart() -> None:
    metrics = Metrics()
    metrics.answered(MODEL, Job(IMAGE, deadline_s=1.0), outcome(slack_ms=3.0), 0.01)
    metrics.answered(MODEL, Job(IMAGE, deadline_s=1.0), outcome(slack_ms=-3.0), 0.01)
    assert value(metrics, "slimpath_slo_total", model="tiny", result="met") == 1
    assert value(metrics, "slimpath_slo_total", model="tiny", result="missed") == 1


def test_engine_calls_are_compared_with_their_prediction() -> None:
    metrics = Metrics()
    calls = metrics.of_scheduler("tiny")
    calls.engine_called(batch_size=4, seconds=0.02, predicted_s=0.01)
    calls.engine_called(batch_size=1, seconds=0.02, predicted_s=0.0)  # nothing was known
    assert value(metrics, "slimpath_batch_size_sum", model="tiny") == 5
    assert value(metrics, "slimpath_prediction_ratio_sum", model="tiny") == pytest.approx(2)
    assert value(metrics, "slimpath_prediction_ratio_count", model="tiny") == 1


def test_what_clients_send_makes_no_new_series() -> None:
    metrics = Metrics()
    for number in range(50):
        metrics.http_answered(f"BREW{number}", "other", 404, 0.001)
    text = metrics.render()[0].decode()
    assert text.count("slimpath_http_requests_total{") == 1


def test_every_metric_has_a_help_text_and_a_name_of_ours_or_the_usual_ones() -> None:
    text = Metrics().render()[0].decode()
    families = list(text_string_to_metric_families(text))
    assert len(families) > 20
    for family in families:
        assert family.documentation, family.name
        assert family.name.startswith(("slimpath_", "process_", "python_")), family.name


def test_openmetrics_is_spoken_to_those_who_ask_for_it() -> None:
    body, content_type = Metrics().render("application/openmetrics-text; version=1.0.0")
    assert "openmetrics" in content_type and body.endswith(b"# EOF\n")
    assert Metrics().render("")[1].startswith("text/plain")


def test_servers_in_one_process_do_not_share_their_counts() -> None:
    first, second = Metrics(), Metrics()
    first.answered(MODEL, Job(IMAGE), outcome(), 0.01)
    assert value(second, "slimpath_inferences_total", model="tiny", outcome="answered") is None


def test_statistics_count_an_engine_call_once_however_many_shared_it() -> None:
    statistics = Statistics()
    for _ in range(4):
        statistics.answered(MODEL, Job(IMAGE), outcome(batch_size=4), 0.01)
    found = statistics.to_json("tiny")
    assert (found["inference_count"], found["execution_count"]) == (4, 1)
    (batch,) = found["batch_stats"]
    assert batch["batch_size"] == 4 and batch["compute_infer"] == {"count": 1, "ns": 4_000_000}
    assert found["inference_stats"]["queue"] == {"count": 4, "ns": 8_000_000}
