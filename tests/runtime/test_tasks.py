from __future__ import annotations

import math

import pytest

from slimpath.runtime.errors import TaskError
from slimpath.runtime.tasks import parse_tasks

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
