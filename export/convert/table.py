"""From foreign names to ours: one visible table per format, applied to every tensor of a file.

A pattern names the parts of a tensor's name that vary: `{block}` stands for one part between dots, `*` at the end for
any rest. What a pattern of ours mentions beyond that comes from `Table.more`; `{each}` numbers the pieces of a tensor
that is taken apart.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from torch import Tensor

from ...models import MultiTaskModel
from ..errors import ConvertError

Parts = dict[str, str]
Change = Callable[[Tensor, Parts, Any], "Tensor | list[Tensor]"]


@dataclass(frozen=True)
class Rule:
    """One line of a table.

    Args:
        foreign: Pattern of a foreign name.
        own: Pattern of our name; None where the tensor is not needed.
        change: What is done to the tensor on the way, given the varying parts and the configuration.
        note: The same in words; for a tensor that is not needed, why.
    """

    foreign: str
    own: str | None
    change: Change | None = None
    note: str = ""


@dataclass
class Converted:
    """Tensors under our names, where each came from, and the foreign names that were not needed, with the reason."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)


def apply_rules(
    rules: Iterable[Rule],
    foreign: Mapping[str, Tensor],
    config: Any,
    *,
    more: Callable[[Parts], Parts | str] = dict,
    source: str,
) -> Converted:
    """Rename and rearrange every tensor by the first rule that fits.

    Args:
        more: From a name's varying parts to these and further ones, or to the reason why the tensor is not needed.

    Raises:
        ConvertError: names that no rule knows (all are listed), or a tensor whose shape a rule cannot rearrange.
    """
    found, surplus = Converted(), []
    listed = list(rules)
    for name, tensor in foreign.items():
        rule, parts = _match(listed, name)
        if rule is None:
            surplus.append(f"+ {name} {tuple(tensor.shape)}")
            continue
        completed = parts if rule.own is None else more(parts)
        if rule.own is None or isinstance(completed, str):
            found.dropped[name] = rule.note if rule.own is None else str(completed)
            continue
        try:
            changed = tensor if rule.change is None else rule.change(tensor, completed, config)
        except (RuntimeError, ValueError, IndexError, KeyError) as error:
            raise ConvertError(f"{source}: {name} {tuple(tensor.shape)} does not fit the network: {error}") from None
        pieces = {rule.own: changed} if isinstance(changed, Tensor) else _numbered(rule.own, changed)
        for pattern, piece in pieces.items():
            own = pattern.format(**completed)
            if own in found.tensors:
                raise ConvertError(f"{source}: {found.origin[own]} and {name} are both '{own}'")
            found.tensors[own], found.origin[own] = piece.contiguous(), name
    if surplus:
        raise ConvertError(f"{source} has tensors that this format does not (+ surplus):\n" + "\n".join(surplus))
    return found


def check_complete(model: MultiTaskModel, found: Converted, rules: Iterable[Rule], source: str) -> None:
    """Make sure that every tensor of the network was found, in its shape.

    Raises:
        ConvertError: every missing name (-), with the foreign pattern it would come from, and every other shape (!).
    """
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    listed, lines = list(rules), []
    for name in sorted(wanted.keys() - found.tensors.keys()):
        lines.append(f"- {name} {wanted[name]}, from {_foreign_pattern(listed, name)}")
    for name in sorted(found.tensors.keys() - wanted.keys()):
        lines.append(f"+ {found.origin[name]} (would be {name})")
    for name in sorted(wanted.keys() & found.tensors.keys()):
        got = tuple(found.tensors[name].shape)
        if got != wanted[name]:
            lines.append(f"! {name} expected {wanted[name]}, got {got} from {found.origin[name]}")
    if lines:
        raise ConvertError(f"{source} does not fill the network (- missing, + surplus, ! shape):\n" + "\n".join(lines))


def _match(rules: list[Rule], name: str) -> tuple[Rule | None, Parts]:
    for rule in rules:
        fit = _expression(rule.foreign).fullmatch(name)
        if fit is not None:
            return rule, fit.groupdict()
    return None, {}


@lru_cache(maxsize=1024)
def _expression(pattern: str) -> "re.Pattern[str]":
    text = re.escape(pattern).replace(r"\*", ".*")
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^.]+)", text))


def _numbered(own: str, pieces: list[Tensor]) -> dict[str, Tensor]:
    return {own.replace("{each}", str(number)): piece for number, piece in enumerate(pieces)}


def _foreign_pattern(rules: list[Rule], own: str) -> str:
    fits = [rule.foreign for rule in rules if rule.own is not None and _expression(rule.own).fullmatch(own)]
    return " or ".join(fits) or "no rule"
