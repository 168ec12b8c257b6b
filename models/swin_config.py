"""What describes a slimmable multi-task Swin with low-rank adapters (MTLoRA): a frozen dataclass and its checks."""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from .config_base import BaseConfig, HeadConfig
from .errors import ConfigError
from .widths import DEFAULT_WIDTHS, check_widths

STAGES = 4
AdapterMode = Literal["matrix", "matrixv2"]


@dataclass(frozen=True)
class SwinConfig(BaseConfig):
    """A Swin encoder of four stages, plain or with MTLoRA's adapters, and one decoder per task.

    Channels double from stage to stage, starting with `dim`; `depths` and `heads` list the four stages.
    Blocks with an odd number attend in shifted windows, unless the window covers the whole grid.

    Args:
        shared_ranks: Rank, per stage, of the adapters that all tasks share, on qkv, proj, fc1 and fc2 of every block;
            0 for none.
        task_ranks: Rank, per stage, of each task's own adapters on proj, fc1 and fc2 of the stage's last block. All 0:
            no row differs between tasks, all heads read the shared features (MTLoRA's mode `lora_only`).
        shared_scales, task_scales: Plain factors, per stage, on what the adapters add (4 in MTLoRA; not alpha / rank).
        adapter_mode: `matrix`: a task's branch has its own adapter only; `matrixv2`: the shared one besides.
        merge_adapters: Shared adapters on the reduction of patch merging, too (MTLoRA+).
        decoder_experts, decoder_expert_hidden: Experts that `taskexpert` decoders share for each level, and the hidden
            units of each (half of decoder_hidden, if 0).
        folded: Set by `models.fold`: shared adapters are merged into the weights wherever that is exact, bias
            tables are spelled out per pair of tokens, batch norms are merged into the convolutions before them.
    """

    tasks: tuple[HeadConfig, ...]
    dim: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (3, 6, 12, 24)
    image_hw: tuple[int, int] = (224, 224)
    patch: int = 4
    window: int = 7
    mlp_ratio: float = 4.0
    shared_ranks: tuple[int, ...] = (0, 0, 0, 0)
    task_ranks: tuple[int, ...] = (0, 0, 0, 0)
    shared_scales: tuple[float, ...] = (4.0, 4.0, 4.0, 4.0)
    task_scales: tuple[float, ...] = (4.0, 4.0, 4.0, 4.0)
    adapter_mode: AdapterMode = "matrix"
    merge_adapters: bool = False
    decoder_channels: int = 64
    decoder_hidden: int = 128
    widths: tuple[float, ...] = field(default=DEFAULT_WIDTHS)
    folded: bool = False
    decoder_experts: int = 4
    decoder_expert_hidden: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", check_widths(self.widths))
        self._check_tasks()
        for name in ("dim", "patch", "window", "decoder_channels", "decoder_hidden"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("depths", "heads", "shared_ranks", "task_ranks", "shared_scales", "task_scales"):
            values, least = getattr(self, name), 0 if "ranks" in name or "scales" in name else 1
            if len(values) != STAGES or any(value < least for value in values):
                raise ConfigError(f"{name} must be {STAGES} numbers, one a stage, each at least {least}, got {values}")
        self._check_decoder_experts()
        if self.adapter_mode not in get_args(AdapterMode):
            raise ConfigError(f"adapter_mode must be one of {get_args(AdapterMode)}, got '{self.adapter_mode}'")
        if any(self.task_ranks) != all(self.task_ranks):
            raise ConfigError(f"task_ranks must be above 0 in every stage, or 0 in every stage, got {self.task_ranks}")
        self._check_dims()

    def _check_dims(self) -> None:
        for stage, heads in enumerate(self.heads):
            if self.stage_dim(stage) % heads:
                raise ConfigError(
                    f"the channels of stage {stage}, {self.stage_dim(stage)}, must be a multiple of heads, got {heads}"
                )
            if self.mlp_hidden(stage) < 1:
                raise ConfigError(f"mlp_ratio must leave a hidden unit, got {self.mlp_ratio}")
        least = self.patch * 2 ** (STAGES - 1)
        if any(side < least or side % least for side in self.image_hw):
            raise ConfigError(f"image size must be multiples of {least} (patch x 8), got {self.image_hw}")
        for stage in range(STAGES):
            grid, window = self.stage_grid(stage), self.stage_window(stage)
            if any(side % window for side in grid):
                raise ConfigError(
                    f"the grid of stage {stage}, {grid} for images of {self.image_hw}, must be multiples of "
                    f"the window, {window}; square images of {self._fitting()} pixels fit"
                )
        if self.patch != 4 and self.detail_channels:
            raise ConfigError(f"slimmable decoders for maps need a patch of 4, got {self.patch}")

    def _fitting(self) -> str:
        step = self.window * self.patch * 2 ** (STAGES - 1)
        return f"{step}, {2 * step} or {3 * step}"

    @property
    def family(self) -> str:
        """What the backbone is, as manifests call it."""
        return "swin"

    @property
    def moe_blocks(self) -> tuple[int, ...]:
        """Blocks with experts: none."""
        return ()

    @property
    def top_k(self) -> int:
        """Experts that a token visits; 1 stands for the one feed-forward part there is."""
        return 1

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Height and width in patches, before any merging."""
        return self.image_hw[0] // self.patch, self.image_hw[1] // self.patch

    @property
    def feature_dim(self) -> int:
        """Channels of the deepest level."""
        return self.level_dim(STAGES - 1)

    @property
    def has_class_token(self) -> bool:
        """Whether the first token stands for the whole image: no."""
        return False

    @property
    def detail_channels(self) -> int:
        """Channels of the shallow features at the patches' resolution, which slimmable decoders for maps add."""
        return self.dim if any(task.slimmable and not task.pooled for task in self.tasks) else 0

    @property
    def levels(self) -> int:
        """Feature levels given besides the deepest: heads for maps read them all."""
        return 0 if all(task.pooled for task in self.tasks) else STAGES - 1

    @property
    def adapted(self) -> bool:
        """Whether there are low-rank adapters, shared or of tasks."""
        return any(self.shared_ranks) or any(self.task_ranks)

    @property
    def per_task(self) -> bool:
        """Whether rows of different tasks differ."""
        return any(self.task_ranks)

    def stage_dim(self, stage: int) -> int:
        """Channels inside a stage."""
        return self.dim * 2**stage

    def stage_grid(self, stage: int) -> tuple[int, int]:
        """Height and width of the token map inside a stage."""
        return self.grid_hw[0] >> stage, self.grid_hw[1] >> stage

    def stage_window(self, stage: int) -> int:
        """Side of a stage's windows: never larger than its grid."""
        return min(self.window, *self.stage_grid(stage))

    def stage_shift(self, stage: int) -> int:
        """How far odd blocks shift their windows; 0 without such blocks, and where a window covers the grid on either
        side (as in Swin)."""
        shifts = self.depths[stage] > 1 and min(self.stage_grid(stage)) > self.window
        return self.window // 2 if shifts else 0

    def mlp_hidden(self, stage: int) -> int:
        """Hidden units of a stage's feed-forward parts at full width."""
        return int(self.stage_dim(stage) * self.mlp_ratio)

    def level_dim(self, level: int) -> int:
        """Channels of a feature level: what a stage gives after patch merging (the last one has none)."""
        return self.stage_dim(min(level + 1, STAGES - 1))

    def level_grid(self, level: int) -> tuple[int, int]:
        """Height and width of a feature level."""
        return self.stage_grid(min(level + 1, STAGES - 1))

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, for JSON; the family tells it from a ViT's."""
        return {"family": self.family, **super().to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "SwinConfig":
        """Inverse of `to_dict`.

        Raises:
            ConfigError: a field is unknown or missing, or the values do not fit together.
        """
        try:
            return super().from_dict({key: value for key, value in values.items() if key != "family"})
        except AttributeError as error:
            raise ConfigError(f"not a model configuration: {error}") from error
