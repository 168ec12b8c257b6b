"""The knob: "20ms", "0.5", "1.5GFLOPs", "300MB", "50mJ", "width=0.5", "top_k=2", and combinations: "20ms,300MB".

Limits (time, compute, memory, energy, share) hold all at once; pins fix a part of the configuration.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from ..errors import BudgetError

# A bare number is a share of the full configuration's FLOPs for the requested tasks; a text is parsed; None is full.
BudgetRequest = str | float | int | None

EXAMPLES = (
    '"20ms", "0.5" (half the FLOPs), "1.5GFLOPs", "700MMACs", "300MB", "50mJ", "width=0.5", "top_k=2", "20ms,300MB"'
)

# What servers call a single limit or pin among a request's parameters (our own, and Triton), and its text in a budget.
PARAMETERS = {
    "budget_ms": "{}ms",
    "budget_mflops": "{}MFLOPs",
    "budget_mem_mb": "{}MB",
    "budget_mj": "{}mJ",
    "width": "width={}",
    "top_k": "top_k={}",
}


@dataclass(frozen=True)
class Budget:
    """What a request may spend, all limits at once, and the parts of the configuration that it pins.

    Args:
        share: of the FLOPs of the full configuration for the requested tasks, in (0, 1].
        flops: of one image with these tasks.
        width: encoder width, and decoder width unless `decoder_width` says otherwise.
        text: as it was asked for.
        latency_ms: of one engine() call, from decoded array to Result.
        memory_mb: weights touched plus peak activations of the plan, in 1e6 bytes.
        energy_mj: of one call.
        cheapest: "min": the cheapest configuration instead of the best one; floors of the tasks hold.
    """

    share: float | None = None
    flops: int | None = None
    width: float | None = None
    decoder_width: float | None = None
    top_k: int | None = None
    text: str = "full"
    latency_ms: float | None = None
    memory_mb: float | None = None
    energy_mj: float | None = None
    precision: str | None = None
    cheapest: bool = False


def parse_budget(request: BudgetRequest | Budget) -> Budget:
    """Read a budget.

    Raises:
        BudgetError: not a budget.
    """
    if request is None:
        return Budget()
    if isinstance(request, Budget):
        return request
    if not isinstance(request, (str, int, float)) or isinstance(request, bool):
        try:
            if isinstance(request, bool):
                raise TypeError
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
    values: dict[str, float | str] = {}
    for term in text.split(","):
        name, value = _parse_term(term.strip(), text)
        if name in values:
            raise BudgetError(f"the budget {text!r} says {name} twice", hint="say each part once")
        values[name] = value
    limits = [name for name in ("share", "flops", "latency_ms", "memory_mb", "energy_mj") if name in values]
    if values.get("share") == 1.0 and len(limits) > 1:
        raise BudgetError(
            f"the budget {text!r} has two limits, of which a share of 1 is none",
            hint='a decimal has a point, not a comma: "1.5GFLOPs"',
        )
    if "cheapest" in values and limits:
        raise BudgetError(f"the budget {text!r} asks for the cheapest and gives limits", hint="give one of the two")
    return Budget(text=text.strip(), **values)  # type: ignore[arg-type]  # _parse_term gives each field its own type


_NUMBER = r"([0-9]+(?:\.[0-9]*)?(?:e[+-]?[0-9]+)?|\.[0-9]+(?:e[+-]?[0-9]+)?)"
_COMPUTE = re.compile(_NUMBER + r"\s*([kmgt]?)(flops?|macs?)", re.IGNORECASE)
_MEASURED = re.compile(_NUMBER + r"\s*(us|ms|s|kb|mb|gb|kib|mib|gib|uj|mj|j)", re.IGNORECASE)
_RATE = re.compile(_NUMBER + r"\s*(fps|hz|w|mw)", re.IGNORECASE)
_SHARE = re.compile(_NUMBER + r"(\s*%)?", re.IGNORECASE)
_PIN = re.compile(r"(width|decoder_width|top_k|precision)\s*=\s*(\S+)")
_PREFIX = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_MEASURED_UNITS = {
    "us": ("latency_ms", 1e-3), "ms": ("latency_ms", 1.0), "s": ("latency_ms", 1e3),
    "kb": ("memory_mb", 1e-3), "mb": ("memory_mb", 1.0), "gb": ("memory_mb", 1e3),
    "kib": ("memory_mb", 2**10 / 1e6), "mib": ("memory_mb", 2**20 / 1e6), "gib": ("memory_mb", 2**30 / 1e6),
    "uj": ("energy_mj", 1e-3), "mj": ("energy_mj", 1.0), "j": ("energy_mj", 1e3),
}  # fmt: skip


def _parse_term(term: str, text: str) -> tuple[str, float | str]:
    if term.lower() == "min":
        return "cheapest", True
    if found := _PIN.fullmatch(term):
        return found[1], _pin(found[1], found[2])
    if found := _COMPUTE.fullmatch(term):
        return "flops", _flops(float(found[1]) * _PREFIX[found[2].lower()], found[3], term)
    if found := _MEASURED.fullmatch(term):
        return _measured(float(found[1]), found[2].lower(), term)
    if found := _RATE.fullmatch(term):
        raise BudgetError(f"the budget {term!r} is a rate; a budget is for one call", hint=_rate_hint(*found.groups()))
    if found := _SHARE.fullmatch(term):
        return "share", _share(float(found[1]) / (100 if found[2] else 1), term)
    raise BudgetError(f"cannot read {term!r} in the budget {text!r}", hint=f"budgets look like {EXAMPLES}")


def _flops(count: float, unit: str, term: str) -> int:
    flops = count * (2 if unit.lower().startswith("mac") else 1)
    if not 1 <= flops < 1e30:
        raise BudgetError(f"the budget {term!r} must be at least 1 FLOP", hint='for example "1.5GFLOPs"')
    return int(flops)


def _measured(number: float, unit: str, term: str) -> tuple[str, float]:
    name, scale = _MEASURED_UNITS[unit]
    if not 0 < number * scale < 1e12:
        raise BudgetError(f"the budget {term!r} must be above 0", hint='for example "20ms", "300MB" or "50mJ"')
    return name, number * scale


def _rate_hint(number: str, unit: str) -> str:
    if unit.lower() in ("fps", "hz") and float(number) > 0:
        return f'for {float(number):g} calls a second say "{1000 / float(number):.4g}ms"'
    return 'say what one call may use, for example "50mJ"'


def _share(share: float, text: str) -> float:
    if not (math.isfinite(share) and 0 < share <= 1):
        raise BudgetError(
            f"a share of the full FLOPs must be above 0 and at most 1, got {text}",
            hint='for FLOPs write the unit, for example "1.5GFLOPs"; for time "20ms"',
        )
    return share


def _pin(name: str, text: str) -> float | int | str:
    if name == "precision":
        return text.lower()
    expected = "a whole number from 1 up" if name == "top_k" else "above 0 and at most 1"
    try:
        value = int(text) if name == "top_k" else float(text)
    except ValueError:
        value = math.nan
    if not (value >= 1 if name == "top_k" else 0 < value <= 1) or value > 1e6:
        example = "top_k=2" if name == "top_k" else f"{name}=0.5"
        raise BudgetError(f"{name} must be {expected}, got {text!r}", hint=f"for example {example}")
    return value
