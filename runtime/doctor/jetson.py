"""What only a Jetson has: its release of Linux for Tegra, the JetPack that this belongs to, its power mode.

Source of the table: NVIDIA's JetPack archive, as rbonghi/jetson_stats had it on 2026-07-30.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ..sysfs import text

_JETPACKS = {
    "39.2.0": "7.2", "39.0.0": "7.2 EA", "38.4.0": "7.1", "38.2.2": "7.0", "38.2.1": "7.0", "38.2.0": "7.0",
    "36.5.0": "6.2.2", "36.4.7": "6.2.1", "36.4.4": "6.2.1", "36.4.3": "6.2", "36.4.2": "6.1", "36.4.0": "6.1",
    "36.3.0": "6.0", "36.2.0": "6.0 DP",
    "35.6.4": "5.1.6", "35.6.3": "5.1.5", "35.6.2": "5.1.5", "35.6.1": "5.1.5", "35.6.0": "5.1.4", "35.5.0": "5.1.3",
    "35.4.1": "5.1.2", "35.3.1": "5.1.1", "35.2.1": "5.1", "35.1.0": "5.0.2",
}  # fmt: skip
_MAJOR = {"39": "7.x", "38": "7.x", "36": "6.x", "35": "5.x", "34": "5.x", "32": "4.x"}  # of releases not listed
_CHIPS = {"tegra264": "Thor, SM 11.0", "tegra234": "Orin, SM 8.7", "tegra194": "Xavier, SM 7.2"}


@dataclass(frozen=True)
class Jetson:
    """A Jetson module.

    Args:
        chip: such as "Orin, SM 8.7"; "" where the firmware does not say.
        module: its part number, "p3767-0005".
        l4t: release of Linux for Tegra, "36.4.4"; "" where none is installed (a container).
        jetpack: that this belongs to, "6.2.1".
        power_mode: "25W"; "" where unknown.
        power_modes: all of this module, by their number.
    """

    chip: str
    module: str
    l4t: str
    jetpack: str
    power_mode: str
    power_modes: dict[int, str]

    @property
    def unlimited_mode(self) -> tuple[int, str] | None:
        """Number and name of the mode that limits nothing, if this module has one."""
        for number, name in self.power_modes.items():
            if name.upper().startswith("MAXN"):
                return number, name
        return None


def read_jetson(root: Path = Path("/")) -> Jetson | None:
    """The Jetson that this is; None for any other machine."""
    compatible = text(root / "proc/device-tree/compatible").split("\0")
    release = text(root / "etc/nv_tegra_release")
    chips = [name.removeprefix("nvidia,") for name in compatible if name.startswith("nvidia,tegra")]
    if not chips and not release:
        return None
    l4t = _l4t(release)
    modes = _power_modes(text(root / "etc/nvpmodel.conf"))
    modules = [found[0] for name in compatible if (found := re.search(r"p\d{4}-\d{4}$", name)) is not None]
    return Jetson(
        chip=next((_CHIPS[chip] for chip in chips if chip in _CHIPS), chips[0] if chips else ""),
        module=modules[-1] if modules else "",
        l4t=l4t,
        jetpack=_JETPACKS.get(l4t) or _MAJOR.get(l4t.partition(".")[0], ""),
        power_mode=_mode(text(root / "var/lib/nvpmodel/status"), modes),
        power_modes=modes,
    )


def _l4t(release: str) -> str:
    found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", release)
    return "" if found is None else f"{found[1]}.{found[2]}"


def _power_modes(configuration: str) -> dict[int, str]:
    found = re.findall(r"^\s*<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>", configuration, re.MULTILINE)
    return {int(number): name for number, name in found}


def _mode(status: str, modes: dict[int, str]) -> str:
    found = re.search(r"pmode:(\d+)", status)
    return "" if found is None else modes.get(int(found[1]), f"mode {int(found[1])}")
