"""Names of the graphs' inputs and outputs: export writes them, the engine feeds and reads them.

Axes: I images, B rows, R rows of one task, N tokens (class token first), D dim, L MoE blocks, E experts.
A head's output is named like its task.
P is the number of numbers that a task's low-rank adapters hold.
"""

from __future__ import annotations

IMAGE = "image"  # float32 [I, 3, H, W], normalised
IMAGE_INDEX = "image_index"  # int64 [B], the image that each row works on
TOP_K = "top_k"  # int64 [B]
ROUTER = "router"  # float32 [B, L, D, E]
ROUTER_BIAS = "router_bias"  # float32 [B, L, E]
ADAPTER = "adapter"  # float32 [B, P], the low-rank adapters of each row's task, flat
TOKENS = "tokens"  # float32 [B, N, D] out of the encoder, [R, N, D] into a head
DETAIL = "detail"  # float32 [I, Cd, H/4, W/4] out of the encoder, [R, Cd, H/4, W/4] into a head


def level(number: int) -> str:
    """Tokens of a shallower resolution or of an earlier block, from backbones that give several: float32 [B, N, D],
    shallowest first."""
    return f"level_{number}"
