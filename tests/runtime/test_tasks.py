from __future__ import annotations

import math

import pytest

from slimpath.runtime.errors import TaskError
from slimpath.runtime.tasks import TaskChoice, parse_task_choice, parse_tasks

KNOWN = ("semseg", "depth", "edge")


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (None, {"semseg": 1.0, "depth": 1.0, "edge": 1.0}),
        ("depth,edge", {"depth": 1.0, "edge": 1.0}),
        (" depth = 2 , edge ", {"depth": 2.0, "edge": 1.0}),
        (["edge", "depth=0.5"], {"edge": 1.0, "depth": 0.5}),
        (("semseg",), {"semseg": 1.0}),
        ({"depth": 2, "edge": 0}, {"depth": 2.0, "edge": 0.0}),
    ],
)
def test_every_way_of_naming_tasks_is_read_in_its_order(request_, expected):
    assert list(parse_tasks(request_, KNOWN).items()) == list(expected.items())


@pytest.mark.parametrize(
    "request_",
    ["depth=2>=0.9,edge,semseg>=0.5", " depth = 2 >= 90% , edge, semseg >= .5", ["depth=2>=0.9", "edge", "semseg>=0.5"],
     {"depth": "2>=0.9", "edge": 1, "semseg": ">=0.5"}],
)  # fmt: skip
def test_floors_are_read_in_every_form(request_):
    expected = TaskChoice({"depth": 2.0, "edge": 1.0, "semseg": 1.0}, {"depth": 0.9, "semseg": 0.5})
    assert parse_task_choice(request_, KNOWN) == expected
    assert parse_tasks(request_, KNOWN) == expected.preferences


@pytest.mark.parametrize("floor", ["0", "1.1", "-1", "nan", "", "high", "120%", "0.9>=0.8"])
def test_floor_that_is_no_share_is_refused(floor):
    with pytest.raises(TaskError, match=r"the floor of task 'depth' must be above 0 and at most 1.*depth>=0\.9"):
        parse_task_choice(f"depth>={floor}", KNOWN)


@pytest.mark.parametrize("request_", [">=0.9", "=2>=0.9", {"depth": ""}, {"depth": "x>=0.9"}, "depth=>0.9"])
def test_malformed_wish_is_refused(request_):
    with pytest.raises(TaskError):
        parse_task_choice(request_, KNOWN)


def test_unknown_task_lists_the_known_ones():
    with pytest.raises(TaskError, match=r"unknown task 'segmentation'; this bundle has semseg, depth, edge"):
        parse_tasks("depth,segmentation", KNOWN)


@pytest.mark.parametrize("preference", [-1, math.nan, math.inf, "much", None, True])
def test_preference_that_is_no_weight_is_refused(preference):
    with pytest.raises(TaskError, match="preference of task 'depth' must be a number from 0 up"):
        parse_tasks({"depth": preference}, KNOWN)


@pytest.mark.parametrize("text", ["depth=-1", "depth=nan", "depth=", "depth=inf"])
def test_preference_in_a_text_is_checked_too(text):
    with pytest.raises(TaskError, match="preference"):
        parse_tasks(text, KNOWN)


def test_task_named_twice_is_refused():
    with pytest.raises(TaskError, match="'depth' is named twice"):
        parse_tasks("depth,edge,depth=2", KNOWN)


@pytest.mark.parametrize("request_", ["", "  ", [], {}])
def test_no_task_is_refused(request_):
    with pytest.raises(TaskError, match="no task was requested; name at least one of semseg"):
        parse_tasks(request_, KNOWN)


@pytest.mark.parametrize("request_", ["depth,", ",", "=2"])
def test_task_without_a_name_is_refused(request_):
    with pytest.raises(TaskError, match="without a name"):
        parse_tasks(request_, KNOWN)


def test_preferences_that_are_all_zero_are_refused():
    with pytest.raises(TaskError, match="every preference is 0"):
        parse_tasks({"depth": 0}, KNOWN)


@pytest.mark.parametrize("request_", [3, 1.5, [1], [None]])
def test_tasks_of_another_type_are_refused(request_):
    with pytest.raises(TaskError, match="must be a text"):
        parse_tasks(request_, KNOWN)
