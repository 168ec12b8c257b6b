"""Vendor parameters -> tasks, budget, deadline, priority."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slimpath.runtime.errors import SlimpathError
from slimpath.runtime.planning.budget import parse_budget
from slimpath.runtime.tasks import parse_task_choice
from slimpath.service.settings import HIGHEST_PRIORITY
from slimpath.service.v2.parameters import VENDOR, Wishes, read_wishes

# A busy machine is slow, and that is no failure.
UNTIMED: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
KNOWN = ("semseg", "depth", "edge")
RESERVED = {
    "sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "headers", "binary_data_output",
}  # fmt: skip


def wishes(outputs: list[str] | None = None, **parameters: Any) -> Wishes:
    return read_wishes(parameters, outputs, KNOWN)


def test_nothing_asked_for_is_everything_at_full_width() -> None:
    assert wishes() == Wishes(None, None, None, 0, None, False)


def test_each_budget_means_what_its_name_says() -> None:
    asked = wishes(budget_ms=20, budget_mflops=1500, budget_mem_mb=300, budget_mj=50.5, width=0.5, top_k=2).budget
    budget = parse_budget(asked)
    assert (budget.latency_ms, budget.flops, budget.memory_mb, budget.energy_mj) == (20, 1_500_000_000, 300, 50.5)
    assert (budget.width, budget.top_k) == (0.5, 2)


def test_the_knobs_own_words_may_be_used_too() -> None:
    assert parse_budget(wishes(budget="20ms", width=1.0).budget).width == 1
    assert parse_budget(wishes(budget="0.5").budget).share == 0.5
    assert parse_budget(wishes(budget=0.5).budget).share == 0.5


def test_requested_outputs_select_the_tasks_in_their_order() -> None:
    assert list(parse_task_choice(wishes(["edge", "depth"]).tasks, KNOWN).preferences) == ["edge", "depth"]


def test_task_gives_preferences_and_floors_to_the_outputs() -> None:
    choice = parse_task_choice(wishes(["edge", "depth"], task="depth=2>=0.9").tasks, KNOWN)
    assert choice.preferences == {"edge": 1.0, "depth": 2.0}
    assert choice.floors == {"depth": 0.9}


def test_task_alone_selects_the_tasks() -> None:
    assert list(parse_task_choice(wishes(task="depth,edge").tasks, KNOWN).preferences) == ["depth", "edge"]


def test_quality_floor_holds_for_every_task_that_has_none_of_its_own() -> None:
    choice = parse_task_choice(wishes(task="depth>=0.9,edge", quality_floor=0.5).tasks, KNOWN)
    assert choice.floors == {"depth": 0.9, "edge": 0.5}
    assert parse_task_choice(wishes(quality_floor=0.5).tasks, KNOWN).floors == dict.fromkeys(KNOWN, 0.5)


def test_the_sooner_of_deadline_and_timeout_counts() -> None:
    assert wishes(deadline_ms=100, timeout=50_000).deadline_s == pytest.approx(0.05)
    assert wishes(deadline_ms="20").deadline_s == pytest.approx(0.02)
    assert wishes(timeout=0).deadline_s is None  # Triton's word for none


@pytest.mark.parametrize(("tritons", "ours"), [(0, 0), (1, 5), (2, 4), (5, 1), (6, 0), (1000, 0), ("1", 5), (1.0, 5)])
def test_priority_1_is_the_highest(tritons: Any, ours: int) -> None:
    assert wishes(priority=tritons).priority == ours


def test_texts_of_a_query_string_count_as_numbers_and_truths() -> None:
    found = wishes(width="0.5", strict="true", size="32x48")
    assert (found.budget, found.strict, found.size) == ("width=0.5", True, "32x48")


def test_sequence_parameters_and_unknown_ones_are_let_through() -> None:
    assert wishes(sequence_id=3, sequence_start=True, something="else") == wishes()


def test_no_name_of_ours_is_reserved_by_the_client() -> None:
    assert not RESERVED & set(VENDOR)
    assert not any(name.startswith("triton_") for name in VENDOR)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["1e999", "0.5", "depth"]),
)


@settings(**UNTIMED)
@given(
    st.dictionaries(st.sampled_from([*VENDOR, "priority", "timeout"]), VALUES),
    st.one_of(st.none(), st.lists(st.sampled_from(KNOWN), min_size=1, unique=True)),
)
def test_any_value_is_read_or_refused_with_a_sentence(parameters: dict[str, Any], outputs: list[str] | None) -> None:
    try:
        found = read_wishes(parameters, outputs, KNOWN)
        parse_task_choice(found.tasks, KNOWN)
        parse_budget(found.budget)
    except SlimpathError as error:
        assert len(str(error)) < 3000
    else:
        assert found.deadline_s is None or found.deadline_s > 0
        assert 0 <= found.priority <= HIGHEST_PRIORITY
