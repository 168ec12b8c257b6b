"""Simulated overload: what is promised, in figures. The bundled model's plans, one thread each on two runners."""

from __future__ import annotations

import pytest

from slimpath.service.settings import SchedulerSettings
from slimpath.tests.service.scheduler.simulation import (
    NANO_MS,
    Report,
    Simulation,
    gamma_times,
    make_ladder,
    make_ticket,
)

FULL_S, NARROWEST_S = NANO_MS[0] / 1e3, NANO_MS[-1] / 1e3
RUNNERS = 2
SECONDS = 30.0
CAPACITY = RUNNERS / FULL_S
PATIENT = SchedulerSettings(max_batch=1, per_client_limit=100_000)


def offer(times_capacity: float, settings: SchedulerSettings = PATIENT, *, cv2: float = 2.0, seed: int = 0) -> Report:
    """A bursty trace with deadlines of three times the full plan."""
    ladder = make_ladder()
    times = gamma_times(times_capacity * CAPACITY, SECONDS, cv2=cv2, seed=seed)
    tickets = [make_ticket(ladder, now_s=time, within_s=3 * FULL_S) for time in times]
    return Simulation(settings, runners=RUNNERS, seed=seed).run(tickets)


def test_without_overload_nearly_all_is_in_time_and_mostly_wide() -> None:
    report = offer(0.6)
    assert report.attainment >= 0.99
    assert report.mean_cost_ms >= 0.9 * NANO_MS[0]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_at_twice_the_capacity_19_of_20_are_in_time(seed: int) -> None:
    assert offer(2.0, seed=seed).attainment >= 0.95


def test_narrowing_answers_1_7_times_as_many_as_the_full_plan_with_the_same_admission() -> None:
    pinned = SchedulerSettings(max_batch=1, per_client_limit=100_000, pinned_full_width=True)
    assert len(offer(2.0).in_time) >= 1.7 * len(offer(2.0, pinned).in_time)


def test_first_in_first_out_collapses_where_narrowing_does_not() -> None:
    fifo = SchedulerSettings(fifo=True)
    assert len(offer(2.0, fifo).in_time) <= 0.2 * len(offer(2.0).in_time)


def test_at_ten_times_the_capacity_goodput_stays_at_its_peak() -> None:
    peak = max(len(offer(times).in_time) for times in (1.5, 2.0, 3.0, 5.0))
    assert len(offer(10.0).in_time) >= 0.9 * peak


def test_more_load_means_narrower_plans() -> None:
    costs_ms = [offer(times).mean_cost_ms for times in (0.6, 1.3, 2.0)]
    assert costs_ms == sorted(costs_ms, reverse=True)
    assert costs_ms[2] < 0.6 * costs_ms[0]


def test_what_is_accepted_is_hardly_ever_late() -> None:
    for times in (1.0, 2.0, 10.0):
        report = offer(times, cv2=4.0)
        assert len(report.late) <= 0.03 * (report.offered - len(report.refused))


def test_everybody_gets_an_answer_of_one_kind() -> None:
    for settings in (PATIENT, SchedulerSettings(fifo=True), SchedulerSettings(queue_limit=3)):
        report = offer(3.0, settings)
        assert len(report.in_time) + len(report.late) + len(report.refused) == report.offered


def test_after_the_overload_plans_are_wide_again() -> None:
    ladder = make_ladder()
    burst = [make_ticket(ladder, now_s=t, within_s=3 * FULL_S) for t in gamma_times(3 * CAPACITY, 10.0, cv2=2.0)]
    calm = [
        make_ticket(ladder, now_s=20.0 + t, within_s=3 * FULL_S) for t in gamma_times(0.4 * CAPACITY, 10.0, cv2=1.0)
    ]
    simulation = Simulation(PATIENT, runners=RUNNERS)
    report = simulation.run([*burst, *calm])
    in_burst = sum(ticket.arrived_s < 15 for ticket in report.in_time)
    assert min(report.costs_ms[in_burst + 10 :]) >= 0.8 * NANO_MS[0]


def test_a_device_that_becomes_slower_is_noticed() -> None:
    """From the tenth second on everything takes half as long again: predictions follow, and few are late."""
    ladder = make_ladder()
    times = gamma_times(0.9 * CAPACITY, SECONDS, cv2=1.0)
    simulation = Simulation(
        PATIENT,
        runners=RUNNERS,
        service_s=lambda batch, now_s: (batch.rungs[0].plan.latency_ms or 0.0) / 1e3 * (1.5 if now_s > 10 else 1.0),
    )
    report = simulation.run([make_ticket(ladder, now_s=t, within_s=3 * FULL_S) for t in times])
    assert report.attainment >= 0.97
    assert simulation.desk.costs.alone_s(ladder.bottom) == pytest.approx(1.5 * NARROWEST_S, rel=0.15)


def test_too_dark_predictions_are_put_right_although_everything_is_refused() -> None:
    """Ten times too slow at first: nothing seems possible, until a probe shows that it is."""
    ladder = make_ladder()
    simulation = Simulation(PATIENT)
    for rung in ladder.rungs:
        simulation.desk.costs.observe([rung], 10 * (rung.plan.latency_ms or 0.0) / 1e3)
    tickets = [make_ticket(ladder, now_s=t * 0.2, within_s=3 * FULL_S) for t in range(300)]
    report = simulation.run(tickets)
    assert all(ticket in report.in_time for ticket in tickets[200:])


def test_retry_after_is_when_the_queue_has_room_again() -> None:
    """Whoever comes back after the time it was told is accepted, if nobody else came meanwhile."""
    ladder = make_ladder()
    simulation = Simulation(PATIENT)
    burst = [make_ticket(ladder, now_s=0.0, within_s=3 * FULL_S) for _ in range(20)]
    report = simulation.run(burst)
    assert report.refused
    retry_s = max(report.retries_s)
    assert 0 < retry_s < 3 * FULL_S
    again = Simulation(PATIENT)
    later = make_ticket(ladder, now_s=retry_s, within_s=3 * FULL_S)
    assert (
        later in again.run([*[make_ticket(ladder, now_s=0.0, within_s=3 * FULL_S) for _ in range(20)], later]).in_time
    )
