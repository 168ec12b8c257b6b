"""The experts of GPU graphs: the same function as the network's, with shapes that the routing does not change."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from slimpath.export.errors import ExportError
from slimpath.export.gpu.experts import UnitMajorExperts, gpu_experts, gpu_route
from slimpath.export.gpu.lowering import BLOCKS, LOWERINGS, block_count, block_size
from slimpath.export.gpu.precision import to_float16
from slimpath.export.graphs import trace
from slimpath.models.dispatch import dispatch_reference
from slimpath.models.moe import SlimExperts, route

TOKENS, DIM, HIDDEN, EXPERTS, RANKS = 37, 8, 6, 5, 2


class Routed(nn.Module):
    """Experts alone, fed with a routing."""

    def __init__(self, experts: SlimExperts) -> None:
        super().__init__()
        self.encoder = UnitMajorExperts(experts)

    def forward(self, tokens: Tensor, expert: Tensor, weight: Tensor) -> Tensor:
        stacked = self.encoder
        return gpu_experts(tokens, expert, weight, stacked.up, stacked.up_bias, stacked.down, stacked.down_bias)


def random_experts(dim: int, hidden: int, count: int) -> SlimExperts:
    torch.manual_seed(0)
    experts = SlimExperts(dim, hidden, count)
    for parameter in experts.parameters():
        nn.init.normal_(parameter, std=0.3)
    return experts


def graph_of(experts: SlimExperts, tokens: int, ranks: int) -> ir.Model:
    dim = experts.up[0].shape[1]
    example = {
        "tokens": torch.zeros(tokens, dim),
        "expert": torch.zeros(tokens, ranks, dtype=torch.int32),
        "weight": torch.zeros(tokens, ranks),
    }
    return trace(Routed(experts), example, ["out"], dynamic={name: {} for name in example}, lowerings=LOWERINGS)


def session_of(graph: ir.Model) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(ir.to_proto(graph).SerializeToString(), providers=["CPUExecutionProvider"])


def reference(experts: SlimExperts, tokens: np.ndarray, expert: np.ndarray, weight: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        chosen = torch.from_numpy(expert).long()
        return dispatch_reference(
            torch.from_numpy(tokens), chosen, torch.from_numpy(weight), *experts.views(1.0)
        ).numpy()


EXPERT_SET = random_experts(DIM, HIDDEN, EXPERTS)


@pytest.fixture(scope="module")
def session() -> onnxruntime.InferenceSession:
    return session_of(graph_of(EXPERT_SET, TOKENS, RANKS))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), favourite=st.integers(-1, EXPERTS - 1))
def test_any_routing_gives_the_sum_over_ranks(session: onnxruntime.InferenceSession, seed: int, favourite: int) -> None:
    """Also where all tokens visit one expert, and others nobody."""
    generator = np.random.default_rng(seed)
    expert = np.argsort(generator.random((TOKENS, EXPERTS)), axis=1)[:, :RANKS].astype(np.int32)
    if favourite >= 0:
        expert[:, 0], expert[:, 1] = favourite, (favourite + 1) % EXPERTS
    weight = generator.random((TOKENS, RANKS), dtype=np.float32)
    tokens = generator.normal(size=(TOKENS, DIM)).astype(np.float32)
    (answer,) = session.run(None, {"tokens": tokens, "expert": expert, "weight": weight})
    np.testing.assert_allclose(np.asarray(answer), reference(EXPERT_SET, tokens, expert, weight), atol=1e-5)


def test_float16_counts_exactly_beyond_2048_pairs() -> None:
    """float16 skips whole numbers there: a graph that counted in it sends tokens to wrong places."""
    experts, tokens, ranks = random_experts(4, 3, 3), 1500, 2
    graph = graph_of(experts, tokens, ranks)
    to_float16(graph)
    generator = np.random.default_rng(0)
    expert = np.argsort(generator.random((tokens, 3)), axis=1)[:, :ranks].astype(np.int32)
    weight = generator.random((tokens, ranks), dtype=np.float32)
    inputs = generator.normal(size=(tokens, 4)).astype(np.float32)
    (answer,) = session_of(graph).run(None, {"tokens": inputs, "expert": expert, "weight": weight})
    np.testing.assert_allclose(np.asarray(answer), reference(experts, inputs, expert, weight), atol=2e-2)


def test_no_shape_depends_on_the_routing_and_nothing_waits_for_the_host() -> None:
    graph = graph_of(EXPERT_SET, TOKENS, RANKS).graph
    assert not {node.op_type for node in graph} & {"NonZero", "If", "Loop", "Scan", "CumSum", "ScatterND", "Unique"}
    for node in graph:
        for value in node.outputs:
            assert value.shape is not None and all(isinstance(axis, int) for axis in value.shape), node.op_type
            assert value.dtype != ir.DataType.INT64, node.op_type


@given(pairs=st.integers(1, 50_000), experts=st.integers(1, 64), data=st.data())
@settings(max_examples=200, deadline=None)
def test_there_are_always_enough_blocks(pairs: int, experts: int, data: st.DataObject) -> None:
    block = block_size(pairs, experts)
    assert block in BLOCKS
    cuts = sorted(data.draw(st.lists(st.integers(0, pairs), min_size=experts - 1, max_size=experts - 1)))
    counts = np.diff([0, *cuts, pairs])
    assert sum(-(-int(count) // block) for count in counts) <= block_count(pairs, experts, block)


def test_narrow_stacks_are_prefixes_and_the_same_experts() -> None:
    wide, narrow = UnitMajorExperts(EXPERT_SET), UnitMajorExperts(EXPERT_SET)
    narrow.narrow_(0.5)
    rows = narrow.up.shape[0]
    assert rows == 3 * EXPERTS
    torch.testing.assert_close(narrow.up, wide.up[:rows])
    for expert in range(EXPERTS):
        torch.testing.assert_close(narrow.up[expert::EXPERTS], EXPERT_SET.up[expert][:3])
        torch.testing.assert_close(narrow.down[expert::EXPERTS], EXPERT_SET.down[expert][:3])
        torch.testing.assert_close(narrow.up_bias[expert::EXPERTS], EXPERT_SET.up_bias[expert][:3])


class Router(nn.Module):
    def __init__(self, top_k: int, renormalised: bool, floor: float) -> None:
        super().__init__()
        self.settings = top_k, renormalised, floor

    def forward(self, tokens: Tensor, router: Tensor, router_bias: Tensor) -> tuple[Tensor, Tensor]:
        return gpu_route(tokens, router, router_bias, *self.settings)


@pytest.mark.parametrize(("mode", "floor"), [("softmax_topk", 0.0), ("renormalised", 0.0), ("softmax_topk", 0.2)])
def test_routes_like_the_network_with_ruled_out_experts_too(mode: str, floor: float) -> None:
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randn(2, 7, DIM, generator=generator)
    inputs = {
        "tokens": tokens,
        "router": torch.randn(2, DIM, EXPERTS, generator=generator),
        "router_bias": torch.tensor([[0.0, -torch.inf, 0.0, 0.1, 0.2], [0.3, 0.0, 0.0, -torch.inf, 0.0]]),
    }
    module = Router(2, mode == "renormalised", floor)
    graph = trace(module, inputs, ["expert", "weight"], dynamic={name: {} for name in inputs}, lowerings=LOWERINGS)
    to_float16(graph)  # changes nothing in a router
    answers = session_of(graph).run(None, {name: value.numpy() for name, value in inputs.items()})
    expected = route(*inputs.values(), torch.tensor([2, 2]), 2, mode, 0.0, floor)  # type: ignore[arg-type]
    np.testing.assert_array_equal(np.asarray(answers[0]), expected.expert_BNK.numpy())
    np.testing.assert_allclose(np.asarray(answers[1]), expected.weight_BNK.numpy(), atol=1e-6)


def test_a_batch_that_could_not_be_counted_exactly_is_refused() -> None:
    with pytest.raises(Exception) as caught:  # the exporter wraps what a lowering raises
        graph_of(random_experts(2, 1, 2), 140_000, 2)
    causes = [str(caught.value)]
    error: BaseException | None = caught.value
    while error is not None:
        causes.append(str(error))
        if isinstance(error, ExportError):
            break
        error = error.__cause__
    assert any("too many for one graph" in text for text in causes)
