"""What an engine was built on and from. TensorRT promises that a plan runs where all of this is the same, no more."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import msgspec

from .cuda import DeviceFacts


class Fingerprint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that decides whether an engine may be loaded.

    Args:
        tensorrt: the library's version, all of it.
        sm: compute capability, "8.7".
        device: the GPU's name: devices of one capability differ in clocks, units and memory.
        driver: of the kernel module where it can be read, else the CUDA version that the driver supports.
        jetpack: the L4T release of a Jetson, "36.4.3"; "" elsewhere.
        bundle: SHA-256 of the manifest, which holds the hashes of graphs and weights.
        graph: SHA-256 of the ONNX file.
    """

    tensorrt: str
    sm: str
    device: str
    driver: str
    jetpack: str
    bundle: str
    graph: str

    def differences(self, here: Fingerprint) -> list[str]:
        """What is not as it was when the engine was built, each as "TensorRT 10.3.0, here 10.16.1"."""
        return [
            f"{word} {_short(before)}, here {_short(now)}"
            for field, word in _WORDS.items()
            if (before := getattr(self, field)) != (now := getattr(here, field))
        ]

    @property
    def device_key(self) -> str:
        """16 hex digits, equal on equal devices with equal libraries: what timings of tactics are kept by."""
        parts = (self.tensorrt, self.sm, self.device, self.driver, self.jetpack)
        return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:16]


_WORDS = {
    "tensorrt": "TensorRT",
    "sm": "compute capability",
    "device": "device",
    "driver": "driver",
    "jetpack": "L4T release",
    "bundle": "bundle",
    "graph": "graph",
}


def take_fingerprint(
    facts: DeviceFacts, tensorrt: str, *, bundle: str, graph_sha256: str, root: Path = Path("/")
) -> Fingerprint:
    """The fingerprint that an engine of this graph has if it is built here and now.

    Args:
        bundle: digest of the bundle.
        root: where /proc and /etc lie; tests make their own.
    """
    return Fingerprint(
        tensorrt=tensorrt,
        sm=facts.sm,
        device=facts.name,
        driver=read_driver(root) or f"CUDA {facts.driver_cuda}",
        jetpack=read_l4t(root),
        bundle=bundle,
        graph=graph_sha256,
    )


def read_driver(root: Path = Path("/")) -> str:
    """The version of NVIDIA's kernel module, "550.54.15"; "" where the kernel does not say (older Jetsons)."""
    found = re.search(r"NVRM version:.*?\s(\d+\.\d+(?:\.\d+)?)\s", _read(root / "proc/driver/nvidia/version"))
    return found[1] if found else ""


def read_l4t(root: Path = Path("/")) -> str:
    """A Jetson's L4T release, "36.4.3" out of "# R36 (release), REVISION: 4.3, ..."; "" elsewhere."""
    found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", _read(root / "etc/nv_tegra_release"))
    return f"{found[1]}.{found[2]}" if found else ""


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _short(value: str) -> str:
    """Hashes by their first 12 digits."""
    return value[:12] if len(value) == 64 else value or "none"
