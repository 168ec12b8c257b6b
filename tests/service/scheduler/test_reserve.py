"""What is kept free of a deadline for what comes after the engine."""

from __future__ import annotations

import pytest

from slimpath.service.scheduler.reserve import MAX_KINDS, Reserve


def test_nothing_is_kept_free_while_nothing_is_known() -> None:
    assert Reserve().seconds("png") == 0.0


def test_it_covers_what_answers_of_the_same_kind_needed() -> None:
    reserve = Reserve()
    for number in range(100):
        reserve.observe("png", 0.010 + 0.002 * (number % 2))
        reserve.observe("raw", 0.0005)
    assert 0.012 <= reserve.seconds("png") <= 0.015
    assert reserve.seconds("raw") == pytest.approx(0.0005, rel=0.1)


def test_the_number_of_kinds_is_bounded() -> None:
    reserve = Reserve()
    for number in range(2 * MAX_KINDS):
        reserve.observe(str(number), 1.0)
    assert reserve.seconds(str(2 * MAX_KINDS - 1)) == 0.0
    assert len(reserve._known) == MAX_KINDS


def test_a_broken_clock_teaches_nothing() -> None:
    reserve = Reserve()
    reserve.observe("png", float("nan"))
    reserve.observe("png", -1.0)
    assert reserve.seconds("png") == 0.0
