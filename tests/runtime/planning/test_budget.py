from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimpath.runtime.errors import BudgetError
from slimpath.runtime.planning.budget import Budget, parse_budget


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (None, Budget()),
        ("full", Budget()),
        (0.5, Budget(share=0.5, text="0.5")),
        (1, Budget(share=1.0, text="1")),
        (np.float32(0.25), Budget(share=0.25, text="0.25")),
        ("0.5", Budget(share=0.5, text="0.5")),
        (".5", Budget(share=0.5, text=".5")),
        ("30%", Budget(share=0.3, text="30%")),
        ("1.5GFLOPs", Budget(flops=1_500_000_000, text="1.5GFLOPs")),
        ("1.5 gflops", Budget(flops=1_500_000_000, text="1.5 gflops")),
        ("1.5e3 MFLOP", Budget(flops=1_500_000_000, text="1.5e3 MFLOP")),
        ("700MMACs", Budget(flops=1_400_000_000, text="700MMACs")),
        ("2 TMACs", Budget(flops=4_000_000_000_000, text="2 TMACs")),
        ("84816FLOPs", Budget(flops=84816, text="84816FLOPs")),
        ("width=0.5", Budget(width=0.5, text="width=0.5")),
        ("top_k=2", Budget(top_k=2, text="top_k=2")),
        ("decoder_width = 0.25", Budget(decoder_width=0.25, text="decoder_width = 0.25")),
        ("0.5, top_k=1", Budget(share=0.5, top_k=1, text="0.5, top_k=1")),
        ("1GMACs,width=0.5,top_k=2", Budget(None, 2_000_000_000, 0.5, None, 2, "1GMACs,width=0.5,top_k=2")),
        ("20ms", Budget(latency_ms=20.0, text="20ms")),
        ("0.02 s", Budget(latency_ms=20.0, text="0.02 s")),
        ("1500us", Budget(latency_ms=1.5, text="1500us")),
        ("300MB", Budget(memory_mb=300.0, text="300MB")),
        ("1 GiB", Budget(memory_mb=2**30 / 1e6, text="1 GiB")),
        ("50mJ", Budget(energy_mj=50.0, text="50mJ")),
        ("2J", Budget(energy_mj=2000.0, text="2J")),
        ("precision=int8", Budget(precision="int8", text="precision=int8")),
        ("min", Budget(cheapest=True, text="min")),
        ("min,top_k=1", Budget(cheapest=True, top_k=1, text="min,top_k=1")),
        (
            "20ms, 300MB,50mJ,1GFLOPs,0.5",
            Budget(0.5, 10**9, latency_ms=20, memory_mb=300, energy_mj=50, text="20ms, 300MB,50mJ,1GFLOPs,0.5"),
        ),
    ],
)
def test_every_form_is_read(request_, expected):
    assert parse_budget(request_) == expected


def test_read_budget_passes():
    budget = Budget(share=0.5)
    assert parse_budget(budget) is budget


@given(
    st.sampled_from(["us", "ms", "s", "kB", "MB", "GB", "KiB", "MiB", "GiB", "uJ", "mJ", "J"]),
    st.floats(1e-3, 1e6),
    st.sampled_from(["", " "]),
)
def test_measured_units_are_read_in_any_case(unit, number, space):
    read = [parse_budget(f"{number!r}{space}{text}") for text in (unit, unit.lower(), unit.upper())]
    values = [(b.latency_ms, b.memory_mb, b.energy_mj) for b in read]
    assert values[0] == values[1] == values[2] and sum(value is not None for value in values[0]) == 1


@pytest.mark.parametrize("text", ["0ms", "0.0MB", "0mJ", "1e300s"])
def test_limit_of_nothing_or_without_end_is_refused(text):
    with pytest.raises(BudgetError, match=r"must be above 0.*for example \"20ms\""):
        parse_budget(text)


def test_rate_is_refused_with_the_time_that_is_meant():
    with pytest.raises(BudgetError, match=r'is a rate; a budget is for one call; for 15 calls a second say "66.67ms"'):
        parse_budget("15fps")
    with pytest.raises(BudgetError, match=r'is a rate; .* for example "50mJ"'):
        parse_budget("5W")


def test_cheapest_within_a_limit_is_a_contradiction():
    with pytest.raises(BudgetError, match="asks for the cheapest and gives limits"):
        parse_budget("min,20ms")


@given(st.text(st.sampled_from("0123456789.,eE+-%=msMBJGFLOPfpswidth_kuC "), max_size=14))
def test_any_text_is_read_or_refused_with_a_hint(text):
    try:
        parse_budget(text)
    except BudgetError as error:
        assert error.hint


@pytest.mark.parametrize("text", ["", ",", "half", "1.5GFLOP,", "1.5XFLOPs", "GFLOPs", "=2", "depth=2", "1 2", "0.5.5"])
def test_unreadable_budget_shows_examples(text):
    with pytest.raises(BudgetError, match=r"cannot read .*budgets look like .*1\.5GFLOPs"):
        parse_budget(text)


@pytest.mark.parametrize("share", [0, -0.5, 1.5, 2, math.nan, math.inf, "0", "1.5", "0%", "120%"])
def test_share_outside_0_to_1_is_refused(share):
    with pytest.raises(BudgetError, match=r"must be above 0 and at most 1.*for FLOPs write the unit"):
        parse_budget(share)


def test_negative_share_in_a_text_is_refused():
    with pytest.raises(BudgetError, match=r"cannot read '-0.5'"):
        parse_budget("-0.5")


@pytest.mark.parametrize("text", ["0GFLOPs", "0.2 FLOPs", "1e300GFLOPs"])
def test_compute_that_is_nothing_or_endless_is_refused(text):
    with pytest.raises(BudgetError, match="at least 1 FLOP"):
        parse_budget(text)


@pytest.mark.parametrize("text", ["width=0", "width=1.5", "width=-1", "width=wide", "width=nan", "decoder_width=2"])
def test_malformed_width_is_refused(text):
    with pytest.raises(BudgetError, match=r"width must be above 0 and at most 1, got .*=0\.5"):
        parse_budget(text)


@pytest.mark.parametrize("text", ["top_k=0", "top_k=1.5", "top_k=-1", "top_k=all", "top_k=inf"])
def test_malformed_top_k_is_refused(text):
    with pytest.raises(BudgetError, match="top_k must be a whole number from 1 up"):
        parse_budget(text)


@pytest.mark.parametrize("text", ["width=0.5,width=1", "0.5,0.4", "1GFLOPs,2GMACs"])
def test_part_said_twice_is_refused(text):
    with pytest.raises(BudgetError, match="twice"):
        parse_budget(text)


@pytest.mark.parametrize("text", ["1,5GFLOPs", "1,5ms", "0,5", "12,5ms"])
def test_decimal_comma_is_not_taken_for_two_budgets(text):
    with pytest.raises(BudgetError, match=r"two limits|above 0 and at most 1"):
        parse_budget(text)


@pytest.mark.parametrize("request_", [[0.5], {"share": 0.5}, object(), (1, 2), True])
def test_budget_of_another_type_is_refused(request_):
    with pytest.raises(BudgetError, match="must be a number or a text, got"):
        parse_budget(request_)
