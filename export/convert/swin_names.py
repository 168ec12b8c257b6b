"""What checkpoints of Swin have in common, whoever wrote them."""

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ...models.swin_config import STAGES
from ...models.swin_layers import relative_index
from ..errors import ConvertError
from .changes import transposed
from .source import count_numbered, shape_of
from .table import Rule
from .vit_names import block_rules


def swin_rules(backbone: str = "", linear: str = "") -> tuple[Rule, ...]:
    """The backbone's table; `linear` is what stands between a layer's name and `.weight`."""
    block, ours = f"{backbone}layers.{{stage}}.blocks.{{block}}", "encoder.stages.{stage}.blocks.{block}"
    recomputed = "computed anew from the window's size"
    return (
        Rule(f"{backbone}patch_embed.proj.{{part}}", "encoder.patch_embed.{part}"),
        Rule(f"{backbone}patch_embed.norm.{{part}}", "encoder.embed_norm.{part}"),
        *block_rules(block, ours, linear),
        Rule(f"{block}.attn.relative_position_bias_table", f"{ours}.attn.bias_table", transposed, "transposed"),
        Rule(f"{block}.attn.relative_position_index", None, None, recomputed),
        Rule(f"{block}.attn_mask", None, None, recomputed),
        Rule(f"{backbone}layers.{{stage}}.downsample.norm.{{part}}", "encoder.stages.{stage}.merge.norm.{part}"),
        Rule(f"{backbone}layers.{{stage}}.downsample.reduction.weight", "encoder.stages.{stage}.merge.reduction"),
    )


def read_shape(
    tensors: Mapping[str, Tensor], backbone: str, source: Path
) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """Blocks and heads of every stage, and the side of the windows, from the bias tables.

    Raises:
        ConvertError: there are not four stages, or a table is missing or no table.
    """
    stages = count_numbered(tensors, f"{backbone}layers.")
    if stages != STAGES:
        raise ConvertError(f"{source} must have {STAGES} stages, got {stages}")
    depths, heads, window = [], [], 0
    for stage in range(STAGES):
        depths.append(count_numbered(tensors, f"{backbone}layers.{stage}.blocks."))
        name = f"{backbone}layers.{stage}.blocks.0.attn.relative_position_bias_table"
        entries, count = shape_of(tensors, name, 2, source)
        side = (math.isqrt(entries) + 1) // 2
        if (2 * side - 1) ** 2 != entries:
            raise ConvertError(f"{source}: '{name}' must have (2 x window - 1)^2 rows, got {entries}")
        heads.append(count)
        window = max(window, side)
    return tuple(depths), tuple(heads), window


def index_is_ours(tensors: Mapping[str, Tensor], source: Path) -> None:
    """Make sure that stored index tables say what is computed here.

    Raises:
        ConvertError: one differs, so that positions would be mixed up.
    """
    for name, value in tensors.items():
        if name.endswith(".attn.relative_position_index"):
            window = math.isqrt(value.shape[0]) if value.ndim == 2 else 0
            if not window or value.shape != (window**2, window**2) or not torch.equal(value, relative_index(window)):
                raise ConvertError(f"{source}: '{name}' numbers the positions in a way that is not known")
