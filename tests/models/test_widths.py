"""Nested widths: how many units are kept, and which widths are the same."""

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpath.models import ConfigError
from slimpath.models.widths import check_widths, kept, merged_widths

quick = settings(max_examples=200, deadline=None, derandomize=True, database=None)
units = st.integers(1, 4096)
hundredths = st.integers(1, 100)


@quick
@given(units, hundredths)
def test_kept_is_the_exact_ceiling_of_the_decimal_share(count: int, percent: int) -> None:
    # Fractions know no rounding: a width of 0.07 is 7/100, although the float is a little more.
    assert kept(count, percent / 100) == max(1, math.ceil(Fraction(percent, 100) * count))


@quick
@given(units, st.integers(1, 4096))
def test_kept_gives_back_the_units_a_share_was_made_of(count: int, wanted: int) -> None:
    wanted = min(wanted, count)
    assert kept(count, wanted / count) == wanted


@quick
@given(units, hundredths, hundredths)
def test_kept_grows_with_the_width(count: int, one: int, other: int) -> None:
    small, large = sorted((one, other))
    assert 1 <= kept(count, small / 100) <= kept(count, large / 100) <= count
    assert kept(count, 1.0) == count


@pytest.mark.parametrize(("width", "count", "expected"), [(0.1, 30, 3), (0.07, 100, 7), (0.57, 100, 57), (0.25, 3, 1)])
def test_float_noise_keeps_no_extra_unit(width: float, count: int, expected: int) -> None:
    assert kept(count, width) == expected


@pytest.mark.parametrize("width", [0.0, -0.5, 1.0001, float("nan"), float("inf")])
def test_width_outside_0_to_1_is_refused_with_its_value(width: float) -> None:
    with pytest.raises(ConfigError, match=rf"\(0, 1\], got {width}"):
        kept(8, width)


def test_layer_without_units_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1 unit, got 0"):
        kept(0, 0.5)


def test_check_widths_sorts_and_drops_repeats() -> None:
    assert check_widths([1, 0.5, 0.25, 0.5]) == (0.25, 0.5, 1.0)


@pytest.mark.parametrize("widths", [(), (0.25, 0.5)])
def test_widths_without_the_full_model_are_refused(widths: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="must include 1"):
        check_widths(widths)


def test_check_widths_refuses_a_width_above_1() -> None:
    with pytest.raises(ConfigError, match=r"got 1\.5"):
        check_widths([1.0, 1.5])


def test_equal_widths_are_merged_into_the_smallest_and_the_full_one_stays() -> None:
    # 3 heads keep 1, 2, 3, 3 of them: .75 equals 1, which stays because it is the full model.
    assert merged_widths((0.25, 0.5, 0.75, 1.0), (3,)) == (0.25, 0.5, 1.0)
    # 2 units keep 1, 1, 2, 2.
    assert merged_widths((0.25, 0.5, 0.75, 1.0), (2,)) == (0.25, 1.0)
    assert merged_widths((0.25, 0.5, 1.0), (1,)) == (1.0,)


def test_widths_that_differ_in_any_layer_are_not_merged() -> None:
    assert merged_widths((0.25, 0.5, 0.75, 1.0), (3, 128)) == (0.25, 0.5, 0.75, 1.0)


@quick
@given(st.sets(hundredths, max_size=6), st.lists(st.integers(1, 12), min_size=1, max_size=3))
def test_merged_widths_reach_every_configuration_exactly_once(percents: set[int], counts: list[int]) -> None:
    widths = sorted({percent / 100 for percent in percents} | {1.0})
    configurations = [tuple(kept(count, width) for count in counts) for width in merged_widths(widths, counts)]
    assert len(configurations) == len(set(configurations))
    assert set(configurations) == {tuple(kept(count, width) for count in counts) for width in widths}
