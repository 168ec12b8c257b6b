"""The plans that a stream steps between, with a real engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slimpath.runtime import BudgetError, Engine, TaskError
from slimpath.runtime.planning.plan import Plan
from slimpath.runtime.stream.ladder import HEADROOM, ladder, make_pilot


def test_ladder_runs_from_the_cheapest_to_what_the_budget_allows(engine: Engine) -> None:
    plans = ladder(engine, "depth,semseg", None)
    flops = [plan.flops for plan in plans]
    assert flops == sorted(set(flops)) and len(plans) >= 4
    assert plans[-1] == engine.plan("depth,semseg")
    assert list(plans[0].decoder_widths) == ["depth", "semseg"]
    half = ladder(engine, "depth,semseg", "0.99")
    assert 1 <= len(half) < len(plans) and half[-1].share <= 0.99


def test_pins_hold_on_every_rung_and_fixed_is_one_rung(engine: Engine) -> None:
    assert {plan.encoder_width for plan in ladder(engine, "depth", "width=0.5")} == {0.5}
    assert ladder(engine, "depth", "0.5", fixed=True) == [engine.plan("depth", "0.5")]


def test_bad_request_is_the_planners_error(engine: Engine) -> None:
    with pytest.raises(TaskError, match="flying"):
        ladder(engine, "flying", None)
    with pytest.raises(BudgetError):
        ladder(engine, "depth", "lots")


def test_every_plan_is_loaded_and_timed_before_the_stream_begins(engine: Engine) -> None:
    plans = ladder(engine, "depth", None)
    loaded: list[int] = []
    pilot = make_pilot(engine, plans, 50.0, timing_s=0.05, on_progress=lambda: loaded.append(1))
    assert len(loaded) == len(plans) == len(pilot.choices)
    predicted = [choice.predicted_ms for choice in pilot.choices]
    assert predicted == sorted(predicted) and predicted[0] > 0
    assert pilot.controller.headroom == HEADROOM


class Loader:
    """An engine that is only warmed: the first `room` plans fit its memory."""

    def __init__(self, room: int = 99) -> None:
        self._room = room
        self.answers = 0

    def warm(self, *, budgets: list[Plan], progress: Callable[[str, int, int], None]) -> list[Plan]:
        for number, plan in enumerate(budgets):
            progress(str(plan), number + 1, len(budgets))
        return budgets[: self._room]

    def __call__(self, image: object, budget: Plan) -> None:
        self.answers += 1


def test_profiled_plans_keep_their_predictions_and_are_not_timed(make_plan: Callable[..., Plan]) -> None:
    plans = [make_plan(width, latency_ms=10 * width, p95_ms=12.5 * width) for width in (0.25, 0.5, 1.0)]
    loader: Any = Loader()
    pilot = make_pilot(loader, plans, 50.0)
    assert [choice.predicted_ms for choice in pilot.choices] == [2.5, 5, 10]
    assert pilot.controller.headroom == pytest.approx(1.25)
    assert loader.answers == 0


def test_plans_that_do_not_fit_the_memory_are_no_rungs(make_plan: Callable[..., Plan]) -> None:
    plans = [make_plan(width) for width in (0.25, 0.5, 1.0)]
    few: Any = Loader(room=2)
    assert [choice.plan.encoder_width for choice in make_pilot(few, plans, 50.0, timing_s=0).choices] == [0.25, 0.5]
    none: Any = Loader(room=0)
    assert [choice.plan.encoder_width for choice in make_pilot(none, plans, 50.0, timing_s=0).choices] == [0.25]


def test_one_engine_serves_a_stream(engine: Engine, film: Path) -> None:
    from slimpath.runtime.stream.drawing import Drawer
    from slimpath.runtime.stream.pipeline import Stream
    from slimpath.tests.runtime.stream.conftest import ListOutput, ListSource, numbered

    output = ListOutput()
    pilot = make_pilot(engine, ladder(engine, None, None), 100.0, timing_s=0.0)
    source = ListSource([numbered(n) for n in range(12)], fps=10)
    stream = Stream(
        source, lambda rgb, plan: engine(rgb, budget=plan), pilot, Drawer(160).draw, [output], fps=10, pace=False
    )
    stream.start()
    assert stream.wait(300)  # it ends when it is done: an emulated processor needs a minute
    assert stream.finish().pictures == 12
    assert len({picture.shape for picture in output.pictures}) == 1
