"""One request's failure is its own; what an answer took reaches the controller."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from slimpath.runtime.backends.ort import OrtBackend, OrtSession
from slimpath.runtime.engine import Engine
from slimpath.runtime.errors import BackendError
from slimpath.runtime.request import Request
from slimpath.runtime.result import Result
from slimpath.tests.runtime.running.test_choosing import Milliseconds


@pytest.fixture
def failing(monkeypatch) -> dict[str, Any]:
    """Makes the runs fail for which `failing["when"]` (of outputs and feeds) is true."""
    rule: dict[str, Any] = {"when": lambda outputs, feeds: False, "runs": 0}
    run = OrtSession.run

    def checked(self, feeds, *, shrink=False):
        rule["runs"] += 1
        if rule["when"](self.outputs, feeds):
            raise rule.get("error", BackendError("out of memory"))
        return run(self, feeds, shrink=shrink)

    monkeypatch.setattr(OrtSession, "run", checked)
    return rule


def assert_equal(left: Result, right: Result) -> None:
    for task in left:
        np.testing.assert_allclose(left[task], right[task], atol=1e-5, rtol=1e-5)


def test_failing_head_hurts_only_the_requests_that_want_it(engine, photo, failing):
    failing["when"] = lambda outputs, feeds: outputs == ("edge",)
    requests = [Request(photo(seed=i), tasks) for i, tasks in enumerate(("depth", "depth,edge", "scene", "edge"))]
    good, bad, good_too, bad_too = engine.run_batch(requests, return_errors=True)
    assert isinstance(bad, BackendError) and isinstance(bad_too, BackendError)
    assert_equal(good, engine(photo(seed=0), "depth"))
    assert_equal(good_too, engine(photo(seed=2), "scene"))
    with pytest.raises(BackendError):
        engine.run_batch(requests)


def test_batch_that_is_too_large_is_answered_one_by_one(engine, photo, failing):
    failing["when"] = lambda outputs, feeds: len(feeds.get("image", ())) > 1
    for error in (BackendError("no memory"), MemoryError()):
        failing["error"] = error
        answers = engine.run_batch([Request(photo(seed=i), "depth") for i in range(3)], return_errors=True)
        for seed, answer in enumerate(answers):
            assert_equal(answer, engine(photo(seed=seed), "depth"))


def test_memory_that_runs_out_is_an_error_of_the_backend(engine, photo, failing):
    failing.update(when=lambda outputs, feeds: True, error=MemoryError())
    with pytest.raises(BackendError, match="not enough memory for this batch; ask for fewer or smaller"):
        engine(photo(), "depth")


def test_budgets_of_a_batch_are_split_into_encoder_calls_by_width(engine, photo, failing):
    budgets = ["width=1", "width=0.5", "top_k=1,width=1", "width=1,decoder_width=0.5", "width=0.5,top_k=1"]
    for budget in budgets:
        engine(photo(), "depth", budget)  # loaded, whatever it is
    failing["runs"] = 0
    answers = engine.run_batch([Request(photo(), "depth", budget) for budget in budgets])
    assert [answer.plan.encoder_width for answer in answers] == [1, 0.5, 1, 1, 0.5]
    assert failing["runs"] == 2 + 3  # two encoder widths; with them one, and two decoder widths
    for budget, answer in zip(budgets, answers):
        assert_equal(answer, engine(photo(), "depth", budget))


def test_requests_of_other_precisions_share_no_encoder_call(engine, photo):
    from dataclasses import replace

    from slimpath.runtime.running.batching import Prepared, make_batches

    plan = engine.plan("depth")
    items = [
        Prepared(i, Request(photo(), "depth"), replace(plan, precision=precision), np.zeros(1), None, {})  # type: ignore[arg-type]
        for i, precision in enumerate(("fp32", "int8", "fp32"))
    ]
    batches = make_batches(items, rows_per_task=True, max_rows=32)
    assert [[item.index for item in batch.items] for batch in batches] == [[0, 2], [1]]


# --- the controller -----------------------------------------------------------------------------------------------


@pytest.fixture
def profiled(tiny_bundle):
    with Engine.load(tiny_bundle, threads=1, tier="packed", profile=Milliseconds()) as engine:  # type: ignore[arg-type]
        yield engine


def test_every_answer_of_one_request_is_observed(profiled, photo):
    for count in range(1, 4):
        assert profiled(photo(), "depth").plan.costed_by == "profile"
        assert profiled.controller.state.answers == count
    profiled.run_batch([Request(photo(), "depth"), Request(photo(), "edge")])  # a prediction is for one
    with pytest.raises(Exception, match="unknown task"):
        profiled(photo(), "up")
    assert profiled.controller.state.answers == 3


def test_warming_is_not_observed(profiled):
    profiled.warm()
    assert profiled.controller.state.answers == 0


def test_answers_of_sessions_that_are_about_to_be_packed_are_not_observed(tiny_bundle, photo):
    with Engine.load(tiny_bundle, threads=1, profile=Milliseconds()) as engine:  # type: ignore[arg-type]
        engine(photo(), "depth")
        assert engine.controller is not None and engine.controller.state.answers == 0
        engine.warm("depth", [None])
        engine(photo(), "depth")
        assert engine.controller.state.answers == 1


def test_without_a_profile_there_is_no_controller_and_the_reason_is_said(tiny_bundle):
    with Engine.load(tiny_bundle, threads=1) as engine:
        assert engine.controller is None and engine.profile is None
        assert "was not measured on this device yet" in engine.profile_refusal
    with Engine.load(tiny_bundle, threads=1, profile=None) as engine:
        assert engine.profile_refusal == ""


def test_stored_profile_is_found(tiny_bundle, monkeypatch):
    found = Milliseconds()
    seen: list[Any] = []
    find = "slimpath.runtime.profiling.profile.Profile.find"
    monkeypatch.setattr(find, lambda *arguments: seen.append(arguments) or found)
    with Engine.load(tiny_bundle, threads=1, backend=OrtBackend(threads=1)) as engine:
        assert engine.profile is found and engine.planner.costs is found
    (_, conditions) = seen[0]
    assert (conditions.tier, conditions.threads, conditions.backend) == ("packed", 1, "onnxruntime")
