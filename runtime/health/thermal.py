"""Thermal zones (how hot) and cooling devices (what is done about it), as the kernel's thermal framework has them.

A Jetson has a cooling device "cpu-throttle-alert" (gpu-, soc0-, cv0-, ...) whose state is above zero while the
firmware holds that part back, and "cpufreq-..." and "devfreq-..." whose state is how many steps of the clock are taken
away. Other boards have the last two kinds ("thermal-cpufreq-0"), x86 "Processor". Fans are cooling devices too.
Source: Documentation/driver-api/thermal/sysfs-api.rst of the Linux kernel; the Jetson Linux Developer Guide.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ..sysfs import number, text

_CHIP = re.compile(r"cpu|gpu|soc|tj|pkg|core|cv\d", re.IGNORECASE)
_OFFLINE_C = (-40.0, 150.0)  # a zone whose part sleeps says 0, -256, or nothing
_HOLDS_BACK = re.compile(
    r"(.+)-throttle-alert|(?:thermal-)?(cpufreq-?.*|gpufreq-?.*|devfreq-.*(?:gpu|ga10b|gv11b).*)|(Processor)"
)
_LEAST_LIMIT_C = 30.0  # firmware tables have trip points of 0 and below that mean nothing


@dataclass(frozen=True)
class Zone:
    """A thermal zone.

    Args:
        name: such as "cpu-thermal".
        limit_c: where the kernel begins to hold the clocks back; None where it does not say.
    """

    name: str
    path: Path
    limit_c: float | None

    def read_c(self) -> float | None:
        """Degrees Celsius; None while the part sleeps: then reading fails, or gives a number that is none."""
        milli = number(self.path / "temp")
        if milli is None or milli == 0 or not _OFFLINE_C[0] < milli / 1e3 < _OFFLINE_C[1]:
            return None
        return milli / 1e3


@dataclass(frozen=True)
class Brake:
    """A cooling device that costs speed.

    Args:
        part: what it slows down: "cpu", "gpu", "soc0", "cv1".
    """

    part: str
    path: Path

    def on(self) -> bool:
        """Is it braking now?"""
        return (number(self.path / "cur_state") or 0) > 0


def find_zones(root: Path = Path("/")) -> list[Zone]:
    """Zones of the chip; where none is named so, all of them."""
    zones = [
        Zone(text(path / "type"), path, _limit_c(path))
        for path in sorted(root.glob("sys/class/thermal/thermal_zone*"), key=_by_number)
    ]
    return [zone for zone in zones if _CHIP.search(zone.name)] or zones


def find_brakes(root: Path = Path("/")) -> list[Brake]:
    """Cooling devices that take speed away; no fans, no alerts of a warm surface."""
    brakes: list[Brake] = []
    for path in sorted(root.glob("sys/class/thermal/cooling_device*"), key=_by_number):
        kind = text(path / "type")
        if (found := _HOLDS_BACK.fullmatch(kind)) is not None:
            brakes.append(Brake(_part(found), path))
    return brakes


def _part(found: re.Match[str]) -> str:
    alert, clock, _ = found.groups()
    if alert:
        return alert
    return "cpu" if clock is None or clock.startswith("cpufreq") else "gpu"


def _limit_c(zone: Path) -> float | None:
    limits = [
        (number(zone / kind.name.replace("_type", "_temp")) or 0) / 1e3
        for kind in zone.glob("trip_point_*_type")
        if text(kind) == "passive"
    ]
    return min((limit for limit in limits if limit > _LEAST_LIMIT_C), default=None)


def _by_number(path: Path) -> int:
    return int(re.sub(r"\D", "", path.name) or 0)
