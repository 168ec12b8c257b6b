"""What describes a slimmable multi-task ViT: a frozen dataclass and its checks."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from .config_base import POOLED_KINDS, BaseConfig, HeadConfig, HeadKind
from .errors import ConfigError
from .widths import DEFAULT_WIDTHS, check_widths

__all__ = ["HEAD_STRIDE", "POOLED_KINDS", "GateMode", "HeadConfig", "HeadKind", "ModelConfig"]

GateMode = Literal["softmax_topk", "renormalised"]
GateInput = Literal["normed", "block"]
BalanceMode = Literal["joint", "per_task"]

#: The heads for maps double the token grid four times.
HEAD_STRIDE = 16

_AT_LEAST_ONE = (
    "dim",
    "depth",
    "heads",
    "experts",
    "expert_hidden",
    "detail_hidden",
    "decoder_channels",
    "decoder_hidden",
)


@dataclass(frozen=True)
class ModelConfig(BaseConfig):
    """A slimmable ViT encoder, dense or with task-routed experts, and one decoder per task.

    `moe_blocks` lists the blocks whose feed-forward part is a mixture of experts (M3ViT: every second one);
    empty means a dense ViT. The gate modes are
    `softmax_topk` (M3ViT: softmax over all experts, then top-k, not renormalised) and
    `renormalised` (the same divided by the sum of the k, which equals a softmax over the k chosen logits).
    `balance` says over which rows experts are balanced in training: `per_task` is M3ViT's (every gate alone),
    `joint` (all gates together) leaves each task free to keep to a few experts.
    `embed_norm` normalises patches before their positions are added, so that neither drowns the other.
    `gate_input` says what routers read: what the experts read (`normed`), or the block's input before its attention
    (`block`, an option of M3ViT). Chosen probabilities not above `gate_floor` count as 0 (M3ViT's pruning: 0.1).
    `adapter_blocks` lists blocks whose rows add a low-rank product of their task's own, of `adapter_rank` and times
    `adapter_scale`, to the attention's projection and beside the feed-forward part (after MTLoRA).
    `folded` is set by `models.fold`: batch norms are merged into the convolutions before them.
    """

    dim: int
    depth: int
    heads: int
    tasks: tuple[HeadConfig, ...]
    image_hw: tuple[int, int] = (224, 224)
    patch: int = 16
    mlp_ratio: float = 4.0
    moe_blocks: tuple[int, ...] = ()
    experts: int = 16
    top_k: int = 4
    expert_hidden: int = 0
    gate_mode: GateMode = "softmax_topk"
    router_noise: float = 1.0
    balance: BalanceMode = "joint"
    embed_norm: bool = True
    detail_channels: int = 32
    detail_hidden: int = 64
    decoder_channels: int = 64
    decoder_hidden: int = 128
    widths: tuple[float, ...] = field(default=DEFAULT_WIDTHS)
    gate_input: GateInput = "normed"
    gate_floor: float = 0.0
    adapter_blocks: tuple[int, ...] = ()
    adapter_rank: int = 0
    adapter_scale: float = 1.0
    folded: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", check_widths(self.widths))
        if not self.expert_hidden:
            object.__setattr__(self, "expert_hidden", self.dim)
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.patch != HEAD_STRIDE and not all(task.decoder == "linear" for task in self.tasks):
            raise ConfigError(f"patch must be {HEAD_STRIDE}, what the heads scale up by, got {self.patch}")
        if self.mlp_hidden < 1 or self.detail_channels < 0 or self.router_noise < 0:
            raise ConfigError(
                "mlp_ratio must leave a hidden unit, detail_channels and router_noise must not be negative, got "
                f"{self.mlp_ratio}, {self.detail_channels} and {self.router_noise}"
            )
        self._check_tasks()
        if self.dim % self.heads:
            raise ConfigError(f"dim must be a multiple of heads, got dim {self.dim} and {self.heads} heads")
        if any(side < self.patch or side % self.patch for side in self.image_hw):
            raise ConfigError(f"image size must be multiples of the patch {self.patch}, got {self.image_hw}")
        for name in ("moe_blocks", "adapter_blocks"):
            blocks = getattr(self, name)
            if any(not 0 <= block < self.depth for block in blocks):
                raise ConfigError(f"{name} must lie in 0..{self.depth - 1}, got {blocks}")
            if tuple(sorted(set(blocks))) != blocks:
                raise ConfigError(f"{name} must ascend without repeats, got {blocks}")
        if bool(self.adapter_blocks) != (self.adapter_rank > 0) or self.adapter_rank < 0:
            raise ConfigError(
                f"adapters need blocks and a rank, got adapter_blocks {self.adapter_blocks}, rank {self.adapter_rank}"
            )
        if self.moe_blocks and not 1 <= self.top_k <= self.experts:
            raise ConfigError(f"top_k must lie in 1..{self.experts} (experts), got {self.top_k}")
        if self.gate_mode not in get_args(GateMode):
            raise ConfigError(f"gate_mode must be one of {get_args(GateMode)}, got '{self.gate_mode}'")
        if self.gate_input not in get_args(GateInput) or not 0 <= self.gate_floor < 1:
            raise ConfigError(
                f"gate_input must be one of {get_args(GateInput)} and gate_floor lie in [0, 1), "
                f"got '{self.gate_input}' and {self.gate_floor}"
            )
        if self.balance not in get_args(BalanceMode):
            raise ConfigError(f"balance must be one of {get_args(BalanceMode)}, got '{self.balance}'")

    @property
    def family(self) -> str:
        """What the backbone is, as manifests call it."""
        return "vit"

    @property
    def feature_dim(self) -> int:
        """Channels of the tokens that the encoder gives."""
        return self.dim

    @property
    def has_class_token(self) -> bool:
        """Whether the first token stands for the whole image."""
        return True

    @property
    def per_task(self) -> bool:
        """Whether rows of different tasks differ."""
        return bool(self.moe_blocks or self.adapter_blocks)

    @property
    def mlp_hidden(self) -> int:
        """Hidden units of a dense feed-forward block at full width."""
        return int(self.dim * self.mlp_ratio)

    @property
    def head_dim(self) -> int:
        """Channels of one attention head, the same at every width."""
        return self.dim // self.heads

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Height and width in patches."""
        return self.image_hw[0] // self.patch, self.image_hw[1] // self.patch
