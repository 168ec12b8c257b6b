"""Rows of any number, image and top_k, answered by engines of fixed batches as if by one graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpath.runtime.backends.gpu_selection import split
from slimpath.runtime.backends.gpu_session import GpuSession
from slimpath.runtime.bundles.gpu_spec import GpuGraphSpec, GpuPort
from slimpath.runtime.errors import BackendError


def encoder(images: int, rows: int, top_k: int, *, indexed: bool = True) -> GpuGraphSpec:
    inputs = [GpuPort("image", "float32", (images, 3, 4, 4))]
    if indexed:
        inputs += [GpuPort("image_index", "int32", (rows,)), GpuPort("router", "float32", (rows, 2))]
    outputs = GpuPort("tokens", "float32", (rows, 2)), GpuPort("detail", "float32", (images, 1))
    name = f"i{images}r{rows}k{top_k}"
    flops = 100 * rows * max(top_k, 1) + images
    return GpuGraphSpec(
        name, "encoder", (4, 4), 1.0, top_k, None, images, rows, "fp32", 1, "", 0, flops, tuple(inputs), outputs
    )


def head(rows: int) -> GpuGraphSpec:
    ports = (GpuPort("tokens", "float32", (rows, 2)),), (GpuPort("depth", "float32", (rows, 2)),)
    return GpuGraphSpec(f"r{rows}", "head", (4, 4), 1.0, 0, "depth", rows, rows, "fp32", 1, "", 0, rows, *ports)


class StubEngine:
    """Computes like `answer`, and takes nothing but the shapes and types of its graph."""

    buffer_bytes = 7

    def __init__(self, spec: GpuGraphSpec, runs: list[str]) -> None:
        self.spec, self.runs = spec, runs
        self.fed: list[dict[str, np.ndarray]] = []

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.runs.append(self.spec.file)
        self.fed.append(feeds)
        assert {port.name: port.shape for port in self.spec.inputs} == {n: v.shape for n, v in feeds.items()}
        if self.spec.kind == "head":
            return {"depth": feeds["tokens"] * 2}
        rows = self.spec.rows
        index = feeds.get("image_index", np.arange(rows, dtype=np.int32))
        assert index.dtype == np.int32
        router = feeds.get("router", np.zeros((rows, 2), np.float32))
        return answer(feeds["image"], index, router, [self.spec.top_k] * rows)

    def close(self) -> None:
        self.runs.append("closed")


def answer(image: np.ndarray, index: Any, router: np.ndarray, top_k: Any) -> dict[str, np.ndarray]:
    means = image.reshape(len(image), -1).mean(axis=1, dtype=np.float64)
    rows = [means[i] + 10 * k + router[row] for row, (i, k) in enumerate(zip(index, top_k))]
    return {"tokens": np.array(rows, np.float32), "detail": means.astype(np.float32)[:, None]}


def open_stubs(specs: list[GpuGraphSpec]) -> tuple[GpuSession, list[str], dict[str, StubEngine]]:
    runs: list[str] = []
    stubs: dict[str, StubEngine] = {}

    def make(spec: GpuGraphSpec) -> Any:
        stubs[spec.file] = StubEngine(spec, runs)
        return stubs[spec.file], 100

    return GpuSession(specs, make), runs, stubs


SPECS = [encoder(i, r, k) for k in (1, 2) for i, r in ((1, 1), (1, 5), (2, 4))]


@settings(max_examples=60, deadline=None)
@given(
    images=st.integers(1, 5),
    rows=st.lists(st.tuples(st.integers(0, 4), st.integers(1, 2)), min_size=1, max_size=13),
)
def test_every_row_gets_its_own_answer(images, rows):
    session, runs, _ = open_stubs(SPECS)
    index = np.array([image % images for image, _ in rows], np.int64)
    rng = np.random.default_rng(images)
    feeds = {
        "image": rng.standard_normal((images, 3, 4, 4)).astype(np.float32),
        "image_index": index,
        "router": rng.standard_normal((len(rows), 2)).astype(np.float32),
        "top_k": np.array([top_k for _, top_k in rows], np.int64),
    }
    found = session.run(feeds)
    wanted = answer(feeds["image"], index, feeds["router"], feeds["top_k"])
    np.testing.assert_array_equal(found["tokens"], wanted["tokens"])
    seen = sorted(set(index.tolist()))
    np.testing.assert_array_equal(found["detail"][seen], wanted["detail"][seen])
    assert found["detail"].shape == (images, 1) and len(runs) <= len(rows)


@settings(max_examples=30, deadline=None)
@given(index=st.lists(st.integers(0, 3), min_size=1, max_size=7))
def test_graph_without_an_index_gets_an_image_for_each_row(index):
    session, _, _ = open_stubs([encoder(n, n, 0, indexed=False) for n in (1, 3)])
    assert session.inputs == ("image", "image_index")
    image = np.random.default_rng(0).standard_normal((4, 3, 4, 4)).astype(np.float32)
    found = session.run({"image": image, "image_index": np.array(index, np.int64)})
    wanted = answer(image, index, np.zeros((len(index), 2), np.float32), [0] * len(index))
    np.testing.assert_array_equal(found["tokens"], wanted["tokens"])
    np.testing.assert_array_equal(found["detail"][index], wanted["detail"][index])


@pytest.mark.parametrize(("rows", "runs"), [(1, ["r1"]), (2, ["r2"]), (3, ["r2", "r1"]), (5, ["r2", "r2", "r1"])])
def test_head_of_any_number_of_rows_is_as_many_runs_as_it_takes(rows, runs):
    session, seen, _ = open_stubs([head(1), head(2)])
    tokens = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)
    np.testing.assert_array_equal(session.run({"tokens": tokens})["depth"], tokens * 2)
    assert seen == runs and session.inputs == ("tokens",) and session.outputs == ("depth",)


@pytest.mark.parametrize(
    ("top_k", "image_of_row", "files"),
    [
        ([1], [0], ["i1r1k1"]),
        ([1] * 4, [0] * 4, ["i2r4k1"]),  # fewest rows that hold them
        ([1] * 5, [0] * 5, ["i1r5k1"]),
        ([1] * 4, [0, 0, 1, 1], ["i2r4k1"]),
        ([1] * 6, [0] * 6, ["i1r5k1", "i1r1k1"]),
        ([1, 2, 1, 2], [0] * 4, ["i2r4k1", "i2r4k2"]),
    ],
)
def test_cheapest_graph_that_holds_the_rows_is_chosen(top_k, image_of_row, files):
    assert [chunk.spec.file for chunk in split(SPECS, top_k, image_of_row)] == files


def test_top_k_without_an_engine_is_named():
    session, _, _ = open_stubs([encoder(1, 1, 1)])
    feeds = {"image": np.zeros((1, 3, 4, 4), np.float32), "image_index": np.zeros(1, np.int64)}
    feeds |= {"router": np.zeros((1, 2), np.float32), "top_k": np.array([4])}
    with pytest.raises(BackendError, match="no engine of top_k 4 at this width; there are 1"):
        session.run(feeds)


def test_routers_of_the_same_tasks_are_the_same_object_so_that_the_device_keeps_them():
    session, _, stubs = open_stubs([encoder(1, 5, 1)])
    router = np.ones((3, 2), np.float32)
    feeds = {"image": np.zeros((1, 3, 4, 4), np.float32), "image_index": np.zeros(3, np.int64)}
    feeds |= {"router": router, "top_k": np.ones(3, np.int64)}
    session.run(feeds)
    session.run(feeds)
    first, second = (fed["router"] for fed in stubs["i1r5k1"].fed)
    assert first is not second  # it may have been changed in between
    router.setflags(write=False)
    session.run(feeds)
    session.run(feeds)
    session.run({**feeds, "router": router.copy()})
    third, fourth, fifth = (fed["router"] for fed in stubs["i1r5k1"].fed[2:])
    assert third is fourth and fourth is not fifth and not third.flags.writeable


def test_missing_input_and_closed_session_are_errors():
    session, runs, _ = open_stubs([head(1)])
    with pytest.raises(BackendError, match="wants the input 'tokens'; there are image"):
        session.run({"image": np.zeros(1)})
    session.load_first()
    assert session.memory_bytes() == 107
    session.close()
    session.close()
    assert runs == ["closed"] and session.memory_bytes() == 0
    with pytest.raises(BackendError, match="the session is closed"):
        session.run({"tokens": np.zeros((1, 2), np.float32)})


def test_first_engine_is_the_cheapest_of_the_largest_top_k():
    session, _, stubs = open_stubs(SPECS)
    session.load_first()
    assert list(stubs) == ["i1r1k2"]
