"""What Python has installed, by the names of distributions: what overwrites each other, what is out of range."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib import metadata

# Distributions of one group install the same module: the last one wins, and removing one breaks the other.
GROUPS = {
    "onnxruntime": (
        "onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml", "onnxruntime-qnn",
        "ort-nightly", "ort-nightly-gpu",
    ),
    "opencv": (
        "opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless",
    ),
}  # fmt: skip
# What slimpath's code imports from outside, beside the modules of its own dependencies; shown if it is there.
OPTIONAL = (
    "openvino", "torch", "torchvision", "onnx", "tensorrt", "nvidia-ml-py", "fastapi", "uvicorn", "scikit-image",
    "matplotlib",
)  # fmt: skip


def installed_versions(path: list[str] | None = None) -> dict[str, str]:
    """Name in lower case with dashes -> version, of everything that this Python can import.

    Args:
        path: folders to look in instead of sys.path.
    """
    found: dict[str, str] = {}
    for distribution in metadata.distributions() if path is None else metadata.distributions(path=path):
        name = distribution.metadata["Name"] if distribution.metadata is not None else None
        if name:  # a half-removed package has none
            found.setdefault(normal(name), distribution.version)
    return found


def normal(name: str) -> str:
    """The one spelling of a distribution's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def doubles(installed: Mapping[str, str]) -> dict[str, list[str]]:
    """Group -> its members that are installed, where there is more than one."""
    members = {group: [name for name in names if name in installed] for group, names in GROUPS.items()}
    return {group: names for group, names in members.items() if len(names) > 1}


def requirements(of: Iterable[str]) -> dict[str, str]:
    """Name -> bounds, of requirements without conditions: those of extras have some.

    Args:
        of: such as "numpy<3,>=1.26" or 'torch>=2.13; extra == "export"'.
    """
    plain = (line.partition(";") for line in of)
    parsed = (re.fullmatch(r"\s*([A-Za-z0-9._-]+)\s*\(?([^()]*)\)?\s*", head) for head, mark, _ in plain if not mark)
    return {normal(found[1]): found[2].replace(" ", "") for found in parsed if found is not None}


def extras(of: Iterable[str], installed: Mapping[str, str]) -> dict[str, list[str]]:
    """Extra -> the distributions that it lacks, of requirements as `requirements` takes them.

    Those that only some versions of Python need are left out: whether this is one, pip knows.
    """
    wanted: dict[str, list[str]] = {}
    for line in of:
        head, _, condition = line.partition(";")
        name = re.fullmatch(r"\s*extra\s*==\s*[\"'](\w[\w-]*)[\"']\s*", condition)
        if name is not None:
            wanted.setdefault(name[1], []).append(head.strip())
    return {
        extra: sorted(name for name in _members(extra, wanted) if name not in installed) for extra in sorted(wanted)
    }


def _members(extra: str, wanted: Mapping[str, list[str]]) -> set[str]:
    """Distributions of an extra and of those of slimpath's that it names: "slimpath[export,plot]"."""
    found: set[str] = set()
    for line in wanted.get(extra, ()):
        parts = re.match(r"([A-Za-z0-9._-]+)\s*(?:\[([^\]]*)\])?", line)
        if parts is None:
            continue
        if normal(parts[1]) == "slimpath":
            found |= set().union(*(_members(name.strip(), wanted) for name in (parts[2] or "").split(",")))
        else:
            found.add(normal(parts[1]))
    return found


def unmet(bounds: str, version: str) -> str:
    """The bound that a version breaks; "" where it keeps them all. Only >=, >, <, <=, == and != are known here.

    Args:
        bounds: ">=1.26,<3".
    """
    for bound in filter(None, bounds.split(",")):
        found = re.fullmatch(r"(>=|<=|==|!=|<|>)([\d.]+).*", bound)
        if found is None:
            continue
        have, want = _numbers(version), _numbers(found[2])
        length = max(len(have), len(want))
        have, want = have + (0,) * (length - len(have)), want + (0,) * (length - len(want))
        kept = {
            ">=": have >= want, "<=": have <= want, "<": have < want, ">": have > want, "==": have == want,
            "!=": have != want,
        }[found[1]]  # fmt: skip
        if not kept:
            return bound
    return ""


def provider_of(group: str, installed: Mapping[str, str]) -> str:
    """The installed distribution that gives a group's module, with its version: "onnxruntime-gpu 1.29.0", or ""."""
    return next((f"{name} {installed[name]}" for name in reversed(GROUPS[group]) if name in installed), "")


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()
