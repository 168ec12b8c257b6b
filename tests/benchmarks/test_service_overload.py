"""The overload benchmark's yardstick: what a server of constant calls could have in time at best."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpath.tests.scripts import load_script

times = st.lists(st.integers(0, 20), min_size=1, max_size=7).map(sorted)


def best_of_all_choices(times_s: list[int], call_s: int, deadline_s: int) -> int:
    """By trying every set of requests on one runner."""
    for count in range(len(times_s), 0, -1):
        for chosen in combinations(times_s, count):
            free_s, late = 0, False
            for arrived_s in chosen:
                free_s = max(free_s, arrived_s) + call_s
                late = late or free_s > arrived_s + deadline_s
            if not late:
                return count
    return 0


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield load_script("service_overload", monkeypatch)


@settings(deadline=None)
@given(times, st.integers(1, 6), st.integers(1, 15))
def test_no_choice_of_requests_has_more_in_time(
    script: ModuleType, times_s: list[int], call_s: int, deadline_s: int
) -> None:
    share = script.ideal_share([float(time) for time in times_s], 1 / call_s, 1, deadline_s + 1e-9)
    assert share * len(times_s) == pytest.approx(best_of_all_choices(times_s, call_s, deadline_s))


def test_two_runners_answer_twice_as_much(script: ModuleType) -> None:
    pairs = [float(time) for time in range(20) for _ in range(2)]
    assert script.ideal_share(pairs, 2.0, 2, 1.0) == 1.0
    assert script.ideal_share(pairs, 1.0, 1, 1.0) == 0.5


def test_every_attempt_is_a_server_that_starts(script: ModuleType) -> None:
    from typer.testing import CliRunner

    from slimpath.cli.app import app

    for flags in script.ATTEMPTS.values():
        shown = CliRunner().invoke(app, ["serve", *flags, "--print-config"])
        assert shown.exit_code == 0, shown.output
