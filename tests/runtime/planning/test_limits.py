from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from slimpath.runtime.planning.budget import Budget, parse_budget
from slimpath.runtime.planning.limits import AXES, SUFFIX, Limit, limit_on, limits_of

UNLIMITED = {"full_flops": 1000}


@given(
    st.sampled_from(["share", "flops", "latency_ms", "memory_mb", "energy_mj"]),
    st.integers(1, 10**13),
    st.floats(1.0, 2.0),
    st.floats(0.3, 3.0),
)
@example("latency_ms", 1000000000001, 1.0, 1.0)
def test_named_limit_admits_what_it_was_named_for(name, steps, headroom, slowdown):
    """The text of an error can be typed back, and then fits."""
    around = {"full_flops": 2 * 10**13, "headroom": headroom, "slowdown": slowdown}
    (limit,) = limits_of(replace(Budget(), **{name: 1}), **around)
    (again,) = limits_of(parse_budget(limit.text_for(steps)), **around)
    assert again.most >= steps
    assert again.most <= max(steps * 1.002, steps + 20 * limit.per_unit / 1e4)  # and is not much more


def test_share_that_binary_fractions_put_just_below_a_flop_admits_it():
    (limit,) = limits_of(parse_budget("1.35e-12"), full_flops=2 * 10**13)
    assert limit.most == 27


def test_limits_come_in_order_and_with_their_text():
    limits = limits_of(parse_budget("50mJ,300MB,20ms,1GFLOPs,0.5"), **UNLIMITED)
    assert [(limit.axis, limit.most, limit.text) for limit in limits] == [
        ("flops", 500, "0.5"),
        ("flops", 10**9, "1000000000FLOPs"),
        ("latency_ms", 20_000_000, "20ms"),
        ("memory_mb", 300_000_000, "300MB"),
        ("energy_mj", 50_000_000, "50mJ"),
    ]


def test_time_is_divided_by_slowdown_and_headroom_and_nothing_else_is():
    budget = parse_budget("30ms,30MB,30mJ,30FLOPs")
    limits = {limit.axis: limit.most for limit in limits_of(budget, **UNLIMITED, headroom=1.5, slowdown=2.0)}
    assert limits == {"latency_ms": 10_000_000, "memory_mb": 30_000_000, "energy_mj": 30_000_000, "flops": 30}


def test_share_of_1_or_more_is_named_in_flops():
    share = Limit("flops", 1, "0.1", 1000, "")
    assert [share.text_for(steps) for steps in (123, 999, 1000, 1500)] == ["0.123", "0.999", "1000FLOPs", "1500FLOPs"]


def test_huge_limit_is_no_limit():
    assert limits_of(parse_budget("1e20GFLOPs"), **UNLIMITED)[0].most == 1 << 62


@pytest.mark.parametrize("axis", AXES)
def test_limit_on_an_axis_speaks_its_unit(axis):
    assert limit_on(axis, 5_000_000).text.endswith(SUFFIX[axis])
