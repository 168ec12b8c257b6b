"""Which plan, together with whom."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpath.service.scheduler.choice import Batch, Menu, choose
from slimpath.service.scheduler.costs import Costs
from slimpath.service.scheduler.job import Ticket
from slimpath.tests.service.scheduler.simulation import make_ladder, make_ticket

LADDER = make_ladder([80.0, 60.0, 40.0, 20.0])
ONE_ENCODER = make_ladder([80.0, 40.0], same_encoder=True)


def decide(
    order: Sequence[Ticket],
    *,
    costs: Costs | None = None,
    narrows: bool = True,
    load: float = 0.0,
    max_batch: int = 1,
    free_s: Sequence[float] = (0.0,),
) -> Batch:
    return choose(
        order, free_s, 0.0, Menu(costs or Costs(), narrows=narrows), load=load, utilisation=0.9, max_batch=max_batch
    )


def chosen_ms(order: Sequence[Ticket], **more: object) -> float:
    latency_ms = decide(order, **more).rungs[0].plan.latency_ms  # type: ignore[arg-type]
    assert latency_ms is not None
    return latency_ms


def costs_with(gains: dict[int, float]) -> Costs:
    """Costs under which batches of so many of `ONE_ENCODER` take that share of their members alone."""
    return Costs(lambda rung, images: gains.get(images))


def test_alone_with_time_enough_it_gets_what_it_asked_for() -> None:
    assert chosen_ms([make_ticket(LADDER, within_s=0.2)]) == 80.0
    assert chosen_ms([make_ticket(LADDER)]) == 80.0


@pytest.mark.parametrize(("within_s", "expected_ms"), [(0.1, 80.0), (0.075, 60.0), (0.05, 40.0), (0.03, 20.0)])
def test_the_widest_plan_that_is_in_time_is_taken(within_s: float, expected_ms: float) -> None:
    assert chosen_ms([make_ticket(LADDER, within_s=within_s)]) == expected_ms


def test_the_first_leaves_room_for_those_behind_it() -> None:
    """Four deadlines at 170 ms: four times 40 ms fit, one of 80 and three of 40 do not."""
    assert chosen_ms([make_ticket(LADDER, within_s=0.17) for _ in range(4)]) == 40.0


def test_a_hopeless_one_behind_does_not_narrow_the_first_below_what_helps() -> None:
    """It gets its own narrowest plan; the first gives it as much room as there is."""
    order = [make_ticket(LADDER, within_s=1.0), make_ticket(LADDER, within_s=0.021)]
    assert chosen_ms(order) == 20.0


def test_two_runners_do_twice_as_much() -> None:
    order = [make_ticket(LADDER, within_s=0.17) for _ in range(4)]
    assert chosen_ms(order, free_s=(0.0, 0.0)) == 60.0


@pytest.mark.parametrize(("narrowest_ms", "believed"), [(50.0, 43.0), (90.0, 90.0)])
def test_a_narrower_plan_is_not_given_up_for_a_prediction_that_is_a_little_too_dark(
    narrowest_ms: float, believed: float
) -> None:
    ladder, costs = make_ladder((82.0, 60.0, 43.0, 40.0)), Costs()
    for rung, milliseconds in zip(ladder.rungs, (82.0, 60.0, 43.0, narrowest_ms)):
        for _ in range(300):
            costs.observe([rung], milliseconds / 1e3)
    menu = Menu(costs, narrows=True)
    assert menu.seconds(ladder)[-1] == pytest.approx(believed / 1e3, rel=0.1)
    quickest = menu.within(ladder, 0.0)
    assert quickest == (3 if believed == 43.0 else 2)


def test_without_narrowing_it_is_always_the_plan_asked_for() -> None:
    assert chosen_ms([make_ticket(LADDER, within_s=0.03)], narrows=False) == 80.0


def test_under_overload_room_is_left_for_those_to_come() -> None:
    alone = [make_ticket(LADDER, within_s=0.24)]
    assert chosen_ms(alone, load=2.0) < chosen_ms(alone, load=0.9) == 80.0


def test_a_request_without_a_deadline_is_not_narrowed_for_those_to_come() -> None:
    assert chosen_ms([make_ticket(LADDER)], load=5.0) == 80.0


def test_requests_without_deadlines_are_narrowed_when_their_patience_would_end() -> None:
    assert chosen_ms([make_ticket(LADDER, patience_s=1.0) for _ in range(30)]) < 80.0


def test_no_batch_where_it_is_not_cheaper() -> None:
    order = [make_ticket(ONE_ENCODER) for _ in range(4)]
    assert len(decide(order, max_batch=4).tickets) == 1
    assert len(decide(order, max_batch=4, costs=costs_with({2: 0.99, 3: 0.99, 4: 0.99})).tickets) == 1


def test_the_batch_of_least_cost_per_image_is_made() -> None:
    order = [make_ticket(ONE_ENCODER) for _ in range(6)]
    costs = costs_with({2: 0.8, 3: 0.7, 4: 0.9, 5: 0.9, 6: 0.9})
    batch = decide(order, max_batch=8, costs=costs)
    assert len(batch.tickets) == 3
    assert batch.seconds == pytest.approx(3 * 0.08 * 0.7)


def test_a_batch_holds_no_more_than_it_may() -> None:
    order = [make_ticket(ONE_ENCODER) for _ in range(6)]
    assert len(decide(order, max_batch=2, costs=costs_with({n: 1 / n for n in range(2, 7)})).tickets) == 2


def test_a_batch_keeps_every_members_deadline() -> None:
    """Two at once take 120 ms, one after the other the first is answered after 80."""
    order = [make_ticket(ONE_ENCODER, within_s=0.1), make_ticket(ONE_ENCODER, within_s=1.0)]
    assert len(decide(order, max_batch=2, costs=costs_with({2: 0.75})).tickets) == 1


def test_other_encoders_are_passed_over() -> None:
    other = make_ladder([80.0])
    order = [make_ticket(ONE_ENCODER), make_ticket(other), make_ticket(ONE_ENCODER)]
    batch = decide(order, max_batch=4, costs=costs_with({2: 0.5, 3: 0.4}))
    assert batch.tickets == (order[0], order[2])


@settings(max_examples=150, deadline=None)
@given(
    slacks=st.lists(st.one_of(st.none(), st.floats(0.001, 2.0)), min_size=1, max_size=20),
    load=st.floats(0.0, 20.0),
    runners=st.integers(1, 4),
    max_batch=st.integers(1, 8),
)
def test_a_choice_is_always_made_and_always_from_the_tickets_own_ladder(
    slacks: list[float | None], load: float, runners: int, max_batch: int
) -> None:
    ladders = [LADDER, ONE_ENCODER]
    order = [make_ticket(ladders[place % 2], within_s=slack) for place, slack in enumerate(slacks)]
    costs = costs_with(dict.fromkeys(range(2, 9), 0.9))
    batch = decide(order, load=load, free_s=[0.0] * runners, max_batch=max_batch, costs=costs)
    assert batch.tickets[0] is order[0]
    assert 1 <= len(batch.tickets) <= max_batch
    assert all(rung in ticket.ladder.rungs for ticket, rung in zip(batch.tickets, batch.rungs))
    assert len({rung.group for rung in batch.rungs}) == 1
    assert batch.seconds > 0


@settings(max_examples=100, deadline=None)
@given(slack_s=st.floats(0.01, 0.5), more_s=st.floats(0.0, 0.5), behind=st.integers(0, 8))
def test_more_time_never_means_a_narrower_plan(slack_s: float, more_s: float, behind: int) -> None:
    short = [make_ticket(LADDER, within_s=slack_s) for _ in range(behind + 1)]
    longer = [make_ticket(LADDER, within_s=slack_s + more_s) for _ in range(behind + 1)]
    assert chosen_ms(longer) >= chosen_ms(short)
