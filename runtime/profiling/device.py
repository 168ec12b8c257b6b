"""What a device is, as far as it decides how fast a graph runs: a profile holds on the device that it was taken on.

Read from /proc and /sys without any library; a GPU's name from NVIDIA's, where it is installed.
"""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

import msgspec

from ..cpus import usable_cpus

# Instruction sets that inference libraries choose their kernels by (x86: MLAS, oneDNN; ARM: also KleidiAI).
_FEATURES = {
    "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16",
    "amx_tile", "amx_int8", "amx_bf16", "neon", "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme",
}  # fmt: skip


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
    fields = _cpuinfo(root)
    return Device(
        system=f"{platform.system()} {platform.machine()}",
        cpu=_cpu_model(fields),
        features=tuple(sorted(_FEATURES & set((fields.get("flags") or fields.get("features") or "").split()))),
        cpus=usable_cpus(root),
        board=_text(root / "proc/device-tree/model"),
        governor=_text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        power_mode=_text(root / "var/lib/nvpmodel/status"),
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


def _cpuinfo(root: Path) -> dict[str, str]:
    """The first value of every field of /proc/cpuinfo, by its name in lower case."""
    fields: dict[str, str] = {}
    for line in _text(root / "proc/cpuinfo").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip().lower(), value.strip())
    return fields


def _cpu_model(fields: dict[str, str]) -> str:
    if "model name" in fields:
        # Virtual machines give whole families one name; the numbers tell them apart.
        numbers = [fields[name] for name in ("cpu family", "model", "stepping") if name in fields]
        return f"{fields['model name']}{' (' + '.'.join(numbers) + ')' if numbers else ''}"
    if "cpu part" in fields:  # ARM kernels name no model
        return f"ARM implementer {fields.get('cpu implementer', '?')} part {fields['cpu part']}"
    return platform.processor() or platform.machine()


def _text(path: Path) -> str:
    """A file's text without the zero byte that device trees end with; "" where there is none."""
    try:
        return path.read_text(errors="replace").rstrip("\0").strip()
    except OSError:
        return ""


def _words(value: object) -> str:
    return "unknown" if value == "" else str(value)


def _listed(word: str, names: list[str]) -> list[str]:
    return [f"{word} {', '.join(names)}"] if names else []
