"""Shares of clients, priorities, and that nobody starves."""

from __future__ import annotations

import pytest

from slimpath.service.scheduler.fairness import MAX_IDLE, Shares
from slimpath.service.scheduler.waiting import Waiting
from slimpath.service.settings import HIGHEST_PRIORITY, LimitSettings, SchedulerSettings
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


def test_higher_priority_goes_before_earlier_deadlines_of_the_same_client() -> None:
    queue = waiting(("a", 0, 1.0), ("a", 1, 3.0))
    assert [ticket.job.priority for ticket in queue.order(0.0)] == [1, 0]


def test_priorities_leave_every_other_client_its_place() -> None:
    queue = waiting(("a", 0, 1.0), ("b", 0, 2.0), ("a", HIGHEST_PRIORITY, 3.0), ("b", -1, 1.5))
    found = [(ticket.client, ticket.job.priority) for ticket in queue.order(0.0)]
    assert found == [("a", HIGHEST_PRIORITY), ("b", 0), ("b", -1), ("a", 0)]


@pytest.mark.parametrize("newer", ["same", "other"])
def test_low_priority_rises_while_it_waits(newer: str) -> None:
    queue = waiting(("same", 0, 60.0))
    queue.add(make_ticket(PLAIN, now_s=10.0, client=newer, priority=4, within_s=1.0))
    assert [ticket.job.priority for ticket in queue.order(10.0)] == [0, 4]


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
    assert queue.greediest("b") is None
    assert queue.greediest("a") is None
    assert queue.greediest("c") is queue.all()[1]


def test_of_the_client_with_most_the_newest_of_its_lowest_priority_gives_way() -> None:
    queue = waiting(("a", 1, 1.0), ("a", 0, 1.0), ("a", 0, 1.0), ("a", 1, 1.0))
    assert queue.greediest("b") is queue.all()[2]


def test_a_high_priority_keeps_no_place_from_a_client_that_has_none() -> None:
    queue = waiting(("a", HIGHEST_PRIORITY, 1.0), ("a", HIGHEST_PRIORITY, 1.0))
    assert queue.greediest("b") is queue.all()[1]


def test_a_client_that_had_its_share_goes_after_the_others_whatever_its_priority() -> None:
    queue = waiting(("greedy", HIGHEST_PRIORITY, 1.0), ("modest", -HIGHEST_PRIORITY, 2.0))
    assert [ticket.client for ticket in queue.order(0.0)] == ["greedy", "modest"]
    queue.shares.charge("greedy", 0.2)
    assert [ticket.client for ticket in queue.order(0.0)] == ["modest", "greedy"]


@pytest.mark.parametrize("within_s", [0.3, None])
@pytest.mark.parametrize("priorities", [(-HIGHEST_PRIORITY, HIGHEST_PRIORITY), (HIGHEST_PRIORITY, -HIGHEST_PRIORITY)])
def test_priority_buys_no_larger_part_of_the_computing(within_s: float | None, priorities: tuple[int, int]) -> None:
    """Both send more than half of what can be done, one of them seven times as much, for twenty seconds."""
    ladder, (low, high) = make_ladder([50.0, 25.0]), priorities
    simulation = Simulation(SchedulerSettings(max_batch=1))
    some = [
        make_ticket(ladder, now_s=t, within_s=within_s, client="some", priority=low)
        for t in gamma_times(60, 20.0, cv2=1.0)
    ]
    more = [
        make_ticket(ladder, now_s=t, within_s=within_s, client="more", priority=high)
        for t in gamma_times(400, 20.0, cv2=1.0, seed=1)
    ]
    report = simulation.run([*some, *more])
    assert 0.75 <= report.of("some") / report.of("more") <= 1.33


def test_a_modest_client_of_low_priority_is_answered_beside_a_flood_of_the_highest() -> None:
    ladder = make_ladder([50.0, 25.0])
    flood = [
        make_ticket(ladder, now_s=t, within_s=0.3, client="flood", priority=HIGHEST_PRIORITY)
        for t in gamma_times(200, 20.0, cv2=1.0)
    ]
    modest = [
        make_ticket(ladder, now_s=t, within_s=0.3, client="modest") for t in gamma_times(8, 20.0, cv2=1.0, seed=1)
    ]
    report = Simulation(SchedulerSettings(max_batch=1)).run([*flood, *modest])
    assert report.of("modest") >= 0.95 * len(modest)


@pytest.mark.parametrize("client", ["same", "other"])
def test_the_lowest_priority_is_answered_before_requests_time_out(client: str) -> None:
    """Beside an endless stream of the highest; as the same client, and as another that had its share."""
    simulation = Simulation(SchedulerSettings(max_batch=1, degrade=False, queue_limit=5000, per_client_limit=10_000))
    steady = [make_ticket(PLAIN, now_s=0.05 * n, priority=HIGHEST_PRIORITY, client="same") for n in range(1400)]
    low = make_ticket(PLAIN, now_s=1.0, priority=-HIGHEST_PRIORITY, client=client)
    simulation.desk.waiting.shares.charge("other", 1e6)
    report = simulation.run([*steady, low])
    assert report.waits_s[id(low)] < 0.8 * LimitSettings().request_timeout_s
