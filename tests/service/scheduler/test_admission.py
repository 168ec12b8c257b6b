"""Who is accepted, and what a check before decoding says."""

from __future__ import annotations

import pytest

from slimpath.service.scheduler.costs import Costs
from slimpath.service.scheduler.desk import EXPECTED_S, Desk
from slimpath.service.scheduler.errors import Refused, Unavailable
from slimpath.service.settings import HIGHEST_PRIORITY, SchedulerSettings
from slimpath.tests.service.scheduler.simulation import make_ladder, make_ticket

LADDER = make_ladder([80.0, 40.0])


def make_desk(**settings: int | bool) -> Desk:
    """One runner at work on something else for the next 40 ms."""
    desk = Desk(SchedulerSettings(**settings), Costs(), 1)  # type: ignore[arg-type]
    desk.accept(make_ticket(make_ladder([40.0])), 0.0)
    assert desk.take(0, 0.0).batch is not None
    return desk


def test_it_is_refused_if_it_would_be_late_behind_those_that_wait() -> None:
    desk = make_desk()
    for _ in range(3):
        desk.accept(make_ticket(LADDER, within_s=0.19), 0.0)  # 40 ms and three times 40 ms
    with pytest.raises(Refused, match="answered in 200 ms at the earliest") as refused:
        desk.accept(make_ticket(LADDER, within_s=0.2), 0.0)
    assert 0 < refused.value.retry_after_s < 0.1


def test_without_narrowing_full_plans_are_counted() -> None:
    desk = make_desk(degrade=False)
    desk.accept(make_ticket(LADDER, within_s=0.19), 0.0)
    with pytest.raises(Refused):
        desk.accept(make_ticket(LADDER, within_s=0.195), 0.0)


def test_it_is_refused_if_another_would_be_late_because_of_it() -> None:
    desk = make_desk()
    for _ in range(4):
        desk.accept(make_ticket(LADDER, within_s=0.23), 0.0)
    with pytest.raises(Refused, match="make others late"):
        desk.accept(make_ticket(LADDER, within_s=0.1), 0.0)


def test_a_higher_priority_may_make_the_clients_own_requests_late() -> None:
    desk = make_desk()
    for _ in range(4):
        desk.accept(make_ticket(LADDER, within_s=0.23), 0.0)
    desk.accept(make_ticket(LADDER, within_s=0.1, priority=1), 0.0)
    assert desk.counts["accepted"] == 6


def test_no_priority_makes_another_clients_accepted_requests_late() -> None:
    desk = make_desk()
    for number in range(4):
        desk.accept(make_ticket(LADDER, within_s=0.23, client=f"client {number}"), 0.0)
    with pytest.raises(Refused, match="make others late"):
        desk.accept(make_ticket(LADDER, within_s=0.1, priority=HIGHEST_PRIORITY, client="high"), 0.0)


def test_one_that_would_be_late_anyway_does_not_keep_others_out() -> None:
    desk = make_desk()
    late = make_ticket(LADDER, within_s=0.09)
    desk.accept(late, 0.0)
    late.due_s = 0.01
    desk.accept(make_ticket(LADDER, within_s=0.5), 0.0)
    assert desk.counts["accepted"] == 3


def test_a_request_without_a_deadline_waits_however_long() -> None:
    desk = make_desk()
    for number in range(100):
        desk.accept(make_ticket(LADDER, client=str(number)), 0.0)
    assert len(desk.waiting) == 100


def test_a_deadline_that_is_too_short_for_any_plan_says_so() -> None:
    with pytest.raises(
        Refused, match=r"its deadline leaves 30 ms, and its quickest plan takes 4\d ms; allow more time"
    ):
        make_desk().accept(make_ticket(LADDER, within_s=0.0305), 0.0)


def test_a_burst_that_is_checked_is_counted_before_it_comes() -> None:
    """Four would pass one by one if nobody counted those before; there is time for three."""
    desk = make_desk()
    passed = 0
    for _ in range(10):
        try:
            desk.check(make_ticket(LADDER, within_s=0.18), 0.0, 99)
            passed += 1
        except Refused:
            pass
    assert passed == 3
    assert desk.counts["refused"] == 7


def test_a_check_whose_request_never_came_is_forgotten() -> None:
    desk = make_desk()
    for _ in range(3):
        desk.check(make_ticket(LADDER, within_s=0.18), 0.0, 99)
    later_s = EXPECTED_S + 0.1
    desk.check(make_ticket(LADDER, now_s=later_s, within_s=0.18), later_s, 99)


def test_images_that_turned_out_to_be_none_keep_nobody_out() -> None:
    """Hundreds were checked, and nothing is being decoded any more."""
    desk = make_desk()
    for _ in range(300):
        desk.check(make_ticket(LADDER, within_s=5.0), 0.0, 0)
    desk.check(make_ticket(LADDER, within_s=0.18), 0.0, 0)
    with pytest.raises(Refused):
        desk.check(make_ticket(LADDER, within_s=0.18), 0.0, 99)


def test_a_job_is_not_taken_for_one_that_was_given_up_before_it() -> None:
    """Python gives the place of an object that is gone to the next one."""
    jobs = (make_ticket(LADDER).job.number for _ in range(100))
    assert len(set(jobs)) == 100


def test_a_checked_request_that_comes_is_not_counted_twice() -> None:
    desk = make_desk()
    for _ in range(3):
        ticket = make_ticket(LADDER, within_s=0.19)
        desk.check(ticket, 0.0, 99)
        ticket.due_s = 0.19
        desk.accept(ticket, 0.0)
    assert not desk._expected


def test_a_check_accepts_nothing() -> None:
    desk = make_desk()
    desk.check(make_ticket(LADDER, within_s=1.0), 0.0, 99)
    assert len(desk.waiting) == 0
    assert desk.counts["accepted"] == 1


def test_nobody_is_accepted_when_no_runner_answers() -> None:
    desk = make_desk()
    desk.fleet.overdue(100.0, 1.0)
    with pytest.raises(Unavailable):
        desk.accept(make_ticket(LADDER, now_s=100.0, within_s=1.0), 100.0)
    with pytest.raises(Unavailable):
        desk.check(make_ticket(LADDER, now_s=100.0, within_s=1.0), 100.0, 99)


def test_a_lone_request_is_held_for_company_only_where_that_pays() -> None:
    cheaper, dearer = Costs(lambda rung, images: 0.5), Costs(lambda rung, images: 1.1)
    held = []
    for costs in (cheaper, dearer):
        desk = Desk(SchedulerSettings(max_wait_ms=5.0), costs, 1)
        for number in range(20):
            desk.together.add(number * 0.05, 0.08)
        desk.accept(make_ticket(LADDER, now_s=1.0, within_s=1.0), 1.0)
        take = desk.take(0, 1.0)
        held.append(take.wait_s)
        later = desk.take(0, 1.006) if take.batch is None else take
        assert later.batch is not None
    assert held == [pytest.approx(0.005), None]


def offer(desk: Desk, *, within_s: float | None, apart: bool) -> None:
    """Twenty requests in each of four seconds, 1.6 times what can be done: one by one, or four at a time."""
    for number in range(80):
        now_s = number * 0.05
        desk.accept(make_ticket(LADDER, now_s=now_s, within_s=within_s), now_s)
        if apart or number % 4 == 3:
            while (take := desk.take(0, now_s + 0.006)).batch is not None:
                desk.finish(0, take.batch, take.batch.seconds)
                for ticket in take.batch.tickets:
                    desk.settled(ticket, "answered")


@pytest.mark.parametrize("within_s", [None, 5.0])
def test_the_load_is_of_all_requests_whether_they_have_deadlines_or_not(within_s: float | None) -> None:
    desk = Desk(SchedulerSettings(), Costs(), 1)
    offer(desk, within_s=within_s, apart=True)
    assert 1.2 < desk.arrivals.load(4.0) < 1.6


def test_requests_without_deadlines_do_not_make_those_with_narrower_once_they_are_answered() -> None:
    chosen_ms = []
    for within_s in (None, 5.0):
        desk = Desk(SchedulerSettings(), Costs(), 1)
        offer(desk, within_s=within_s, apart=True)
        desk.accept(make_ticket(LADDER, now_s=4.0, within_s=0.2), 4.0)
        batch = desk.take(0, 4.0).batch
        assert batch is not None
        chosen_ms.append(batch.rungs[0].plan.latency_ms)
    assert chosen_ms == [80.0, 40.0]


@pytest.mark.parametrize(("apart", "held_s"), [(False, 0.005), (True, None)])
def test_a_lone_request_without_a_deadline_is_held_where_others_came_together(
    apart: bool, held_s: float | None
) -> None:
    """A client that waits for each answer before it asks again is never held: nobody else will come."""
    desk = Desk(SchedulerSettings(max_wait_ms=5.0), Costs(lambda rung, images: 0.5), 1)
    offer(desk, within_s=None, apart=apart)
    desk.accept(make_ticket(LADDER, now_s=4.0), 4.0)
    assert desk.take(0, 4.0).wait_s == (held_s and pytest.approx(held_s))


def test_on_an_idle_server_nobody_is_held() -> None:
    desk = Desk(SchedulerSettings(max_wait_ms=5.0), Costs(lambda rung, images: 0.5), 1)
    desk.accept(make_ticket(LADDER, within_s=1.0), 0.0)
    assert desk.take(0, 0.0).batch is not None


def test_what_has_become_hopeless_is_not_computed() -> None:
    """It waited for a call that took ten times as long as expected."""
    desk = make_desk()
    hopeless, fine = make_ticket(LADDER, within_s=0.2), make_ticket(LADDER, within_s=2.0)
    desk.accept(hopeless, 0.0)
    desk.accept(fine, 0.0)
    take = desk.take(0, 0.19)
    assert take.late == [hopeless]
    assert take.batch is not None and take.batch.tickets == (fine,)
    assert desk.counts["late"] == 1
