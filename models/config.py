"""What describes a slimmable multi-task ViT: two frozen dataclasses and their checks."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, cast, get_args

from torch import nn

from .errors import ConfigError
from .widths import DEFAULT_WIDTHS, check_widths

HeadKind = Literal["classes", "depth", "normals", "probability", "image_classes"]
GateMode = Literal["softmax_topk", "renormalised"]
BalanceMode = Literal["joint", "per_task"]

#: Kinds whose answer is one vector an image instead of a map.
POOLED_KINDS: frozenset[str] = frozenset({"image_classes"})

#: The native heads double the token grid four times.
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
class HeadConfig:
    """One task: its name, what kind of answer it gives, and the channels of that answer."""

    name: str
    kind: HeadKind
    channels: int

    def __post_init__(self) -> None:
        if self.kind not in get_args(HeadKind):
            raise ConfigError(f"task '{self.name}': kind must be one of {get_args(HeadKind)}, got '{self.kind}'")
        fixed = {"depth": 1, "probability": 1, "normals": 3}.get(self.kind)
        if self.channels < 1 or (fixed is not None and self.channels != fixed):
            raise ConfigError(
                f"task '{self.name}' of kind {self.kind} has {fixed or '>= 1'} channels, got {self.channels}"
            )
        if not self.name.isidentifier():
            raise ConfigError(f"a task name is letters, digits and '_', got '{self.name}'")
        if hasattr(nn.ModuleDict, self.name):
            raise ConfigError(f"a task cannot be called '{self.name}': torch's ModuleDict uses that name itself")

    @property
    def pooled(self) -> bool:
        """Whether the answer is one vector an image instead of a map."""
        return self.kind in POOLED_KINDS


@dataclass(frozen=True)
class ModelConfig:
    """A slimmable ViT encoder, dense or with task-routed experts, and one native decoder per task.

    `moe_blocks` lists the blocks whose feed-forward part is a mixture of experts (M3ViT: every second one);
    empty means a dense ViT. The gate modes are
    `softmax_topk` (M3ViT: softmax over all experts, then top-k, not renormalised) and
    `renormalised` (the same divided by the sum of the k, which equals a softmax over the k chosen logits).
    `balance` says over which rows experts are balanced in training: `per_task` is M3ViT's (every gate alone),
    `joint` (all gates together) leaves each task free to keep to a few experts.
    `embed_norm` normalises patches before their positions are added, so that neither drowns the other.
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

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", check_widths(self.widths))
        if not self.expert_hidden:
            object.__setattr__(self, "expert_hidden", self.dim)
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.patch != HEAD_STRIDE:
            raise ConfigError(f"patch must be {HEAD_STRIDE}, what the heads scale up by, got {self.patch}")
        if self.mlp_hidden < 1 or self.detail_channels < 0 or self.router_noise < 0:
            raise ConfigError(
                "mlp_ratio must leave a hidden unit, detail_channels and router_noise must not be negative, got "
                f"{self.mlp_ratio}, {self.detail_channels} and {self.router_noise}"
            )
        if len(self.image_hw) != 2:
            raise ConfigError(f"image_hw is (height, width) in pixels, got {self.image_hw}")
        if self.dim % self.heads:
            raise ConfigError(f"dim must be a multiple of heads, got dim {self.dim} and {self.heads} heads")
        if any(side < self.patch or side % self.patch for side in self.image_hw):
            raise ConfigError(f"image size must be multiples of the patch {self.patch}, got {self.image_hw}")
        if any(not 0 <= block < self.depth for block in self.moe_blocks):
            raise ConfigError(f"moe_blocks must lie in 0..{self.depth - 1}, got {self.moe_blocks}")
        if tuple(sorted(set(self.moe_blocks))) != self.moe_blocks:
            raise ConfigError(f"moe_blocks must ascend without repeats, got {self.moe_blocks}")
        if self.moe_blocks and not 1 <= self.top_k <= self.experts:
            raise ConfigError(f"top_k must lie in 1..{self.experts} (experts), got {self.top_k}")
        if self.gate_mode not in get_args(GateMode):
            raise ConfigError(f"gate_mode must be one of {get_args(GateMode)}, got '{self.gate_mode}'")
        if self.balance not in get_args(BalanceMode):
            raise ConfigError(f"balance must be one of {get_args(BalanceMode)}, got '{self.balance}'")
        names = [task.name for task in self.tasks]
        if not names or len(set(names)) != len(names):
            raise ConfigError(f"a model needs tasks with different names, got {names}")

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

    @property
    def task_names(self) -> tuple[str, ...]:
        """Names of the tasks, in the order of the configuration."""
        return tuple(task.name for task in self.tasks)

    def task(self, name: str) -> HeadConfig:
        """The task of that name.

        Raises:
            ConfigError: the model has no such task.
        """
        for task in self.tasks:
            if task.name == name:
                return task
        raise ConfigError(f"unknown task '{name}'; this model has {', '.join(self.task_names)}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """Inverse of `to_dict`; lists from JSON become tuples.

        Raises:
            ConfigError: a field is unknown or missing, or the values do not fit together.
        """
        try:
            plain: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
            }
            plain["tasks"] = tuple(HeadConfig(**cast("dict[str, Any]", task)) for task in values["tasks"])
            return cls(**plain)
        except (AttributeError, TypeError, KeyError) as error:
            raise ConfigError(f"not a model configuration: {error}") from error
