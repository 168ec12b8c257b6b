"""Calls that do not end are told from a process that stood still."""

from __future__ import annotations

import threading

import pytest

from slimpath.service.scheduler.choice import Batch
from slimpath.service.scheduler.fleet import Fleet
from slimpath.service.scheduler.watchdog import Watchdog
from slimpath.tests.service.scheduler.simulation import make_ticket


def at_work(*runners: int, of: int = 2) -> Fleet:
    fleet = Fleet(of)
    for runner in runners:
        ticket = make_ticket()
        fleet.begin(runner, Batch((ticket,), (ticket.ladder.top,), 0.08), 0.0)
    return fleet


def test_a_call_is_overdue_after_the_limit_and_told_once() -> None:
    fleet = at_work(0)
    assert not fleet.overdue(29.0, 30.0)
    assert [runner for runner, _ in fleet.overdue(31.0, 30.0)] == [0]
    assert not fleet.overdue(32.0, 30.0)
    assert (fleet.hung, fleet.busy) == (1, 0)


def test_a_hung_runner_is_not_counted_on() -> None:
    fleet = at_work(0)
    fleet.overdue(31.0, 30.0)
    assert fleet.free_s(31.0) == [31.0]
    assert fleet.end(0) is not None
    assert fleet.free_s(31.0) == [31.0, 31.0]
    assert fleet.hung == 0


def test_time_in_which_the_process_stood_still_is_no_calls_fault() -> None:
    fleet = at_work(0)
    fleet.forgive(600.0)
    assert not fleet.overdue(610.0, 30.0)
    assert fleet.overdue(631.0, 30.0)


def test_what_was_forgiven_belongs_to_the_call_alone() -> None:
    fleet = at_work(0)
    fleet.forgive(600.0)
    fleet.end(0)
    ticket = make_ticket()
    fleet.begin(0, Batch((ticket,), (ticket.ladder.top,), 0.08), 700.0)
    assert fleet.overdue(731.0, 30.0)


def test_a_lost_runner_never_comes_back() -> None:
    fleet = at_work(0, 1)
    assert len(fleet.lose(0)) == 1
    assert fleet.hung == 1
    assert fleet.tickets() == list(fleet._batches[1].tickets)


@pytest.mark.parametrize(("step_s", "least_s"), [(0.01, 0.0), (100.0, 99.0)])
def test_a_look_that_comes_late_says_so(step_s: float, least_s: float) -> None:
    now_s, told, done = [0.0], [], threading.Event()

    def clock() -> float:
        now_s[0] += step_s
        return now_s[0]

    def look(stood_still_s: float) -> None:
        told.append(stood_still_s)
        done.set()

    watchdog = Watchdog(0.08, look, clock=clock)
    watchdog.start()
    assert done.wait(30)
    watchdog.stop()
    watchdog.stop()
    assert least_s <= told[0] <= max(step_s, least_s)
    assert (told[0] == 0.0) == (least_s == 0.0)
