"""What a machine is, as far as it decides what can be installed and how fast it will be."""

from __future__ import annotations

import json
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from ..cpuinfo import cpu_features, cpu_fields, cpu_model
from ..cpus import usable_cpus
from ..sysfs import text
from .jetson import Jetson, read_jetson

# ARM kernels give a number for the model. Source: arch/arm64/include/asm/cputype.h of the Linux kernel.
_ARM_PARTS = {
    "0xd03": "Cortex-A53", "0xd07": "Cortex-A57", "0xd08": "Cortex-A72", "0xd0b": "Cortex-A76", "0xd42": "Cortex-A78AE",
    "0xd0c": "Neoverse-N1", "0xd40": "Neoverse-V1", "0xd49": "Neoverse-N2", "0xd4f": "Neoverse-V2",
    "0xd83": "Neoverse-V3AE", "0xd84": "Neoverse-V3",
}  # fmt: skip
_GPU_FILES = ("dev/nvidia0", "dev/nvhost-gpu", "dev/nvmap", "proc/driver/nvidia/version")


@dataclass(frozen=True)
class Machine:
    """A machine; what is not known is "".

    Args:
        model: of the board, "NVIDIA Jetson AGX Orin Developer Kit".
        architecture: "x86_64" or "aarch64".
        cpus: how many this process may use (affinity and control group).
        memory_mb: in all, in 1e6 bytes; free_mb: available to new processes. 0 where unknown.
        nvidia_gpu: whether there is an NVIDIA GPU with its driver.
        cuda, tensorrt, cudnn: versions that the system has, outside of Python.
    """

    model: str
    system: str
    kernel: str
    architecture: str
    cpu: str
    cpus: int
    features: tuple[str, ...]
    memory_mb: int
    free_mb: int
    python: str
    glibc: str
    in_venv: bool
    nvidia_gpu: bool
    driver: str
    cuda: str
    cudnn: str
    tensorrt: str
    jetson: Jetson | None

    @property
    def platform(self) -> str:
        """Which column of the table of commands holds here: "jetpack6", "jetpack7", "x86" or "arm"."""
        if self.jetson is not None:
            major = self.jetson.jetpack.partition(".")[0]
            return f"jetpack{major}" if major in ("6", "7") else "arm"
        return "arm" if self.architecture in ("aarch64", "arm64") else "x86"


def read_machine(
    root: Path = Path("/"),
    *,
    architecture: str | None = None,
    python: str | None = None,
    glibc: str | None = None,
    in_venv: bool | None = None,
) -> Machine:
    """The machine whose files lie under `root`; what only a running process knows can be given for another one.

    Args:
        root: where /proc, /sys, /etc, /var and /usr lie; tests make their own.
        python: "3.10.12"; by default that of this process, as are the others.
    """
    fields = cpu_fields(root)
    packages = _debian_versions(root)
    memory = _memory_mb(root)
    return Machine(
        model=text(root / "proc/device-tree/model") or text(root / "sys/class/dmi/id/product_name"),
        system=_system_name(root),
        kernel=text(root / "proc/sys/kernel/osrelease"),
        architecture=platform.machine() if architecture is None else architecture,
        cpu=_ARM_PARTS.get(fields.get("cpu part", ""), "") or cpu_model(fields),
        cpus=usable_cpus(root),
        features=cpu_features(fields),
        memory_mb=memory.get("MemTotal", 0),
        free_mb=memory.get("MemAvailable", 0),
        python=platform.python_version() if python is None else python,
        glibc=platform.libc_ver()[1] if glibc is None else glibc,
        in_venv=sys.prefix != sys.base_prefix if in_venv is None else in_venv,
        nvidia_gpu=any((root / file).exists() for file in _GPU_FILES),
        driver=_driver(root),
        cuda=_cuda(root),
        cudnn=_version(packages, r"libcudnn\d+(-cuda-\d+)?"),
        tensorrt=_version(packages, r"libnvinfer\d+"),
        jetson=read_jetson(root),
    )


def _system_name(root: Path) -> str:
    found = re.search(r'^PRETTY_NAME="?([^"\n]*)', text(root / "etc/os-release"), re.MULTILINE)
    return "" if found is None else found[1]


def _memory_mb(root: Path) -> dict[str, int]:
    found = re.findall(r"^(\w+):\s+(\d+) kB", text(root / "proc/meminfo"), re.MULTILINE)
    return {name: int(kilobytes) * 1024 // 1_000_000 for name, kilobytes in found}


def _driver(root: Path) -> str:
    loaded = text(root / "sys/module/nvidia/version")
    found = re.search(r"\b(\d{3,}(?:\.\d+)+)\b", text(root / "proc/driver/nvidia/version"))
    return loaded or ("" if found is None else found[1])


def _cuda(root: Path) -> str:
    """Of the toolkit that /usr/local/cuda points to, else of the newest beside it."""
    folders = [root / "usr/local/cuda", *sorted(root.glob("usr/local/cuda-*"), reverse=True)]
    for folder in folders:
        try:
            return str(json.loads((folder / "version.json").read_text(encoding="utf-8"))["cuda"]["version"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return ""


def _debian_versions(root: Path) -> dict[str, str]:
    """NVIDIA's packages that dpkg says are installed: name -> version."""
    found: dict[str, str] = {}
    for entry in text(root / "var/lib/dpkg/status").split("\n\n"):
        name = re.search(r"^Package: ((?:libnvinfer|libcudnn)\S*)$", entry, re.MULTILINE)
        version = re.search(r"^Version: (\S+)$", entry, re.MULTILINE)
        if name and version and "Status: install ok installed" in entry:
            found[name[1]] = version[1]
    return found


def _version(packages: dict[str, str], name: str) -> str:
    """The upstream part of "10.3.0.30-1+cuda12.5"."""
    return next((version.partition("-")[0] for key, version in packages.items() if re.fullmatch(name, key)), "")
