"""A step whose numbers are not finite: what is kept of it, and what the reader is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from . import distributed
from .data import Batch
from .errors import DivergedError
from .sandwich import Pass
from .state import save_state

__all__ = ["diverged"]


def diverged(
    out: Path, step: int, batch: Batch, passes: Sequence[Pass], losses: Mapping[str, Tensor], norm: Tensor
) -> DivergedError:
    """Write this process's share of the step's batch into `out`; the error to raise, which names it.

    Args:
        losses: of the step, scalars by task and pass.
        norm: of its gradient.
    """
    share = f"-rank{distributed.rank()}" if distributed.world_size() > 1 else ""  # all come here: the norm is shared
    path = out / f"diverged-step{step}{share}.pt"
    out.mkdir(parents=True, exist_ok=True)
    tensors = {"image": batch.image_I3HW, "image_index": batch.image_index_B, **batch.targets}
    save_state(path, {"step": step, "tasks": batch.task_of_row, "samples": batch.samples, **tensors})
    bad = [name for name, value in losses.items() if not bool(torch.isfinite(value))]
    return DivergedError(
        f"step {step}: {', '.join(bad) or 'a loss'} is not finite (gradient norm {float(norm):.3g}, passes "
        f"{[(p.width, p.top_k, p.decoder_width) for p in passes]}); the batch is in {path}, samples "
        f"{batch.samples[:8]}...; go on from the last state with a lower lr, or precision=fp32",
        step=step,
        batch_file=path,
    )
