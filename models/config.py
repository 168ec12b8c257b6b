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
AdapterMode = Literal["inline", "branch"]

#: Products of a block beside which adapters can stand: of the attention, then of the feed-forward part.
PRODUCTS = ("qkv", "proj", "fc1", "fc2")
#: Besides: the whole feed-forward part.
FEED = "feed"
#: What branches have (MTLoRA): their attention is that of the shared path.
BRANCHED = ("proj", "fc1", "fc2")

#: The heads for maps double the token grid four times.
HEAD_STRIDE = 16

#: As many as a Swin has levels besides the deepest.
MAX_TAPS = 3

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
    `adapter_blocks` lists blocks whose rows add low-rank products of their task's own, of `adapter_rank` and times
    `adapter_scale`, beside the products that `adapter_on` names (after MTLoRA): `qkv`, `proj`, `fc1`, `fc2`, or `feed`,
    the feed-forward part as a whole. Blocks with experts have no `fc1` and `fc2`; those that have one of them, no
    `feed`.
    `adapter_mode` is `inline`, where a task's tokens go on through all that follows, or `branch` (the last blocks of a
    dense ViT), where they take the big products from a path that all tasks share.
    `shared_rank`, above 0, gives the blocks of `shared_blocks` (all by default) low-rank adapters that all tasks share,
    times `shared_scale`, on the products that `shared_on` names; `fc1` and `fc2` of experts change all of them alike.
    `taps` lists blocks before the last whose tokens `taskexpert` decoders read, too; `decoder_experts` and
    `decoder_expert_hidden` (half of decoder_hidden, if 0) say how many experts these decoders share for each tapped
    block, and how many hidden units each has.
    `folded` is set by `models.fold`: shared adapters are merged into the weights, batch norms into the convolutions
    before them.
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
    adapter_on: tuple[str, ...] = ("proj", FEED)
    adapter_mode: AdapterMode = "inline"
    shared_rank: int = 0
    shared_scale: float = 1.0
    shared_blocks: tuple[int, ...] = ()
    shared_on: tuple[str, ...] = PRODUCTS
    folded: bool = False
    taps: tuple[int, ...] = ()
    decoder_experts: int = 4
    decoder_expert_hidden: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", check_widths(self.widths))
        if not self.expert_hidden:
            object.__setattr__(self, "expert_hidden", self.dim)
        if self.shared_rank > 0 and not self.shared_blocks:
            object.__setattr__(self, "shared_blocks", tuple(range(self.depth)))
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
        for name in ("moe_blocks", "adapter_blocks", "shared_blocks", "taps"):
            blocks = getattr(self, name)
            if any(not 0 <= block < self.depth for block in blocks):
                raise ConfigError(f"{name} must lie in 0..{self.depth - 1}, got {blocks}")
            if tuple(sorted(set(blocks))) != blocks:
                raise ConfigError(f"{name} must ascend without repeats, got {blocks}")
        self._check_adapters()
        self._check_decoder_experts()
        if len(self.taps) > MAX_TAPS or self.depth - 1 in self.taps or (self.has_decoder_experts and not self.taps):
            raise ConfigError(
                f"taps are at most {MAX_TAPS} blocks before the last, and at least one for taskexpert decoders, "
                f"got {self.taps}"
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

    def _check_adapters(self) -> None:
        if bool(self.adapter_blocks) != (self.adapter_rank > 0) or self.adapter_rank < 0:
            raise ConfigError(
                f"adapters need blocks and a rank, got adapter_blocks {self.adapter_blocks}, rank {self.adapter_rank}"
            )
        if self.shared_rank < 0 or (self.shared_blocks and not self.shared_rank):
            raise ConfigError(
                f"shared adapters need a rank, got shared_rank {self.shared_rank}, shared_blocks {self.shared_blocks}"
            )
        for name, choices in (("adapter_on", (*PRODUCTS, FEED)), ("shared_on", PRODUCTS)):
            on = getattr(self, name)
            if not on or tuple(choice for choice in choices if choice in on) != on:
                raise ConfigError(f"{name} must be some of {', '.join(choices)}, in this order, got {on}")
        if self.adapter_mode not in get_args(AdapterMode):
            raise ConfigError(f"adapter_mode must be one of {get_args(AdapterMode)}, got '{self.adapter_mode}'")
        if empty := [block for block in self.adapter_blocks if not self.task_products(block)]:
            raise ConfigError(f"adapter_on names nothing that blocks {empty} have, got {self.adapter_on}")
        last = tuple(range(self.depth - len(self.adapter_blocks), self.depth))
        if self.adapter_mode == "branch" and (
            self.moe_blocks or self.adapter_blocks != last or not last or self.adapter_on != BRANCHED
        ):
            raise ConfigError(
                f"branches need the last blocks of a dense ViT and adapter_on {BRANCHED}, "
                f"got blocks {self.adapter_blocks}, experts in {self.moe_blocks}, adapter_on {self.adapter_on}"
            )

    def task_products(self, block: int) -> tuple[str, ...]:
        """Beside which products of a block each task has an adapter of its own."""
        on = self.adapter_on if block in self.adapter_blocks else ()
        inner = () if block in self.moe_blocks else tuple(name for name in ("fc1", "fc2") if name in on)
        around = (FEED,) if FEED in on and not inner else ()
        return tuple(name for name in ("qkv", "proj") if name in on) + inner + around

    @property
    def family(self) -> str:
        """What the backbone is, as manifests call it."""
        return "vit"

    @property
    def levels(self) -> int:
        """Layers whose tokens are given besides the last one's: `taps`, if any decoder reads them."""
        return len(self.taps) if self.has_decoder_experts else 0

    @property
    def feature_dim(self) -> int:
        """Channels of the tokens that the encoder gives."""
        return self.dim

    @property
    def has_class_token(self) -> bool:
        """Whether the first token stands for the whole image."""
        return True

    @property
    def adapted(self) -> bool:
        """Whether there are low-rank adapters, shared or of tasks."""
        return bool(self.adapter_blocks or self.shared_blocks)

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
