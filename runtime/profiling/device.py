"""What a device is, as far as it decides how fast a graph runs: a profile holds on the device that it was taken on.

Read from /proc and /sys without any library; a GPU's name from NVIDIA's, where it is installed.
"""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

import msgspec

from ..cpuinfo import cpu_features, cpu_fields, cpu_model
from ..cpus import usable_cpus
from ..sysfs import text


class Device(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fingerprint of a device.

    Args:
        system: operating system and processor family, "Linux x86_64".
        cpu: the processor's model, as the kernel calls it.
        features: instruction sets that matter for inference, sorted.
        cpus: how many CPUs this process may use (affinity and control group).
        board: such as "NVIDIA Jetson Orin Nano"; "" where the firmware does not say.
        governor: of the CPU's clock, or "" where unknown (virtual machines).
        power_mode: a Jetson's nvpmodel, or "".
        gpus: names, with the driver's version.
    """

    system: str
    cpu: str
    features: tuple[str, ...]
    cpus: int
    board: str = ""
    governor: str = ""
    power_mode: str = ""
    gpus: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """16 hex digits, equal for equal devices."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:16]

    def differences(self, now: Device) -> list[str]:
        """What is not as it was, each as "cpus was 2, is 4"; empty where the same device."""
        found = []
        for name in self.__struct_fields__:
            before, after = getattr(self, name), getattr(now, name)
            if isinstance(before, tuple) and before != after:
                lost, gained = (sorted(set(a) - set(b)) for a, b in ((before, after), (after, before)))
                found.append(f"{name} {'; '.join(_listed('without', lost) + _listed('now with', gained))}")
            elif before != after:
                found.append(f"{name} was {_words(before)}, is {_words(after)}")
        return found

    def __str__(self) -> str:
        named = ", ".join(filter(None, (self.board, self.cpu, *self.gpus)))
        extra = ", ".join(filter(None, (self.governor, self.power_mode)))
        return f"{named}, {self.cpus} CPU{'s' if self.cpus != 1 else ''}{f' ({extra})' if extra else ''}"


def read_device(root: Path = Path("/"), *, gpus: tuple[str, ...] = ()) -> Device:
    """The device that this process runs on.

    Args:
        root: where /proc and /sys lie; tests make their own.
        gpus: names of those that the backend uses; a GPU that it does not use changes nothing.
    """
    fields = cpu_fields(root)
    return Device(
        system=f"{platform.system()} {platform.machine()}",
        cpu=cpu_model(fields),
        features=cpu_features(fields),
        cpus=usable_cpus(root),
        board=text(root / "proc/device-tree/model"),
        governor=text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        power_mode=text(root / "var/lib/nvpmodel/status"),
        gpus=gpus,
    )


def busy_share(before: tuple[float, ...] | None, after: tuple[float, ...] | None) -> float | None:
    """How much of the CPUs *others* used between two readings of `cpu_times`, in [0, 1]; None where unknown."""
    if before is None or after is None:
        return None
    total, busy, own = (now - then for now, then in zip(after, before))
    return None if total <= 0 else min(max((busy - own) / total, 0.0), 1.0)


def cpu_times(root: Path = Path("/")) -> tuple[float, float, float] | None:
    """Seconds so far of all CPUs: in all, not idle, and of this process alone; None where the kernel does not say."""
    try:
        words = (root / "proc/stat").read_text().split("\n", 1)[0].split()
        ticks = [int(word) for word in words[1:9]]  # guest time is already in user time
    except (OSError, ValueError):
        return None
    if len(ticks) < 5 or words[0] != "cpu":
        return None
    per_second = os.sysconf("SC_CLK_TCK")
    own = os.times()
    return sum(ticks) / per_second, (sum(ticks) - ticks[3] - ticks[4]) / per_second, own.user + own.system


def _words(value: object) -> str:
    return "unknown" if value == "" else str(value)


def _listed(word: str, names: list[str]) -> list[str]:
    return [f"{word} {', '.join(names)}"] if names else []
