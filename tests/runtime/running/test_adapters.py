"""Adapters of a batch's rows: the right task's, the right prefix, and what is wrong with them is said."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from slimpath.runtime.errors import WeightsError
from slimpath.runtime.running.adapters import Adapters

TENSORS = {
    "a.down": np.arange(12, dtype=np.float32).reshape(4, 3),
    "a.up": np.arange(6, dtype=np.float32).reshape(2, 3) + 100,
    "b.down": -np.arange(12, dtype=np.float32).reshape(4, 3),
    "b.up": -np.arange(6, dtype=np.float32).reshape(2, 3) - 100,
}


def bundle() -> Any:
    encoder = SimpleNamespace(adapters={"a": ("a.down", "a.up"), "b": ("b.down", "b.up")})
    return SimpleNamespace(manifest=SimpleNamespace(encoder=encoder), tensor=TENSORS.__getitem__)


def graph(*rows: int) -> Any:
    return SimpleNamespace(adapter_rows=rows)


def test_rows_bring_their_tasks_adapters_in_order() -> None:
    stacked = Adapters(bundle()).stack(graph(4, 2), ["b", "a", "b"])
    assert stacked.shape == (3, 18) and stacked.dtype == np.float32
    np.testing.assert_array_equal(stacked[1], [*range(12), *range(100, 106)])
    np.testing.assert_array_equal(stacked[0], -stacked[1])
    np.testing.assert_array_equal(stacked[2], stacked[0])


def test_narrow_graph_gets_the_prefix() -> None:
    adapters = Adapters(bundle())
    np.testing.assert_array_equal(adapters.stack(graph(2, 2), ["a"])[0], [*range(6), *range(100, 106)])
    assert adapters.stack(graph(4, 2), ["a"]).shape == (1, 18)  # the other width is not mixed up with it


def test_same_pattern_is_stacked_once() -> None:
    adapters = Adapters(bundle())
    assert adapters.stack(graph(4, 2), ["a", "b"]) is adapters.stack(graph(4, 2), ["a", "b"])


def test_tensor_that_is_too_short_is_named() -> None:
    with pytest.raises(WeightsError, match=r"adapter 'a\.down' must have at least 5 rows, got the shape \[4, 3\]"):
        Adapters(bundle()).stack(graph(5, 2), ["a"])
