"""The knob: "0.5", "1.5GFLOPs", "700MMACs", "width=0.5", "top_k=2", and combinations such as "0.5,top_k=1"."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from .errors import BudgetError

# A bare number is a share of the full configuration's FLOPs for the requested tasks; a text is parsed; None is full.
BudgetRequest = str | float | int | None

EXAMPLES = '"0.5" (half the FLOPs), "1.5GFLOPs", "700MMACs", "width=0.5", "top_k=2", "0.5,top_k=1"'


@dataclass(frozen=True)
class Budget:
    """What a request may spend. At most one of `share` and `flops`; the other fields pin parts of the configuration.

    Args:
        share: of the FLOPs of the full configuration for the requested tasks, in (0, 1].
        flops: absolute limit.
        width: encoder width, and decoder width unless `decoder_width` says otherwise.
        text: as it was asked for.
    """

    share: float | None = None
    flops: int | None = None
    width: float | None = None
    decoder_width: float | None = None
    top_k: int | None = None
    text: str = "full"


def parse_budget(request: BudgetRequest | Budget) -> Budget:
    """Read a budget.

    Raises:
        BudgetError: not a budget, or one in ms, MB or mJ, which needs a device profile.
    """
    if request is None:
        return Budget()
    if isinstance(request, Budget):
        return request
    if isinstance(request, bool) or not isinstance(request, (str, int, float)):
        try:
            request = float(request)  # type: ignore[arg-type]  # NumPy scalars; the except names what else came
        except (TypeError, ValueError):
            raise BudgetError(
                f"a budget must be a number or a text, got {type(request).__name__}", hint=f"for example {EXAMPLES}"
            ) from None
    if isinstance(request, (int, float)):
        return Budget(share=_share(float(request), str(request)), text=f"{request:g}")
    return _parse_text(request)


def _parse_text(text: str) -> Budget:
    if text.strip().lower() in ("full", "max"):
        return Budget()
    values: dict[str, float] = {}
    for term in text.split(","):
        name, value = _parse_term(term.strip(), text)
        if name in values:
            raise BudgetError(f"the budget {text!r} says {name} twice", hint="say each part once")
        values[name] = value
    if "share" in values and "flops" in values:
        raise BudgetError(f"the budget {text!r} has two limits", hint="give a share or FLOPs, not both")
    return Budget(
        share=values.get("share"),
        flops=int(values["flops"]) if "flops" in values else None,
        width=values.get("width"),
        decoder_width=values.get("decoder_width"),
        top_k=int(values["top_k"]) if "top_k" in values else None,
        text=text.strip(),
    )


_NUMBER = r"([0-9]+(?:\.[0-9]*)?(?:e[+-]?[0-9]+)?|\.[0-9]+(?:e[+-]?[0-9]+)?)"
_COMPUTE = re.compile(_NUMBER + r"\s*([kmgt]?)(flops?|macs?)", re.IGNORECASE)
_MEASURED = re.compile(_NUMBER + r"\s*(us|ms|s|kb|mb|gb|kib|mib|gib|j|mj|uj|fps|w)", re.IGNORECASE)
_SHARE = re.compile(_NUMBER + r"(\s*%)?", re.IGNORECASE)
_PIN = re.compile(r"(width|decoder_width|top_k)\s*=\s*(\S+)")
_PREFIX = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def _parse_term(term: str, text: str) -> tuple[str, float]:
    if found := _PIN.fullmatch(term):
        return found[1], _pin(found[1], found[2])
    if found := _COMPUTE.fullmatch(term):
        per_unit = 2 if found[3].lower().startswith("mac") else 1
        flops = float(found[1]) * _PREFIX[found[2].lower()] * per_unit
        if not 1 <= flops < 1e30:
            raise BudgetError(f"the budget {term!r} must be at least 1 FLOP", hint='for example "1.5GFLOPs"')
        return "flops", flops
    if found := _MEASURED.fullmatch(term):
        raise BudgetError(
            f"the budget {term!r} needs a profile of this device, which this version does not measure yet",
            hint=f"use FLOPs or a share: {EXAMPLES}",
        )
    if found := _SHARE.fullmatch(term):
        return "share", _share(float(found[1]) / (100 if found[2] else 1), term)
    raise BudgetError(f"cannot read {term!r} in the budget {text!r}", hint=f"budgets look like {EXAMPLES}")


def _share(share: float, text: str) -> float:
    if not (math.isfinite(share) and 0 < share <= 1):
        raise BudgetError(
            f"a share of the full FLOPs must be above 0 and at most 1, got {text}",
            hint='for FLOPs write the unit, for example "1.5GFLOPs"',
        )
    return share


def _pin(name: str, text: str) -> float:
    expected = "a whole number from 1 up" if name == "top_k" else "above 0 and at most 1"
    try:
        value = float(int(text)) if name == "top_k" else float(text)
    except ValueError:
        value = math.nan
    if not (value >= 1 if name == "top_k" else 0 < value <= 1) or value > 1e6:
        example = "top_k=2" if name == "top_k" else f"{name}=0.5"
        raise BudgetError(f"{name} must be {expected}, got {text!r}", hint=f"for example {example}")
    return value
