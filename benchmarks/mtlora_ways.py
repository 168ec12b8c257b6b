"""Ways to compute the branches of MTLoRA's tasks, for `mtlora_tasks.py`: what deploys, and what was tried beside it.

Each gives the same answers. They are put into the exporter's path for the length of one export.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from slimpath.models import branch as branches
from slimpath.models import swin, thin

#: What the table calls them, in its order.
WAYS = (
    "rows made, an image's values repeated for each",
    "rows made, an image's values broadcast",
    "rows not made, values repeated",
    "rows not made, values broadcast, tasks' matrices side by side",
    "rows not made, values broadcast (deploys)",
)


@contextmanager
def exported_as(way: str) -> Iterator[None]:
    """Inside, encoders are exported that way.

    Raises:
        ValueError: no such way.
    """
    if way not in WAYS:
        raise ValueError(f"way must be one of {WAYS}, got {way!r}")
    with ExitStack() as changes:
        if "rows made" in way:
            changes.enter_context(patch.object(swin, "thin_branch", _rows_made))
        if "repeated" in way:
            changes.enter_context(patch.object(swin, "one_or_all", lambda index_B, _: index_B))
        if "side by side" in way:
            for module in (thin, branches):
                changes.enter_context(patch.object(module, "rows_times", _side_by_side))
        yield


def _rows_made(block: Any, tokens: Tensor, mixed: Tensor, index_B: Tensor, adapters: Any, width: float) -> Any:
    """The branch with all that it writes per row: gathers, sums, a norm, and the product of the merging behind it."""

    def own(name: str, inputs: Tensor) -> Tensor:
        return adapters(f"{block.site}_{name}", inputs, block.task_scale)

    return branches.branch(block, tokens, None, mixed, index_B, own, width)


def _side_by_side(tensor_IND: Tensor, index_B: Tensor, matrix_BDQ: Tensor) -> Tensor:
    """One product of every image with the matrices of all rows side by side, of which each row takes its columns."""
    images, tokens, _ = tensor_IND.shape
    rows, dim, columns = matrix_BDQ.shape
    joined = matrix_BDQ.permute(1, 0, 2).reshape(dim, rows * columns)
    product = torch.matmul(tensor_IND.flatten(0, 1), joined).reshape(images, tokens, rows, columns)
    by_row = product.permute(2, 0, 1, 3).flatten(0, 1)
    return by_row.index_select(0, torch.arange(rows, device=index_B.device) * images + index_B)
