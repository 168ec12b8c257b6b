"""What the sensors say at one moment, and what it means for how fast answers come."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .clocks import Clocks, Counters
from .thermal import find_brakes, find_zones

# A brake whose strength no file tells is taken for this until the answers have shown what it is: three of them.
UNKNOWN_BRAKE = 1.25
EVENT = "firmware"  # a brake below the kernel: over-current, under-voltage, PROCHOT
NO_BRAKE = 1.01  # limits that differ by less are rounding
MOST_BRAKED = 10.0


@dataclass(frozen=True)
class Reading:
    """One look at the device.

    Args:
        temperature_c: of the hottest zone of the chip; None where none can be read.
        zone: its name.
        limit_c: where the kernel begins to hold that zone's clocks back; None where it does not say.
        brakes: what holds the device back, "cpu", "gpu", "soc0", "firmware"; empty where nothing does.
        slowdown: how many times slower clock-bound work is expected to run than without, at least 1.
        power_w: of everything on the board's rails; None where there are no sensors.
    """

    temperature_c: float | None
    zone: str
    limit_c: float | None
    brakes: tuple[str, ...]
    slowdown: float
    power_w: float | None

    @property
    def throttled(self) -> bool:
        """Is the device held back?"""
        return self.slowdown > 1

    def text(self) -> str:
        """In a few words: "61 °C, 9.8 W, cpu held back to 68 %"; "" where nothing is known."""
        parts = [] if self.temperature_c is None else [f"{self.temperature_c:.0f} °C"]
        if self.power_w is not None:
            parts.append(f"{self.power_w:.1f} W")
        if self.throttled:
            parts.append(f"{' and '.join(self.brakes)} held back to {100 / self.slowdown:.0f} %")
        return ", ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Numbers rounded to what is worth reading."""
        values = dataclasses.asdict(self)
        return {name: round(value, 3) if isinstance(value, float) else value for name, value in values.items()}


class Sensors:
    """The files that tell of heat, brakes and power, found once. False where there are none.

    Args:
        root: where /sys lies; tests make their own.
        gpu: whether answers come from the GPU: then its clocks count, and not the CPU's.
        power_w: reads the board's power; OSError and ValueError where a reading fails.
    """

    def __init__(
        self, root: Path = Path("/"), *, gpu: bool = False, power_w: Callable[[], float | None] = lambda: None
    ) -> None:
        self._part = "gpu" if gpu else "cpu"
        self._zones, self._brakes = find_zones(root), find_brakes(root)
        self._clocks, self._counters = Clocks(root), Counters(root)
        self._power_w = power_w

    def __bool__(self) -> bool:
        return bool(self._zones or self._brakes or self._clocks or self._counters)

    def read(self) -> Reading:
        """Look once. Never fails: what cannot be read is unknown."""
        temperatures = [(celsius, zone) for zone in self._zones if (celsius := zone.read_c()) is not None]
        hottest, zone = max(temperatures, key=lambda pair: pair[0], default=(None, None))
        brakes, slowdown = self._held_back()
        try:
            power_w = self._power_w()
        except (OSError, ValueError):
            power_w = None
        name, limit_c = ("", None) if zone is None else (zone.name, zone.limit_c)
        return Reading(hottest, name, limit_c, brakes, slowdown, power_w)

    def _held_back(self) -> tuple[tuple[str, ...], float]:
        """The brakes that matter here, and how much: heat of the other part costs nothing."""
        on = tuple(dict.fromkeys(brake.part for brake in self._brakes if brake.on()))
        on = tuple(part for part in on if part == self._part or part.startswith("soc"))
        if self._counters.rose():
            on += (EVENT,)
        slowdown = min(self._clocks.braked(self._part), MOST_BRAKED)
        if slowdown >= NO_BRAKE:
            return on or (self._part,), slowdown
        return on, UNKNOWN_BRAKE if on else 1.0
