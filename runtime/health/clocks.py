"""Clocks: how far the limits of CPU and GPU clocks are below what the power mode allows, and counters of hard brakes.

The kernel shows a limit as the lowest of all that ask for one: the power mode (nvpmodel), the user, and heat. So the
highest limit seen in a power mode is taken for what that mode allows; one below it is a brake, and says by how much.
Firmware can brake below the kernel (over-current on a Jetson, PROCHOT on x86): only counters of events tell.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ..sysfs import number, text

_GPU = re.compile(r"gpu|ga10b|gv11b|gp10b|gb10b", re.IGNORECASE)
_COUNTERS = (
    "sys/class/hwmon/hwmon*/oc*_event_cnt",  # Jetson: over-current, under-voltage
    "sys/devices/system/cpu/cpu*/thermal_throttle/package_throttle_count",
    "sys/devices/system/cpu/cpu*/thermal_throttle/core_throttle_count",
)


@dataclass
class Clock:
    """One clock's upper limit.

    Args:
        part: "cpu" or "gpu".
        path: of the limit, in the kernel's unit.
    """

    part: str
    path: Path
    allowed: int = 0

    def braked(self) -> float:
        """How many times slower the clock may run than the power mode allows, at least 1."""
        limit = number(self.path)
        if limit is None or limit <= 0:
            return 1.0
        self.allowed = max(self.allowed, limit)
        return self.allowed / limit


class Clocks:
    """All of them. What a mode allows is learnt, and learnt anew when the mode changes.

    Args:
        root: where /sys and /var lie; tests make their own.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._clocks = _find_clocks(root)
        self._mode_file = root / "var/lib/nvpmodel/status"
        self._mode = text(self._mode_file)

    def __bool__(self) -> bool:
        return bool(self._clocks)

    def braked(self, part: str) -> float:
        """The worst of that part's clocks, at least 1: work that is spread over CPUs waits for the slowest."""
        if (mode := text(self._mode_file)) != self._mode:
            self._mode = mode
            for clock in self._clocks:
                clock.allowed = 0
        return max((clock.braked() for clock in self._clocks if clock.part == part), default=1.0)


class Counters:
    """Counts of brakes below the kernel; what counts is that one rises, not how high it is since the start."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._paths = [path for pattern in _COUNTERS for path in sorted(root.glob(pattern))]
        self._last = self._sum()

    def __bool__(self) -> bool:
        return bool(self._paths)

    def rose(self) -> bool:
        """Has one risen since the last call?"""
        before, self._last = self._last, self._sum()
        return self._last > before

    def _sum(self) -> int:
        return sum(number(path) or 0 for path in self._paths)


def _find_clocks(root: Path) -> list[Clock]:
    policies = sorted(root.glob("sys/devices/system/cpu/cpufreq/policy*/scaling_max_freq"))
    engines = sorted(
        path
        for path in root.glob("sys/class/devfreq/*/max_freq")
        if _GPU.search(path.parent.name) or _GPU.search(text(path.parent / "device/of_node/name"))
    )
    return [Clock("cpu", path) for path in policies] + [Clock("gpu", path) for path in engines]
