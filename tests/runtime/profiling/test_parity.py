from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpath.runtime.backends.base import Session
from slimpath.runtime.backends.ort import OrtBackend
from slimpath.runtime.bundles.bundle import Bundle
from slimpath.runtime.errors import BackendError
from slimpath.runtime.profiling import parity_cases
from slimpath.runtime.profiling.parity import TOLERANCE, BackendParity, check_backend
from slimpath.runtime.profiling.parity_cases import MIN_GAP, clear_case, example_plane, routing_gap, visited_experts

Change = Callable[[str, np.ndarray], np.ndarray]


class _Changed:
    """ONNX Runtime whose outputs come out changed."""

    name, version, threads, precisions = "changed", "1", 1, ("fp32",)

    def __init__(self, change: Change, precision: str = "fp32") -> None:
        self._change, self.precision = change, precision

    def load(self, graph: bytes, folder: Path, *, tier: Any = "packed") -> Session:
        session = OrtBackend(threads=1).load(graph, folder)
        run, change = session.run, self._change

        def changed(feeds: Mapping[str, np.ndarray], *, shrink: bool = False) -> dict[str, np.ndarray]:
            return {name: change(name, value) for name, value in run(feeds).items()}

        session.run = changed  # type: ignore[method-assign]
        return session


@pytest.fixture(scope="module")
def bundle(tiny_bundle) -> Bundle:
    return Bundle.open(tiny_bundle)


@pytest.fixture(scope="module")
def dense(dense_bundle) -> Bundle:
    return Bundle.open(dense_bundle)


def _check(bundle: Bundle, change: Change, precision: str = "fp32", **options: Any) -> BackendParity:
    return check_backend(bundle, _Changed(change, precision), reference=OrtBackend(threads=1), **options)


def test_equal_answers_pass_for_every_graph(bundle, dense):
    for each in (bundle, dense):
        result = _check(each, lambda _, value: value, scope="all")
        assert result.passed
        assert set(result.graphs) == {graph.file for graph in each.manifest.graphs}
        assert all(parity.max_abs_error == 0 and parity.max_abs_reference > 0 for parity in result.graphs.values())
        assert result.failures() == []


def test_ends_are_the_widest_and_the_narrowest_graphs_of_the_first_size(bundle):
    widest = _check(bundle, lambda _, value: value, scope="widest")
    assert {file.rpartition("-")[2] for file in widest.graphs} == {"w1.onnx"}
    ends = _check(bundle, lambda _, value: value, scope="ends")
    assert {file.split("-", 1)[1] for file in ends.graphs if "encoder" in file} == {"32x48-w1.onnx", "32x48-w0.5.onnx"}


@pytest.mark.parametrize(
    ("wrong", "change"),
    [
        ("encoder", lambda name, value: value + 2e-4 * max(1, np.abs(value).max()) * (name == "tokens")),
        ("head-normals", lambda name, value: value * (1.001 if name == "normals" else 1)),
        ("head-depth", lambda name, value: np.full_like(value, np.nan) if name == "depth" else value),
        ("head-scene", lambda name, value: value[:, :-1] if name == "scene" else value),
    ],
)
def test_one_wrong_output_fails_its_graphs_and_no_others(bundle, wrong, change):
    result = _check(bundle, change)
    assert not result.passed
    assert {file for file, parity in result.graphs.items() if not parity.passed} == {
        file for file in result.graphs if file.startswith(wrong)
    }
    assert all(line.startswith(wrong) for line in result.failures())
    assert len(result.failures()) == 2  # widest and narrowest


def test_rounding_within_the_tolerance_passes(bundle):
    result = _check(bundle, lambda _, value: value + 0.5 * TOLERANCE * max(1.0, float(np.abs(value).max())))
    assert result.passed


def test_below_fp32_whole_tasks_are_compared(bundle):
    rounded = _check(bundle, lambda _, value: value.astype(np.float16).astype(np.float32), "bf16")
    assert rounded.passed
    assert rounded.graphs == {}
    assert set(rounded.tasks) == {
        f"{task} 32x48 width {width}" for task in bundle.manifest.task_names for width in ("1", "0.5")
    }
    wrong = _check(bundle, lambda name, value: value * (1.05 if name == "depth" else 1), "bf16")
    assert not wrong.passed
    assert {line.split(" ")[0] for line in wrong.failures()} == {"depth"}


def test_answer_that_is_no_number_fails_below_fp32(bundle):
    result = _check(bundle, lambda name, value: value * (np.nan if name == "normals" else 1), "bf16")
    assert not result.passed
    assert any("is not a number" in line for line in result.failures())
    assert msgspec.json.decode(msgspec.json.encode(result), type=BackendParity) == result


def test_result_is_kept_in_a_profile_by_backend_and_precision(bundle):
    result = _check(bundle, lambda _, value: value)
    ((key, plain),) = result.to_profile().items()
    assert key == "changed/fp32"
    assert msgspec.convert(plain, BackendParity) == result
    assert (plain["passed"], plain["version"]) == (True, "1")
    assert plain["reference"].startswith("onnxruntime ")


def test_progress_counts_every_graph(bundle):
    told: list[tuple[str, int, int]] = []
    _check(bundle, lambda _, value: value, progress=lambda *step: told.append(step))
    assert [done for _, done, _ in told] == list(range(13))
    assert {total for *_, total in told} == {12}


class _Scripted:
    """A session whose scores are those of the next script line for all rows."""

    inputs, outputs = ("image", "image_index", "top_k", "router", "router_bias"), ("tokens", "scores")

    def __init__(self, script: Callable[[np.ndarray], np.ndarray]) -> None:
        self._script = script
        self.runs = 0

    def run(self, feeds: Mapping[str, np.ndarray], *, shrink: bool = False) -> dict[str, np.ndarray]:
        self.runs += 1
        scores = np.stack([self._script(feeds["image"][index]) for index in feeds["image_index"]])
        return {"tokens": np.zeros((len(scores), 2, 8), np.float32), "scores": scores}


def test_rows_take_images_on_which_their_routing_is_clear(bundle):
    first = example_plane((32, 48), 0)

    def script(plane: np.ndarray) -> np.ndarray:
        tie = 0.0 if np.array_equal(plane, first) else 1.0  # the first image routes unclearly between ranks 1 and 2
        return np.array([[5.0, 5.0 - tie, 1.0, 0.0]], np.float32)

    session: Any = _Scripted(script)
    case = clear_case(bundle, bundle.graph("encoder", (32, 48), 1.0), session, ["scores"])
    # top_k goes 1, 2, 1, 2, 1: rows with top_k 2 are clear on the first image, the others need the second.
    np.testing.assert_array_equal(case.feeds["top_k"], [1, 2, 1, 2, 1])
    np.testing.assert_array_equal(case.feeds["image_index"], [1, 0, 1, 0, 1])
    assert len(case.feeds["image"]) == 2
    assert case.min_gap == 1.0
    assert session.runs == 3


def test_routers_that_are_never_clear_are_an_error(bundle, monkeypatch):
    monkeypatch.setattr(parity_cases, "MAX_SEEDS", 3)
    session: Any = _Scripted(lambda _: np.zeros((1, 4), np.float32))
    with pytest.raises(BackendError, match="none of 3 images routes clearly"):
        clear_case(bundle, bundle.graph("encoder", (32, 48), 1.0), session, ["scores"])


@settings(deadline=None)
@given(data=st.data(), experts=st.integers(2, 6), top_k=st.integers(1, 6))
def test_gap_is_that_of_the_log_probabilities(data, experts, top_k):
    values = st.lists(st.floats(-4, 4, width=32), min_size=experts, max_size=experts)
    logits = np.array([[data.draw(values) for _ in range(3)]], np.float32)
    probabilities = np.exp(logits.astype(np.float64))
    probabilities /= probabilities.sum(axis=-1, keepdims=True)
    if top_k >= experts:
        assert routing_gap([logits], np.array([top_k]))[0] == np.inf
        return
    ordered = -np.sort(-np.log(probabilities), axis=-1)
    expected = (ordered[..., top_k - 1] - ordered[..., top_k]).min()
    for scores in (logits, probabilities.astype(np.float32)):
        gap = routing_gap([scores], np.array([top_k]))[0]
        assert gap == pytest.approx(expected, abs=1e-5)


def test_gap_is_the_smallest_of_all_blocks_and_rows_stay_apart():
    near, far = [[3.0, 3.0 - MIN_GAP / 2, 0.0]], [[3.0, 1.0, 0.0]]
    blocks = [np.array([far, far]), np.array([near, far])]
    gaps = routing_gap(blocks, np.array([1, 1]))
    assert gaps[0] < MIN_GAP < gaps[1] == pytest.approx(2.0)
    assert list(routing_gap([], np.array([1, 2]))) == [np.inf, np.inf]


def test_experts_ruled_out_leave_a_clear_gap():
    scores = np.array([[[1.0, 0.5, -np.inf, -np.inf]]])
    assert routing_gap([scores], np.array([2]))[0] == np.inf
    assert routing_gap([scores], np.array([3]))[0] == 0  # between two that are never visited: undecided


def test_visited_experts_are_a_set_in_order():
    scores = np.array([[[0.1, 0.9, 0.5], [0.5, 0.5, 0.4]]])
    np.testing.assert_array_equal(visited_experts(scores, 2), [[[1, 2], [0, 1]]])


def test_example_planes_depend_on_the_seed_alone():
    np.testing.assert_array_equal(example_plane((32, 48), 3), example_plane((32, 48), 3))
    assert not np.array_equal(example_plane((32, 48), 3), example_plane((32, 48), 4))
    assert example_plane((16, 16), 0).shape == (3, 16, 16)
