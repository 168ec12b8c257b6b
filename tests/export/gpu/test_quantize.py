"""Codes of int8: symmetric, a scale per output, narrow widths are prefixes of the same codes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from slimpath.export.gpu.quantize import LIMIT, SMALLEST_SCALE, quantise, quantised_nodes, weight_codes
from slimpath.export.gpu.trace import Job, trace_job
from slimpath.models import MultiTaskModel
from slimpath.models.fold import folded

WEIGHTS = arrays(np.float32, (6, 5), elements=st.floats(-4, 4, width=32))


@settings(max_examples=100, deadline=None)
@given(full=WEIGHTS, rows=st.integers(1, 6), axis=st.integers(0, 1))
def test_narrow_codes_are_prefixes_and_near_the_weights(full: np.ndarray, rows: int, axis: int) -> None:
    wide, wide_scale = weight_codes(full, full, axis)
    codes, scale = weight_codes(full[:rows], full, axis)
    np.testing.assert_array_equal(codes, wide[:rows])
    np.testing.assert_array_equal(scale, wide_scale[:rows] if axis == 0 else wide_scale)
    assert codes.dtype == np.int8 and np.abs(codes.astype(int)).max() <= LIMIT
    spread = scale[:, None] if axis == 0 else scale[None]
    assert np.all(np.abs(codes * spread - full[:rows]) <= spread / 2 * 1.01)
    assert np.all(scale >= SMALLEST_SCALE)
    np.testing.assert_array_equal(scale, scale.astype(np.float16).astype(np.float32))  # float16 holds all of it


@pytest.mark.parametrize(("task", "least"), [(None, 12), ("depth", 3)])
def test_dense_products_are_quantised_and_experts_norms_and_pixels_are_not(
    moe_model: MultiTaskModel, task: str | None, least: int
) -> None:
    graph = trace_job(moe_model, Job((32, 32), 1.0, 2 if task is None else 0, task, 1, 1))
    nodes = quantised_nodes(graph)
    assert len(nodes) >= least
    for node in nodes:
        weight = node.inputs[1]
        assert node.op_type in ("Gemm", "Conv") and weight is not None
        assert ".experts." not in str(weight.name) and "depthwise" not in str(weight.name)
        assert node.inputs[0] not in set(graph.graph.inputs)


def test_a_weight_that_several_products_read_has_its_codes_once(make_model: Callable[..., MultiTaskModel]) -> None:
    model = folded(make_model("mtlora_micro"))  # the adapters that all tasks share
    graph = trace_job(model, Job(model.config.image_hw, 1.0, 0, None, 1, 2))
    nodes = quantised_nodes(graph)
    weights = [str(node.inputs[1].name) for node in nodes if node.inputs[1] is not None]
    assert len(set(weights)) < len(weights)
    full = {name: value.detach().numpy() for name, value in model.named_parameters()}
    quantise(graph, {str(node.inputs[0].name): 4.0 for node in nodes if node.inputs[0] is not None}, full)
    codes = [name for name in graph.graph.initializers if name.endswith(".int8")]
    assert sorted(codes) == sorted({f"{name}.int8" for name in weights})
    for node in nodes:
        made = [value.producer() for value in node.inputs[:2] if value is not None]
        assert [producer.op_type for producer in made if producer is not None] == ["DequantizeLinear"] * 2
