"""How many CPUs this process may really use: its affinity, and the quota of its control group (version 1 or 2)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def usable_cpus(root: Path = Path("/")) -> int:
    """At least 1. A container with a quota of 1.5 CPUs gets 2 threads.

    Args:
        root: where /proc and /sys lie; tests make their own.
    """
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        count = os.cpu_count() or 1
    quota = min(_quotas(root), default=None)
    return max(1, count if quota is None else min(count, -int(-quota // 1)))


def group_folders(controller: str, root: Path = Path("/")) -> Iterator[tuple[int, Path]]:
    """(version, folder) of the control groups that hold this process, ours first, then those around it.

    Args:
        controller: "cpu" or "memory"; version 2 has one tree for all of them.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if (number, names) == ("0", ""):
            version, mounts = 2, [root / "sys/fs/cgroup"]
        elif controller in names.split(","):  # mounted by the controller's name, or by all that share the tree
            version, mounts = 1, [root / "sys/fs/cgroup" / name for name in dict.fromkeys((controller, names))]
        else:
            continue
        group = Path(path.strip("/"))
        yield from ((version, mount / folder) for mount in mounts for folder in (group, *group.parents))


def _quotas(root: Path) -> Iterator[float]:
    """In CPUs, of every group that has one."""
    for version, folder in group_folders("cpu", root):
        try:
            if version == 2:
                quota, period = (folder / "cpu.max").read_text().split()
            else:
                quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            if int(quota) > 0:  # version 1 says -1 for none
                yield int(quota) / int(period)
        except (OSError, ValueError, ZeroDivisionError):  # no such file, or "max": no quota
            continue
