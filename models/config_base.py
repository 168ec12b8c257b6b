"""What configurations of every backbone have in common: tasks with their heads, an image size, widths."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar, cast, get_args

from torch import nn

from .errors import ConfigError

HeadKind = Literal["classes", "depth", "normals", "probability", "image_classes"]
DecoderKind = Literal["native", "taskexpert", "setr_pup", "hrnet", "linear"]
PoolKind = Literal["token", "mean", "mean_then_norm"]

#: Kinds whose answer is one vector an image instead of a map.
POOLED_KINDS: frozenset[str] = frozenset({"image_classes"})

_Config = TypeVar("_Config", bound="BaseConfig")


@dataclass(frozen=True)
class HeadConfig:
    """One task: its name, what kind of answer it gives, the channels of that answer, and the decoder that makes it.

    Args:
        decoder: `native` and `taskexpert` (docs/decoders.md) are slimmable. Published ones, for converted weights, run
            at full width: `setr_pup` (M3ViT), `hrnet` (MTLoRA), `linear` (one product on a pooled token, as
            classifiers have it).
        stream: Channels of a published decoder: one number for `setr_pup`, one per level for `hrnet`.
        pool: What a `linear` decoder reads: the normalised class token, the mean of the normalised tokens, or
            the normalised mean of the tokens.
        log_depth: Depth is predicted as log-metres (native decoders) or as metres (published ones).
    """

    name: str
    kind: HeadKind
    channels: int
    decoder: DecoderKind = "native"
    stream: tuple[int, ...] = ()
    pool: PoolKind = "token"
    log_depth: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "stream", tuple(self.stream))  # a list, from JSON
        for field, choices in (("kind", HeadKind), ("decoder", DecoderKind), ("pool", PoolKind)):
            if getattr(self, field) not in get_args(choices):
                raise ConfigError(
                    f"task '{self.name}': {field} must be one of {get_args(choices)}, got '{getattr(self, field)}'"
                )
        fixed = {"depth": 1, "probability": 1, "normals": 3}.get(self.kind)
        if self.channels < 1 or (fixed is not None and self.channels != fixed):
            raise ConfigError(
                f"task '{self.name}' of kind {self.kind} has {fixed or '>= 1'} channels, got {self.channels}"
            )
        if not self.name.isidentifier():
            raise ConfigError(f"a task name is letters, digits and '_', got '{self.name}'")
        if hasattr(nn.ModuleDict, self.name):
            raise ConfigError(f"a task cannot be called '{self.name}': torch's ModuleDict uses that name itself")
        self._check_decoder()

    def _check_decoder(self) -> None:
        levels = {"setr_pup": 1, "hrnet": 4}.get(self.decoder, 0)
        if len(self.stream) != levels or any(channels < 1 for channels in self.stream):
            raise ConfigError(
                f"task '{self.name}': a {self.decoder} decoder has {levels} stream channels, got {self.stream}"
            )
        if self.decoder != "native" and self.pooled != (self.decoder == "linear"):
            raise ConfigError(f"task '{self.name}': a {self.decoder} decoder cannot answer tasks of kind {self.kind}")

    @property
    def slimmable(self) -> bool:
        """Whether the decoder has narrower widths."""
        return self.decoder in ("native", "taskexpert")

    @property
    def pooled(self) -> bool:
        """Whether the answer is one vector an image instead of a map."""
        return self.kind in POOLED_KINDS


class BaseConfig:
    """Methods of every configuration; the fields are those of the dataclasses below it."""

    tasks: tuple[HeadConfig, ...]
    image_hw: tuple[int, int]
    widths: tuple[float, ...]
    decoder_hidden: int
    decoder_experts: int
    decoder_expert_hidden: int

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

    @property
    def has_decoder_experts(self) -> bool:
        """Whether decoders share experts."""
        return any(task.decoder == "taskexpert" for task in self.tasks)

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, for JSON."""
        return asdict(cast(Any, self))

    @classmethod
    def from_dict(cls: type[_Config], values: dict[str, Any]) -> _Config:
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

    def _check_decoder_experts(self) -> None:
        if not self.decoder_expert_hidden:
            object.__setattr__(self, "decoder_expert_hidden", max(1, self.decoder_hidden // 2))
        if self.decoder_experts < 1 or self.decoder_expert_hidden < 1:
            raise ConfigError(
                "decoder_experts and decoder_expert_hidden must be at least 1, got "
                f"{self.decoder_experts} and {self.decoder_expert_hidden}"
            )

    def _check_tasks(self) -> None:
        names = [task.name for task in self.tasks]
        if not names or len(set(names)) != len(names):
            raise ConfigError(f"a model needs tasks with different names, got {names}")
        if len(self.image_hw) != 2:
            raise ConfigError(f"image_hw is (height, width) in pixels, got {self.image_hw}")
