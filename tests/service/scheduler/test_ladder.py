"""Narrower plans below the one asked for: pins, floors and limits hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from slimpath.runtime.engine import Engine
from slimpath.runtime.errors import BudgetError, InfeasibleBudgetError, TaskError
from slimpath.runtime.request import Request
from slimpath.service.scheduler import ladder as ladder_module
from slimpath.service.scheduler.ladder import Ladders, make_ladder
from slimpath.tests.service.scheduler.simulation import make_plan

Make = Callable[..., Request]


@pytest.fixture(autouse=True)
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the tiny bundle's plans cost about the same: nearly all of it is the patch embedding."""
    monkeypatch.setattr(ladder_module, "LEAST_STEP", 0.9999)


def test_it_begins_with_the_plan_asked_for_and_ends_with_the_cheapest(engine: Engine, request_for: Make) -> None:
    ladder = make_ladder(engine, request_for("depth"), narrower=True)
    assert ladder.top.plan == engine.plan("depth")
    assert replace(ladder.bottom.plan, budget="min") == engine.plan("depth", "min")
    flops = [rung.plan.flops for rung in ladder.rungs]
    assert flops == sorted(flops, reverse=True) and len(set(flops)) == len(flops) > 2


def test_a_budget_is_a_ceiling(engine: Engine, request_for: Make) -> None:
    request = request_for("depth", "0.99")
    ladder = make_ladder(engine, request, narrower=True)
    assert ladder.top.plan == engine.plan("depth", "0.99")
    assert all(rung.plan.share <= 0.99 for rung in ladder.rungs)
    assert len(ladder.rungs) > 1


@pytest.mark.parametrize("pins", ["width=1", "top_k=2", "decoder_width=1", "width=0.5,top_k=1"])
def test_what_is_pinned_stays(engine: Engine, request_for: Make, pins: str) -> None:
    for rung in make_ladder(engine, request_for("depth", pins), narrower=True).rungs:
        plan = rung.plan
        assert "top_k=2" not in pins or plan.top_k == 2
        assert pins != "width=1" or plan.encoder_width == plan.decoder_widths["depth"] == 1.0
        assert pins != "decoder_width=1" or plan.decoder_widths["depth"] == 1.0
        assert pins != "width=0.5,top_k=1" or (plan.encoder_width, plan.top_k) == (0.5, 1)


def test_floors_hold_all_the_way_down(engine: Engine, request_for: Make) -> None:
    ladder = make_ladder(engine, request_for("depth>=0.8"), narrower=True)
    assert len(ladder.rungs) > 1
    assert all((rung.plan.qualities["depth"] or 0.0) >= 0.8 for rung in ladder.rungs)


def test_a_memory_limit_holds_all_the_way_down(engine: Engine, request_for: Make) -> None:
    limit_mb = engine.plan("depth").memory_mb * 0.999
    ladder = make_ladder(engine, request_for("depth", f"{limit_mb:.9f}MB"), narrower=True)
    assert all(rung.plan.memory_mb <= limit_mb for rung in ladder.rungs)


def test_min_and_a_plan_have_nothing_below_them(engine: Engine, request_for: Make) -> None:
    assert len(make_ladder(engine, request_for("depth", "min"), narrower=True).rungs) == 1
    assert len(make_ladder(engine, request_for(None, engine.plan("depth")), narrower=True).rungs) == 1


def test_without_narrowing_there_is_one_rung(engine: Engine, request_for: Make) -> None:
    assert len(make_ladder(engine, request_for("depth"), narrower=False).rungs) == 1


def test_answers_say_the_budget_that_was_asked_for(engine: Engine, request_for: Make) -> None:
    ladder = make_ladder(engine, request_for("depth", "0.99"), narrower=True)
    assert {rung.plan.budget for rung in ladder.rungs} == {"0.99"}


def test_the_engines_refusals_pass_through(engine: Engine, request_for: Make) -> None:
    with pytest.raises(TaskError):
        make_ladder(engine, request_for("teapot"), narrower=True)
    with pytest.raises(BudgetError):
        make_ladder(engine, request_for("depth", "width=0.3"), narrower=True)
    with pytest.raises(InfeasibleBudgetError):
        make_ladder(engine, request_for("depth", "1FLOPs", strict=True), narrower=True)


def test_equal_requests_share_a_ladder(engine: Engine, request_for: Make) -> None:
    ladders = Ladders(engine, narrower=True)
    first = request_for(["depth", "edge"], "0.99")
    assert ladders.known(first) is None
    ladder = ladders.make(first)
    ladders.keep(first, ladder)
    assert ladders.known(request_for(["depth", "edge"], "0.99")) is ladder
    assert ladders.known(request_for({"depth": 1, "edge": 1}, "0.99")) is None
    assert ladders.known(request_for(["depth", "edge"], 0.99)) is None  # a number is another budget than a text


def test_what_can_be_read_once_is_not_remembered(engine: Engine, request_for: Make) -> None:
    ladders = Ladders(engine, narrower=True)
    request = request_for(iter(["depth"]))
    ladders.keep(request, ladders.make(request_for("depth")))
    assert ladders.known(request) is None


def test_the_number_of_ladders_is_bounded(engine: Engine, request_for: Make) -> None:
    ladders = Ladders(engine, narrower=False)
    one = ladders.make(request_for("depth"))
    for number in range(ladder_module.MAX_LADDERS + 100):
        ladders.keep(request_for({"depth": number + 1.0}), one)
    assert len(ladders._known) == ladder_module.MAX_LADDERS


def test_a_cheaper_plan_that_needs_more_memory_or_energy_than_allowed_is_left_out(request_for: Make) -> None:
    full = replace(make_plan(80.0), memory_mb=100.0, energy_mj=50.0)
    plans = [
        replace(make_plan(20.0, width=0.2), memory_mb=90.0, energy_mj=40.0),
        replace(make_plan(30.0, width=0.3), memory_mb=101.0, energy_mj=40.0),
        replace(make_plan(50.0, width=0.5), memory_mb=90.0, energy_mj=51.0),
        replace(make_plan(60.0, width=0.6), memory_mb=90.0, energy_mj=40.0),
        full,
    ]
    engine: Any = SimpleNamespace(plan=lambda *request, **more: full, curve=lambda *request, **more: plans)
    ladder = make_ladder(engine, request_for("depth", "100MB,50mJ"), narrower=True)
    assert [rung.plan.latency_ms for rung in ladder.rungs] == [80.0, 60.0, 20.0]
