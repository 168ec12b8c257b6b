"""Shares of clients, priorities, and that nobody starves."""

from __future__ import annotations

from slimpath.service.scheduler.fairness import MAX_IDLE, Shares
from slimpath.service.scheduler.waiting import Waiting
from slimpath.service.settings import SchedulerSettings
from slimpath.tests.service.scheduler.simulation import Simulation, gamma_times, make_ladder, make_ticket

PLAIN = make_ladder([50.0])


def waiting(*tickets_of: tuple[str, int, float]) -> Waiting:
    """Tickets of (client, priority, deadline)."""
    queue = Waiting(aging_s=2.0, fair_share_s=0.1)
    for client, priority, within_s in tickets_of:
        queue.add(make_ticket(PLAIN, client=client, priority=priority, within_s=within_s))
    return queue


def test_earliest_deadline_goes_first() -> None:
    queue = waiting(("a", 0, 3.0), ("b", 0, 1.0), ("c", 0, 2.0))
    assert [ticket.client for ticket in queue.order(0.0)] == ["b", "c", "a"]


def test_higher_priority_goes_before_earlier_deadlines() -> None:
    queue = waiting(("a", 0, 1.0), ("b", 1, 3.0))
    assert [ticket.client for ticket in queue.order(0.0)] == ["b", "a"]


def test_low_priority_rises_while_it_waits() -> None:
    queue = waiting(("old", 0, 60.0))
    queue.add(make_ticket(PLAIN, now_s=10.0, client="new", priority=4, within_s=1.0))
    assert [ticket.client for ticket in queue.order(10.0)] == ["old", "new"]


def test_low_priority_is_answered_however_much_of_high_priority_comes() -> None:
    simulation = Simulation(SchedulerSettings(max_batch=1, degrade=False, queue_limit=1000, per_client_limit=10_000))
    steady = [make_ticket(PLAIN, now_s=0.04 * n, priority=5) for n in range(1500)]
    low = make_ticket(PLAIN, now_s=1.0, priority=0)
    report = simulation.run([*steady, low])
    assert report.waits_s[id(low)] < 20.0


def test_a_client_that_had_more_than_its_share_goes_after_those_that_wait() -> None:
    queue = waiting(("greedy", 0, 1.0), ("modest", 0, 2.0))
    queue.shares.charge("greedy", 0.2)
    assert [ticket.client for ticket in queue.order(0.0)] == ["modest", "greedy"]


def test_a_client_alone_gets_everything() -> None:
    queue = waiting(("greedy", 0, 2.0), ("greedy", 0, 1.0))
    queue.shares.charge("greedy", 100.0)
    assert [ticket.due_s for ticket in queue.order(0.0)] == [1.0, 2.0]


def test_pauses_are_not_saved_up() -> None:
    shares = Shares(0.1)
    shares.enter("always")
    shares.enter("sometimes")
    shares.leave("sometimes")
    shares.charge("always", 50.0)
    shares.enter("sometimes")
    shares.charge("sometimes", 0.2)
    assert shares.had_share() == {"sometimes"}


def test_accounts_of_many_clients_are_forgotten() -> None:
    shares = Shares(0.1)
    for number in range(3 * MAX_IDLE):
        shares.enter(f"client {number}")
        shares.charge(f"client {number}", 0.01)
        shares.leave(f"client {number}")
    assert len(shares._used_s) <= 2 * MAX_IDLE


def test_a_modest_client_is_answered_beside_one_that_sends_ten_times_what_can_be_done() -> None:
    ladder = make_ladder([50.0, 25.0])
    greedy = [make_ticket(ladder, now_s=t, within_s=0.3, client="greedy") for t in gamma_times(200, 20.0, cv2=1.0)]
    modest = [
        make_ticket(ladder, now_s=t, within_s=0.3, client="modest") for t in gamma_times(8, 20.0, cv2=1.0, seed=1)
    ]
    simulation = Simulation(SchedulerSettings(max_batch=1, per_client_limit=10_000))
    report = simulation.run([*greedy, *modest])
    assert report.of("modest") >= 0.95 * len(modest)
    assert report.of("greedy") >= 0.8 * (20.0 / 0.025 - len(modest))


def test_two_greedy_clients_get_equal_parts_whoever_sends_more() -> None:
    ladder = make_ladder([50.0, 25.0])
    some = [make_ticket(ladder, now_s=t, within_s=0.3, client="some") for t in gamma_times(60, 20.0, cv2=1.0)]
    more = [make_ticket(ladder, now_s=t, within_s=0.3, client="more") for t in gamma_times(400, 20.0, cv2=1.0, seed=1)]
    simulation = Simulation(SchedulerSettings(max_batch=1, per_client_limit=10_000))
    report = simulation.run([*some, *more])
    assert 0.75 <= report.of("some") / report.of("more") <= 1.33


def test_nobody_gives_way_to_a_client_that_has_as_much() -> None:
    queue = waiting(("a", 0, 1.0), ("a", 0, 1.0), ("b", 0, 1.0))
    assert queue.greediest("b", 0) is None
    assert queue.greediest("a", 0) is None
    assert queue.greediest("c", 0) is queue.all()[1]


def test_nobody_of_higher_priority_gives_way() -> None:
    queue = waiting(("a", 1, 1.0), ("a", 0, 1.0), ("a", 1, 1.0))
    assert queue.greediest("b", 0) is queue.all()[1]
    assert waiting(("a", 1, 1.0), ("a", 1, 1.0)).greediest("b", 0) is None
