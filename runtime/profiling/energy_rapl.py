"""RAPL: the energy counters of x86 processors, through /sys/class/powercap.

A zone is a folder with `name`, `energy_uj` (microjoules, wraps around) and `max_energy_range_uj` (where). Zones
"package-N" count a processor with all its parts; their children "core" and "uncore" are contained in them, "dram" is
not. "psys" contains everything and is not there on servers: it is left out, so that figures compare across machines.
The same package appears once more under intel-rapl-mmio, with another counter.
Source: Documentation/power/powercap/powercap.rst of the Linux kernel.
"""

from __future__ import annotations

import re
from pathlib import Path

from .energy import FoundMeter

_ZONE = re.compile(r"intel-rapl:\d+(:\d+)?")  # AMD processors appear under this name too


class RaplMeter:
    """The sum of packages and memory.

    Args:
        zones: folders of zones that do not contain one another.

    Raises:
        OSError: a counter cannot be read.
        ValueError: a counter holds no number.
    """

    # Counters move every millisecond; 50 ms make that 2 %.
    window_s = 0.05

    def __init__(self, zones: list[Path]) -> None:
        self._zones = zones
        self.name = "rapl " + ", ".join(_read(zone / "name") for zone in zones)
        self._range_uj = [int(_read(zone / "max_energy_range_uj")) for zone in zones]
        self._last_uj = [int(_read(zone / "energy_uj")) for zone in zones]
        self._total_uj = 0

    def energy_j(self) -> float:
        """Joules since the meter was made. A counter that fell has wrapped once (at 200 W after 5 to 20 minutes)."""
        for index, zone in enumerate(self._zones):
            now_uj = int(_read(zone / "energy_uj"))
            step_uj = now_uj - self._last_uj[index]
            self._total_uj += step_uj if step_uj >= 0 else step_uj + self._range_uj[index]
            self._last_uj[index] = now_uj
        return self._total_uj / 1e6

    def close(self) -> None:
        """Nothing is held open."""


def find_rapl(root: Path = Path("/")) -> FoundMeter:
    """The processor's counters, or why they cannot be used."""
    folder = root / "sys/class/powercap"
    try:
        names = sorted(entry.name for entry in folder.iterdir() if _ZONE.fullmatch(entry.name))
    except OSError:
        names = []
    if not names:
        return FoundMeter(None, "no RAPL counters (/sys/class/powercap; virtual machines have none)")
    try:
        zones = [folder / name for name in names if re.fullmatch(r"package-\d+|dram", _read(folder / name / "name"))]
        return FoundMeter(RaplMeter(zones)) if zones else FoundMeter(None, "RAPL counts no package here")
    except PermissionError as error:
        return FoundMeter(None, f"RAPL counters are there, but only root may read them ({error.filename})")
    except (OSError, ValueError) as error:
        return FoundMeter(None, f"RAPL counters cannot be read: {error}")


def _read(path: Path) -> str:
    return path.read_text().strip()
