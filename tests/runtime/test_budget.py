from __future__ import annotations

import math

import numpy as np
import pytest

from slimpath.runtime.budget import Budget, parse_budget
from slimpath.runtime.errors import BudgetError


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
    ],
)
def test_every_form_is_read(request_, expected):
    assert parse_budget(request_) == expected


def test_read_budget_passes():
    budget = Budget(share=0.5)
    assert parse_budget(budget) is budget


@pytest.mark.parametrize("text", ["20ms", "20 ms", "0.5s", "300MB", "1 GiB", "50mJ", "2J", "5W", "15fps", "0.5,20ms"])
def test_measured_budget_says_that_it_needs_a_device_profile(text):
    with pytest.raises(BudgetError, match="needs a profile of this device, which this version does not measure yet"):
        parse_budget(text)


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


def test_decimal_comma_is_not_taken_for_two_budgets():
    with pytest.raises(BudgetError, match="two limits"):
        parse_budget("1,5GFLOPs")


@pytest.mark.parametrize("request_", [[0.5], {"share": 0.5}, object(), (1, 2)])
def test_budget_of_another_type_is_refused(request_):
    with pytest.raises(BudgetError, match="must be a number or a text, got"):
        parse_budget(request_)
