"""ONNX lowering of `slimpath::expert_ffn`: 16 experts are some 75 nodes a layer, exact, no token dropped.

Axes: T tokens, K ranks, D embedding, E experts, P = T*K (token, rank) pairs.

One NonZero over [E+1, P] lists the pairs expert by expert; gather their tokens by counts, one feed-forward per expert,
concatenate, gather back by the inverse permutation, weigh and sum over ranks. Row E collects the pairs of nobody
(ranks beyond a row's top_k), which cost a copy and no arithmetic. The inverse comes from ScatterElements with unique
indices: a reducing ScatterND over repeated indices races on ONNX Runtime's CPU threads.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from onnxscript import opset20

from ..models.dispatch import expert_ffn_op  # noqa: F401  importing it registers the operator
from ..models.thin import one_or_all  # noqa: F401  the same

#: Untyped: its methods are annotated for eager tensors, here they take and give symbolic values.
op: Any = opset20
FLOAT, INT32, INT64 = (kind.value for kind in (ir.DataType.FLOAT, ir.DataType.INT32, ir.DataType.INT64))
#: From this dimension on every expert gathers its own tokens.
GATHER_APART = 256


def expert_ffn_to_onnx(
    tokens_TD: Any,
    expert_TK: Any,
    weight_TK: Any,
    up: Sequence[Any],
    up_bias: Sequence[Any],
    down: Sequence[Any],
    down_bias: Sequence[Any],
    *,
    counted_in: int = FLOAT,
) -> Any:
    """Build the nodes; called by the exporter with symbolic values.

    Args:
        counted_in: what the tokens of an expert are summed in. fp32 is exact up to 2^24 of them, and ONNX Runtime sums
            it faster than integers, but a library that computes in bf16
            rounds it: `runtime/backends/openvino_model.py` keeps bundles from that, nobody a graph that left home.
    """
    experts, ranks = len(up), int(expert_TK.shape[1])
    flat_1P = op.Reshape(expert_TK, op.Constant(value_ints=[1, -1]))
    experts_E1 = op.Constant(value=ir.tensor(np.arange(experts + 1, dtype=np.int64)[:, None]))
    chosen_EP = op.Equal(experts_E1, flat_1P)
    pair_P = op.Gather(op.NonZero(chosen_EP), op.Constant(value_int=1), axis=0)
    seen_EP = op.Cast(chosen_EP, to=counted_in)
    counts_E = op.Cast(op.ReduceSum(seen_EP, op.Constant(value_ints=[1]), keepdims=0), to=INT64)
    parts = _parts(tokens_TD, op.Div(pair_P, op.Constant(value_int=ranks)), counts_E, experts + 1)
    answers = []
    for part, up_UD, up_bias_U, down_UD, down_bias_D in zip(parts, up, up_bias, down, down_bias):
        hidden = op.Gelu(op.Gemm(part, up_UD, up_bias_U, transB=1))
        answers.append(op.Gemm(hidden, down_UD, down_bias_D))
    answers_PD = op.Concat(*answers, parts[experts], axis=0)
    one = op.Constant(value_int=1)
    place_P = op.ScatterElements(pair_P, pair_P, op.Range(op.Constant(value_int=0), op.Size(pair_P), one), axis=0)
    shape = op.Concat(op.Shape(expert_TK), op.Constant(value_ints=[-1]), axis=0)
    answers_TKD = op.Reshape(op.Gather(answers_PD, place_P, axis=0), shape)
    rank_axis = op.Constant(value_ints=[1])
    return op.Squeeze(op.MatMul(op.Unsqueeze(weight_TK, rank_axis), answers_TKD), rank_axis)


def expert_ffn_to_portable_onnx(*arguments: Any) -> Any:
    """`expert_ffn_to_onnx` for graphs that any library may run, in any precision."""
    return expert_ffn_to_onnx(*arguments, counted_in=INT32)


def _parts(tokens_TD: Any, token_P: Any, counts_E: Any, parts: int) -> Sequence[Any]:
    """The tokens of every expert, then those of nobody.

    Gathered together and split, the tokens are copied twice; gathered expert by expert they are copied once and still
    in the cache when the product reads them, but that takes a node more per expert. `benchmarks/tried.py` has figures:
    with 384 dimensions 2 % at width 0.25, none at full width. With 128 it was no faster.
    """
    # num_outputs tells the builder how many values to make; ONNX forbids it beside the counts, `slim.py` takes it off.
    if int(tokens_TD.shape[1]) < GATHER_APART:
        return op.Split(op.Gather(tokens_TD, token_P, axis=0), counts_E, axis=0, num_outputs=parts)
    return [op.Gather(tokens_TD, own_P, axis=0) for own_P in op.Split(token_P, counts_E, axis=0, num_outputs=parts)]


#: What `graphs.trace` is told for graphs that leave home.
PORTABLE = {torch.ops.slimpath.expert_ffn.default: expert_ffn_to_portable_onnx}


def one_or_all_to_onnx(index_B: Any, image_I: Any) -> Any:
    """The first entry alone if there is one image, else the index as it is."""
    one = op.Constant(value_ints=[1])
    single = op.Equal(op.Shape(image_I, start=0, end=1), one)
    end = op.Where(single, one, op.Shape(index_B))
    return op.Slice(index_B, op.Constant(value_ints=[0]), end, op.Constant(value_ints=[0]))
