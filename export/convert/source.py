"""What every format starts from and ends with: what the user says, what a file holds, what becomes of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ...models import MultiTaskModel
from ...models.families import AnyConfig
from ..errors import ConvertError
from .table import Converted, Parts, Rule, apply_rules, check_complete

#: Where a tensor comes from that a file may do without.
NOTHING = "nothing"


@dataclass(frozen=True)
class ConvertOptions:
    """What cannot be read from a file, said by the user; None where nothing was said.

    Args:
        heads: Attention heads of a ViT.
        top_k: Experts that a token visits.
        image_hw: Input size in pixels.
        tasks: Names of tasks that a file does not name.
        scale: Factor on MTLoRA's adapters, where the file has no configuration.
        gate_input_ahead: M3ViT's routers read the block's input.
        expert_prune: M3ViT's gate scores up to 0.1 count as 0.
        ema: Take the averaged weights, where a file has both.
        normalise: How images were normalised: by ImageNet's mean and deviation, by 0.5 and 0.5 (some of timm's
            ViTs), or only divided by 255.
    """

    heads: int | None = None
    top_k: int | None = None
    image_hw: tuple[int, int] | None = None
    tasks: tuple[str, ...] = ()
    scale: float | None = None
    gate_input_ahead: bool = False
    expert_prune: bool = False
    ema: bool = False
    normalise: Literal["imagenet", "half", "none"] = "imagenet"


@dataclass
class Result:
    """A converted network: where its tensors came from, how many the file has, and what was assumed about it."""

    model: MultiTaskModel
    found: Converted
    read: int
    assumed: list[str] = field(default_factory=list)


def fill(
    config: AnyConfig,
    rules: tuple[Rule, ...],
    foreign: Mapping[str, Tensor],
    *,
    source: Path,
    more: Any = dict,
    absent: Mapping[str, Tensor] | None = None,
) -> tuple[MultiTaskModel, Converted]:
    """Build the network of a configuration and fill it from a file.

    Args:
        more: As in `apply_rules`.
        absent: Tensors of ours that a file may do without, by name.

    Raises:
        ConvertError: a name that no rule knows, or a tensor that is missing or has another shape.
    """
    found = apply_rules(rules, foreign, config, more=more, source=str(source))
    with torch.device("meta"):  # no weights are drawn only to be overwritten
        model = MultiTaskModel(config)
    for name, value in (absent or {}).items():
        found.tensors.setdefault(name, value)
        found.origin.setdefault(name, NOTHING)
    check_complete(model, found, rules, str(source))
    model.load_state_dict(found.tensors, assign=True)
    return model.eval(), found


def state_dict_of(content: Mapping[str, Any], *names: str, source: Path) -> Mapping[str, Any]:
    """The state dict of a file: under the first of `names` that it has, or the file itself.

    Raises:
        ConvertError: there is none.
    """
    for name in names:
        if isinstance(content.get(name), Mapping):
            return content[name]
    if content and all(isinstance(value, Tensor) for value in content.values()):
        return content
    raise ConvertError(f"{source} has no weights: expected {' or '.join(names)}, got {', '.join(map(str, content))}")


def without_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The same tensors, without a prefix that all names share (`module.` of distributed training)."""
    if all(name.startswith(prefix) for name in tensors):
        return {name.removeprefix(prefix): value for name, value in tensors.items()}
    return dict(tensors)


def shape_of(tensors: Mapping[str, Tensor], name: str, axes: int, source: Path) -> tuple[int, ...]:
    """Shape of a tensor that every file of a format has.

    Raises:
        ConvertError: it is missing, or has another number of axes.
    """
    if name not in tensors:
        raise ConvertError(f"{source} is no file of this format: '{name}' is missing")
    shape = tuple(tensors[name].shape)
    if len(shape) != axes or 0 in shape:
        raise ConvertError(f"{source}: '{name}' must have {axes} axes, none of them empty, got {shape}")
    return shape


def count_numbered(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbers follow a prefix in the names: blocks, layers."""
    numbers = {name[len(prefix) :].partition(".")[0] for name in tensors if name.startswith(prefix)}
    return max((int(number) + 1 for number in numbers if number.isdecimal()), default=0)


def ratio_of(hidden: int, dim: int) -> float:
    """The ratio that configurations store: int(dim * ratio) is `hidden` again."""
    ratio = hidden / dim
    return ratio if int(dim * ratio) == hidden else math.nextafter(ratio, math.inf)


def split_grid(patches: int, image_hw: tuple[int, int] | None, patch: int, source: Path) -> tuple[int, int]:
    """Check a given image size against the number of patches, in pixels.

    Raises:
        ConvertError: it does not fit, or none was given and the grid is not square.
    """
    side = math.isqrt(patches)
    if image_hw is None:
        if side * side != patches:
            raise ConvertError(f"{source} has {patches} patches of {patch} pixels: say --image-size HEIGHTxWIDTH")
        return side * patch, side * patch
    if (image_hw[0] // patch) * (image_hw[1] // patch) != patches or image_hw[0] % patch or image_hw[1] % patch:
        raise ConvertError(
            f"{source} has {patches} patches of {patch} pixels, which images of {image_hw[0]}x{image_hw[1]} do not have"
        )
    return image_hw


def need(value: Any, option: str, why: str, source: Path) -> Any:
    """A value that the user has to give.

    Raises:
        ConvertError: it was not given; says the option.
    """
    if value is None:
        raise ConvertError(f"{source}: say {option}: {why}")
    return value


__all__ = [
    "ConvertOptions",
    "Parts",
    "Result",
    "count_numbered",
    "fill",
    "need",
    "ratio_of",
    "shape_of",
    "split_grid",
    "state_dict_of",
    "without_prefix",
]
