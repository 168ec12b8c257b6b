"""The Swin encoder with task branches: big products once per image, what a task adds once per row.

Sources: Liu et al. 2021 (Swin); Agiza et al. 2024 (MTLoRA): in the last block of each stage every task has a branch of
its own, which adds low-rank products of the task to the products that all share, and which does not feed the next
stage. Nested widths as in docs/architecture.md.
Axes: I images, B rows (an image with one task), N tokens, D channels, T tokens of all images, U kept units, S tokens of
a window, P numbers of a task's adapters.
"""

from torch import Tensor, nn

from .adapters import RowAdapters, Site
from .branch import branch, thin_branch
from .encoder import Features
from .recompute import RunBlock, run_now
from .shared import Parts, SharedMlp, joined
from .swin_config import STAGES, SwinConfig
from .swin_layers import NORM_EPS, PatchMerging, WindowAttention, shift_mask
from .thin import ThinRows, one_or_all
from .widths import kept


class SwinBlock(nn.Module):
    """Pre-norm block of windowed attention and a feed-forward part; the last of a stage may branch by task."""

    def __init__(self, config: SwinConfig, stage: int, index: int) -> None:
        super().__init__()
        last = index == config.depths[stage] - 1
        self.branches = last and config.per_task
        self.site, self.rank, self.task_scale = f"stage{stage}", config.task_ranks[stage], config.task_scales[stage]
        self.shift = config.stage_shift(stage) if index % 2 else 0
        split = self.branches and config.adapter_mode == "matrix"
        self.leaf = self.branches and stage == STAGES - 1  # nothing reads its shared output
        dim = config.stage_dim(stage)
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = WindowAttention(config, stage, split=split)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        drop_down = split and self.leaf
        rank = config.shared_ranks[stage] if split or not config.folded else 0
        ranks = rank, 0 if config.folded and drop_down else rank
        scale = config.shared_scales[stage]
        self.mlp = SharedMlp(dim, config.mlp_hidden(stage), ranks, scale, split=split, drop_down=drop_down)

    def forward(self, tokens_IND: Tensor, grid_hw: tuple[int, int], mask: Tensor | None, width: float) -> Tensor:
        """The shared path alone."""
        mixed_TU = self._mix(tokens_IND, grid_hw, mask, width)
        tokens = tokens_IND + joined(self.attn.project(mixed_TU)).reshape(tokens_IND.shape)
        return tokens + self.mlp(self.norm2(tokens).flatten(0, 1), width).reshape(tokens.shape)

    def branch(
        self,
        tokens_IND: Tensor,
        grid_hw: tuple[int, int],
        mask: Tensor | None,
        width: float,
        index_B: Tensor,
        adapters: RowAdapters,
        thin: bool,
    ) -> tuple[Tensor | None, Tensor | ThinRows]:
        """The shared path (nothing in the last stage), and each row's branch.

        A branch takes the frozen products without the shared adapter (`matrix`), or with it (`matrixv2`).
        """
        mixed_TU = self._mix(tokens_IND, grid_hw, mask, width)

        def own(name: str, inputs_BND: Tensor) -> Tensor:
            return adapters(f"{self.site}_{name}", inputs_BND, self.task_scale)

        if thin:
            shared, rows = thin_branch(self, tokens_IND, mixed_TU, index_B, adapters, width)
        else:
            shared, rows = branch(self, tokens_IND, None, mixed_TU, index_B, own, width)
        return None if self.leaf else shared, rows

    def project(self, mixed_TU: Tensor) -> Parts:
        """Back to the residual stream, [T, D]."""
        return self.attn.project(mixed_TU)

    def seen(self, parts: Parts) -> Tensor:
        """What branches see of a product: the frozen part alone, unless the mode gives them the shared adapter, too."""
        return parts[0] if self.attn.split else joined(parts)

    def sites(self, width: float) -> list[Site]:
        """Where a task's adapters go, in the order in which it brings them; their rank is the stage's."""
        if not self.branches:
            return []
        dim = self.norm1.normalized_shape[0]
        units, hidden = kept(self.attn.heads, width) * self.attn.head_dim, kept(self.mlp.hidden, width)
        shapes = {"proj": (units, dim), "fc1": (dim, hidden), "fc2": (hidden, dim)}
        return [Site(f"{self.site}_{name}", *shape, self.rank) for name, shape in shapes.items()]

    def _mix(self, tokens_IND: Tensor, grid_hw: tuple[int, int], mask: Tensor | None, width: float) -> Tensor:
        maps = self.norm1(tokens_IND).unflatten(1, grid_hw)
        return self.attn.mix(maps, self.shift, mask if self.shift else None, width)


class SwinStage(nn.Module):
    """Blocks on one grid, then patch merging (not in the last stage)."""

    mask: Tensor | None

    def __init__(self, config: SwinConfig, stage: int) -> None:
        super().__init__()
        self.grid_hw = config.stage_grid(stage)
        self.blocks = nn.ModuleList([SwinBlock(config, stage, index) for index in range(config.depths[stage])])
        self.merge = PatchMerging(config, stage) if stage < STAGES - 1 else None
        shift = config.stage_shift(stage)
        mask = shift_mask(self.grid_hw, config.stage_window(stage), shift) if shift else None
        self.register_buffer("mask", mask, persistent=False)

    def forward(
        self,
        tokens_IND: Tensor,
        index_B: Tensor,
        adapters: RowAdapters | None,
        width: float,
        thin: bool,
        run_block: RunBlock = run_now,
    ) -> tuple[Tensor, Tensor]:
        """What the next stage reads (of the last stage: nothing of meaning), and the feature level of every row."""
        rows: Tensor | ThinRows | None = None
        for block in self.blocks:
            assert isinstance(block, SwinBlock)
            if block.branches and adapters is not None:
                own = (index_B, adapters, thin)
                shared, rows = run_block(block.branch, tokens_IND, self.grid_hw, self.mask, width, *own)
                tokens_IND = tokens_IND if shared is None else shared
            else:
                tokens_IND = run_block(block, tokens_IND, self.grid_hw, self.mask, width)
        if self.merge is not None:
            tokens_IND = self.merge(tokens_IND, self.grid_hw)
        if rows is None:
            return tokens_IND, tokens_IND.index_select(0, index_B)
        if isinstance(rows, ThinRows):
            return tokens_IND, rows.whole() if self.merge is None else self.merge.thin(rows, self.grid_hw)
        return tokens_IND, rows if self.merge is None else self.merge(rows, self.grid_hw)


class SwinEncoder(nn.Module):
    """Images to four feature levels, one row per (image, task). Task adapters are inputs, no part of the graph."""

    #: Whether branches are computed without making their rows (`thin.py`): graphs of folded networks for CPUs are.
    thin = False
    run_block: RunBlock = staticmethod(run_now)

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = nn.Conv2d(3, config.dim, kernel_size=config.patch, stride=config.patch)
        self.embed_norm = nn.LayerNorm(config.dim, eps=NORM_EPS)
        self.stages = nn.ModuleList([SwinStage(config, stage) for stage in range(STAGES)])

    def forward(
        self, image_I3HW: Tensor, image_index_B: Tensor, adapter_BP: Tensor | None = None, *, width: float = 1.0
    ) -> Features:
        """Run the stages.

        Args:
            image_I3HW: Normalised images at the size of the configuration.
            image_index_B: Which image each row works on, int64.
            adapter_BP: Adapters of each row's task, flat; see `MultiTaskModel.row_inputs`.
            width: Share of heads and hidden units that is kept.

        Returns:
            The deepest level as `tokens_BND` (it has no class token), the others as `levels`, shallowest first; the
            embedded patches as `detail_ICHW` if the heads want them.
        """
        tokens = self.embed_norm(self.patch_embed(image_I3HW).flatten(2).transpose(1, 2))
        wanted = self.config.detail_channels
        detail = tokens.transpose(1, 2).unflatten(2, self.config.grid_hw) if wanted else None
        adapters = None if adapter_BP is None else RowAdapters(adapter_BP, self.sites(width))
        thin, levels = self.thin and adapters is not None, []
        index_B = one_or_all(image_index_B, image_I3HW) if thin else image_index_B
        for stage in self.stages:
            tokens, rows = stage(tokens, index_B, adapters, width, thin, self.run_block)
            levels.append(rows)
        return Features(levels[-1], detail, [], tuple(levels[: self.config.levels]))

    def sites(self, width: float = 1.0) -> list[Site]:
        """Where a task's adapters go at a width, in the order in which it brings them."""
        blocks = [block for stage in self.stages for block in stage.blocks]  # type: ignore[union-attr]
        return [site for block in blocks if isinstance(block, SwinBlock) for site in block.sites(width)]


def same_windows(old: SwinConfig, new: SwinConfig) -> bool:
    """Whether weights for one image size serve another: the bias tables depend on the windows."""
    return all(old.stage_window(stage) == new.stage_window(stage) for stage in range(STAGES))
