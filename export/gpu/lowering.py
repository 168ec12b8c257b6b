"""ONNX lowering of the experts for GPUs: every shape is fixed, whatever the routing is, and nothing waits for the host.

The (token, rank) pairs of every expert are padded up to whole blocks of `block` slots. At most (P + E * (block - 1)) //
block blocks exist; that many are computed. A block gathers the weights of its expert, and all blocks are one batched
product. What TensorRT lacks or does slowly is left out: CumSum takes no integers, and is a loop in early 10.x; here
the place of a pair among those of its expert comes from two small products with triangles of ones. These count in
float32, exactly: the factors are whole numbers up to 2048, which TF32 holds, and the sums stay below 2**24. Indices are
int32; TopK's int64 are cast at once. ScatterElements writes every slot at most once: a graph has one top-k, so no pair
belongs to nobody.

Axes: T tokens, K ranks, D embedding, E experts, P = T*K pairs, C chunks of CHUNK pairs, G blocks, S = G*block slots,
U hidden units kept.
"""

from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from onnxscript import opset20

from ..errors import ExportError
from .experts import gpu_experts, gpu_route  # noqa: F401  importing them registers the operators

#: Untyped: its methods are annotated for eager tensors, here they take and give symbolic values.
op: Any = opset20
FLOAT, INT32 = ir.DataType.FLOAT.value, ir.DataType.INT32.value
CHUNK = 64
EXACT = 2048  # whole numbers that TF32 and float16 hold without loss
BLOCKS = (16, 32, 64, 128)


def block_size(pairs: int, experts: int) -> int:
    """Slots of a block: the power of two at or above the mean number of pairs an expert gets, 16 to 128.

    Smaller blocks compute fewer empty slots, larger ones read an expert's weights fewer times.
    """
    return next((size for size in BLOCKS if size * experts >= pairs), BLOCKS[-1])


def block_count(pairs: int, experts: int, block: int) -> int:
    """Blocks that always suffice: every expert leaves at most block - 1 slots of its last block empty."""
    return min((pairs + experts * (block - 1)) // block, pairs)


def route_to_onnx(tokens_BND: Any, router_BDE: Any, bias_BE: Any, top_k: int, renormalised: bool, floor: float) -> Any:
    """Logits, softmax over all experts, the top k by logit; all of it stays float32 (`precision.py`)."""
    logits = op.Add(op.MatMul(tokens_BND, router_BDE), op.Unsqueeze(bias_BE, _axes(1)))
    probability = op.Softmax(logits, axis=-1)
    _, order = op.TopK(logits, _axes(top_k), axis=-1)
    expert = op.Cast(order, to=INT32)
    weight = op.GatherElements(probability, expert, axis=-1)
    if floor:
        weight = op.Where(op.Greater(weight, _float(floor)), weight, _float(0.0))
    if renormalised:
        weight = op.Div(weight, op.ReduceSum(weight, _axes(-1), keepdims=1))
    return expert, weight


def experts_to_onnx(
    tokens_TD: Any, expert_TK: Any, weight_TK: Any, up: Any, up_bias: Any, down: Any, down_bias_ED: Any
) -> Any:
    """Build the nodes; called by the exporter with symbolic values of fixed shape."""
    (tokens, ranks), dim, count = expert_TK.shape, int(tokens_TD.shape[1]), int(down_bias_ED.shape[0])
    pairs = int(tokens) * int(ranks)
    block = block_size(pairs, count)
    blocks = block_count(pairs, count, block)
    if max(blocks, pairs // CHUNK) >= EXACT or pairs >= 1 << 24:
        raise ExportError(f"{pairs} (token, expert) pairs are too many for one graph: take a smaller batch or size")
    slot_P, expert_G = _places(op.Reshape(expert_TK, _axes(pairs)), pairs, count, block, blocks)

    token_P = _int32(np.arange(pairs) // int(ranks))
    owner_S = op.ScatterElements(_zeros(blocks * block), slot_P, token_P, axis=0)
    tokens_GSD = op.Reshape(op.Gather(tokens_TD, owner_S, axis=0), _axes(blocks, block, dim))

    units = int(up.shape[0]) // count
    row_GU = op.Add(op.Unsqueeze(expert_G, _axes(1)), _int32(np.arange(units)[None] * count))
    bias_G1U = op.Unsqueeze(op.Gather(up_bias, row_GU, axis=0), _axes(1))
    up_GDU = op.Transpose(op.Gather(up, row_GU, axis=0), perm=[0, 2, 1])
    hidden = op.Gelu(op.Add(op.MatMul(tokens_GSD, up_GDU), bias_G1U))
    bias_G1D = op.Unsqueeze(op.Gather(down_bias_ED, expert_G, axis=0), _axes(1))
    answers = op.Add(op.MatMul(hidden, op.Gather(down, row_GU, axis=0)), bias_G1D)

    answers_TKD = op.Gather(
        op.Reshape(answers, _axes(blocks * block, dim)), op.Reshape(slot_P, _axes(tokens, ranks)), axis=0
    )
    return op.ReduceSum(op.Mul(answers_TKD, op.Unsqueeze(weight_TK, _axes(2))), _axes(1), keepdims=0)


def _places(expert_P: Any, pairs: int, experts: int, block: int, blocks: int) -> tuple[Any, Any]:
    """Slot of every pair, int32 [P], and expert of every block, int32 [G]."""
    chunks = -(-pairs // CHUNK)
    padded = op.Pad(expert_P, _axes(0, chunks * CHUNK - pairs), _int32(np.array(experts)))
    chosen = op.Cast(op.Equal(op.Unsqueeze(padded, _axes(0)), _int32(np.arange(experts)[:, None])), to=FLOAT)
    chosen_EC = op.Reshape(chosen, _axes(experts, chunks, CHUNK))
    within = op.MatMul(chosen_EC, _triangle(CHUNK, inclusive=True))
    totals_EC = op.ReduceSum(chosen_EC, _axes(2), keepdims=0)
    before = op.Unsqueeze(op.MatMul(totals_EC, _triangle(chunks, inclusive=False)), _axes(2))

    counts_1E = op.Unsqueeze(op.ReduceSum(totals_EC, _axes(1), keepdims=0), _axes(0))
    blocks_1E = op.Floor(op.Mul(op.Add(counts_1E, _float(block - 1)), _float(1 / block)))
    last_1E = op.MatMul(blocks_1E, _triangle(experts, inclusive=True))
    first_E11 = op.Reshape(op.Mul(op.Sub(last_1E, blocks_1E), _float(block)), _axes(experts, 1, 1))

    # Place in the expert, counted from 1; chosen is 1 for one expert of a pair, 0 for the others and the padding.
    place = op.Add(op.Add(within, before), op.Sub(first_E11, _float(1)))
    slot = op.Reshape(op.ReduceSum(op.Mul(chosen_EC, place), _axes(0), keepdims=0), _axes(chunks * CHUNK))
    slot_P = op.Cast(op.Slice(slot, _axes(0), _axes(pairs), _axes(0)), to=INT32)

    numbers_G1 = _floats(np.arange(blocks)[:, None])
    passed_G = op.ReduceSum(op.Cast(op.GreaterOrEqual(numbers_G1, last_1E), to=FLOAT), _axes(1), keepdims=0)
    return slot_P, op.Cast(op.Min(passed_G, _float(experts - 1)), to=INT32)


def _triangle(size: int, *, inclusive: bool) -> Any:
    """[size, size]: x @ this is the running sum of x, with or without the element itself. Made of two short constants:
    spelled out it would be a weight."""
    place = np.arange(size, dtype=np.float32)
    compare = op.LessOrEqual if inclusive else op.Less
    return op.Cast(compare(_floats(place[:, None]), _floats(place[None])), to=FLOAT)


def _axes(*values: int) -> Any:
    return op.Constant(value_ints=[int(value) for value in values])


def _int32(values: np.ndarray) -> Any:
    return op.Constant(value=ir.tensor(values.astype(np.int32)))


def _floats(values: np.ndarray) -> Any:
    return op.Constant(value=ir.tensor(values.astype(np.float32)))


def _float(value: float) -> Any:
    return op.Constant(value=ir.tensor(np.array(value, dtype=np.float32)))


def _zeros(size: int) -> Any:
    return op.Constant(value=ir.tensor(np.zeros(size, dtype=np.int32)))


LOWERINGS = {
    torch.ops.slimpath.gpu_route.default: route_to_onnx,
    torch.ops.slimpath.gpu_experts.default: experts_to_onnx,
}
