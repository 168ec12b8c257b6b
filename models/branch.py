"""Branches of tasks (Agiza et al. 2024, MTLoRA): low-rank products beside big ones that all tasks share.

Axes: I images, B rows (an image with one task), N tokens, D channels, T tokens of all images, U kept units.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from .adapters import RowAdapters
from .shared import Parts, SharedMlp, joined
from .thin import ThinNorm, ThinRows, rows_of, rows_times

#: What a row's task adds beside a product (`proj`, `fc1` or `fc2`), of what goes into that product.
Own = Callable[[str, Tensor], Tensor]


class Branching(Protocol):
    """What a block must have: its second norm and its feed-forward part, the end of its attention, and whether
    branches see a product with the shared adapter."""

    norm2: Any
    mlp: Any
    site: str
    task_scale: float

    def project(self, mixed_TU: Tensor) -> Parts: ...

    def seen(self, parts: Parts) -> Tensor: ...


def branch(
    block: Branching,
    tokens_IND: Tensor,
    before_BND: Tensor | None,
    mixed_TU: Tensor,
    index_B: Tensor,
    own: Own,
    width: float,
) -> tuple[Tensor, Tensor]:
    """A block's shared path, and the branch of every row: all big products once per image.

    Args:
        before_BND: Where the branches stood; they begin here if nothing is given.
        mixed_TU: What the heads of the shared path gathered.
        index_B: Which image each row works on.
    """
    shape, mlp = tokens_IND.shape, block.mlp
    assert isinstance(mlp, SharedMlp)
    projected = block.project(mixed_TU)
    seen_IND = block.seen(projected).reshape(shape)
    shared = tokens_IND + joined(projected).reshape(shape)
    if before_BND is None:
        rows = (tokens_IND + seen_IND).index_select(0, index_B)
    else:
        rows = before_BND + seen_IND.index_select(0, index_B)
    rows = rows + own("proj", mixed_TU.reshape(*shape[:2], -1).index_select(0, index_B))

    lifted = mlp.lift(block.norm2(shared).flatten(0, 1), width)
    lifted_BNU = block.seen(lifted).reshape(*shape[:2], -1).index_select(0, index_B)
    hidden_BNU = F.gelu(lifted_BNU + own("fc1", block.norm2(rows)))
    lowered = mlp.lower(F.gelu(joined(lifted)))
    rows = rows + block.seen(lowered).reshape(shape).index_select(0, index_B) + own("fc2", hidden_BNU)
    return shared + joined(lowered).reshape(shape), rows


def thin_branch(
    block: Branching, tokens_IND: Tensor, mixed_TU: Tensor, index_B: Tensor, adapters: RowAdapters, width: float
) -> tuple[Tensor, ThinRows]:
    """`branch`, begun here, whose rows are not made: the same but for rounding, with less to read and write per row."""
    shape, mlp, scale = tokens_IND.shape, block.mlp, block.task_scale
    assert isinstance(mlp, SharedMlp)
    (down_proj, up_proj), (down_1, up_1), (down_2, up_2) = (
        adapters.of(f"{block.site}_{name}") for name in ("proj", "fc1", "fc2")
    )
    projected = block.project(mixed_TU)
    shared, seen = (tokens_IND + part.reshape(shape) for part in (joined(projected), block.seen(projected)))
    thin_BNR = rows_times(mixed_TU.reshape(*shape[:2], -1), index_B, down_proj) * scale
    begun = ThinRows(seen, thin_BNR, up_proj.transpose(1, 2), index_B)

    lifted = mlp.lift(block.norm2(shared).flatten(0, 1), width)
    lifted_BNU = rows_of(block.seen(lifted).reshape(*shape[:2], -1), index_B)
    changed_BNR = ThinNorm(begun, block.norm2).own(down_1) * scale
    hidden_BNU = F.gelu(lifted_BNU + torch.matmul(changed_BNR, up_1.transpose(1, 2)))
    lowered = mlp.lower(F.gelu(joined(lifted)))
    base = seen + block.seen(lowered).reshape(shape)
    thin = torch.cat([begun.thin_BNR, torch.matmul(hidden_BNU, down_2) * scale], dim=2)
    wide = torch.cat([begun.wide_BRD, up_2.transpose(1, 2)], dim=1)
    return shared + joined(lowered).reshape(shape), ThinRows(base, thin, wide, index_B)
