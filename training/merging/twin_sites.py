"""Where a backbone has places for what a task has for itself: which matrix a task's low-rank adapter stands beside.

An adapter adds scale * x @ down @ up^T to the product of its matrix, for the rows of its task (`models/adapters.py`):

- ViT, in any block: the projection of attention. (What else a block adapts stays 0.)
- Swin, in the last block of each stage, on the branch of the task (MTLoRA): the projection, and, without branches so
  far, the second product of the feed-forward part. (What is put in the first one's place is heard by the task's adapter
  of the second alone: it stays 0.)

Axes: R rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...models import ModelConfig, MultiTaskModel, SwinConfig
from ...models.adapters import Site
from ...models.config import FEED, PRODUCTS
from ...models.families import AnyConfig
from ...models.swin_config import STAGES
from .svd import low_rank
from .vectors import Tensors

__all__ = ["TwinSite", "join_adapters", "split_places"]


@dataclass(frozen=True)
class TwinSite:
    """An adapter's place, and the matrix of the backbone beside it, stored [in, out]."""

    site: str
    tensor: str


def split_places(config: AnyConfig, rank: int) -> tuple[AnyConfig, list[TwinSite]]:
    """The configuration with room for `rank` more per task, and the places; both as they were where there are none.

    Rows of different tasks part at the first adapter, so a ViT with experts gets them from its first routed block on,
    where rows part anyway; a dense one in its second half.
    """
    if config.folded or _silent(config):
        return config, []
    if isinstance(config, SwinConfig):
        return _swin_places(config, rank)
    first = config.moe_blocks[0] if config.moe_blocks else config.depth // 2
    blocks = tuple(range(min((first, *config.adapter_blocks)), config.depth))
    if config.adapter_mode == "branch":  # in blocks before them, a task has nothing of its own
        blocks = config.adapter_blocks
    rank, scale = config.adapter_rank + min(rank, config.dim), config.adapter_scale if config.adapter_blocks else 1.0
    on = tuple(name for name in (*PRODUCTS, FEED) if name == "proj" or name in config.adapter_on)
    places = [TwinSite(f"block{block}_proj", f"encoder.blocks.{block}.attn.proj") for block in blocks]
    return replace(config, adapter_blocks=blocks, adapter_rank=rank, adapter_scale=scale, adapter_on=on), places


def _swin_places(config: SwinConfig, rank: int) -> tuple[SwinConfig, list[TwinSite]]:
    ranks = tuple(config.task_ranks[stage] + min(rank, config.stage_dim(stage)) for stage in range(STAGES))
    # Without branches so far, all tasks see the products with the shared adapters: branches must, too.
    mode = config.adapter_mode if config.per_task else "matrixv2"
    scales = config.task_scales if config.per_task else (1.0,) * STAGES
    places = []
    for stage in range(STAGES):
        block = f"encoder.stages.{stage}.blocks.{config.depths[stage] - 1}"
        # Where tasks have branches already, the second product's adapter reads other hidden units than its matrix.
        tensors = (("proj", "attn.proj"), *(() if config.per_task else (("fc2", "mlp.down"),)))
        places += [TwinSite(f"stage{stage}_{name}", f"{block}.{tensor}") for name, tensor in tensors]
    return replace(config, task_ranks=ranks, task_scales=scales, adapter_mode=mode), places


def join_adapters(
    model: MultiTaskModel, task: str, exclusive: Mapping[str, Tensor], places: list[TwinSite], config: AnyConfig
) -> Tensors:
    """A task's adapters in a network of `config`: its own, if its fine-tune has some, and what is exclusive to it.

    Args:
        model: the fine-tune.
        exclusive: its backbone less the shared one, float64.
    """
    if not places:
        return {}
    with torch.device("meta"):
        sites: list[Site] = MultiTaskModel(replace(config, tasks=model.config.tasks)).encoder.sites()
    own, at = model.state_dict(), {place.site: place for place in places}
    made: Tensors = {}
    for site in sites:
        down, up = torch.zeros(site.inputs, site.rank), torch.zeros(site.outputs, site.rank)
        name, used = f"adapters.{task}.{site.name}", 0
        if f"{name}.down" in own:
            used = own[f"{name}.down"].shape[1]
            down[:, :used], up[:, :used] = own[f"{name}.down"], own[f"{name}.up"]
        if (place := at.get(site.name)) is not None:
            more_up, more_down = low_rank(exclusive[place.tensor].T, site.rank - used)
            columns = slice(used, used + more_up.shape[1])
            down[:, columns] = (more_down.T / _scale(config, site.name)).float()
            up[:, columns] = more_up.float()
        made |= {f"{name}.down": down, f"{name}.up": up}
    return made


def _scale(config: AnyConfig, site: str) -> float:
    if isinstance(config, ModelConfig):
        return config.adapter_scale
    return config.task_scales[int(site.removeprefix("stage").partition("_")[0])]


def _silent(config: AnyConfig) -> bool:
    """Whether adapters are there already, but times 0: what is added to them would not be heard."""
    if isinstance(config, ModelConfig):
        return bool(config.adapter_blocks) and config.adapter_scale == 0
    return config.per_task and 0 in config.task_scales
