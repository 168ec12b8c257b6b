"""Unpacks the devices of tests/fixtures/devices: files of /proc, /sys and /etc, one text file a device."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "fixtures" / "devices"
JETSONS = ("orin-nano-jetpack6", "orin-nx-jetpack6", "agx-orin-jetpack6", "agx-thor-jetpack7")


def unpack(name: str, root: Path) -> Path:
    """Make the files of a device below `root`, as a kernel shows them; returns `root`."""
    for section in ("\n" + (FOLDER / f"{name}.tree").read_text()).split("\n=== ")[1:]:
        path, _, content = section.partition("\n")
        put(root, path, content.removesuffix("\n"))
    return root


def put(root: Path, path: str, content: object) -> None:
    """Write one file of the tree, with the line break that sysfs ends with, or a device tree's zero byte."""
    target = root / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    ending = "\0" if "/device-tree/" in path else "\n"
    text = str(content).replace(" nvidia,", "\0nvidia,") if "/device-tree/" in path else str(content)
    target.write_text(text + ending)
