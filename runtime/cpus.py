"""How many CPUs this process may really use: its affinity, and the quota of its control group."""

from __future__ import annotations

import os
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
    quota = _quota(root)
    return max(1, count if quota is None else min(count, -int(-quota // 1)))


def _quota(root: Path) -> float | None:
    """The least quota of our control group and those around it, in CPUs; None where there is none."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    paths = [line[3:].strip("/") for line in lines if line.startswith("0::")]
    group = Path(paths[0]) if paths else Path()
    quotas = [_read_quota(root / "sys/fs/cgroup" / folder / "cpu.max") for folder in (group, *group.parents)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _read_quota(path: Path) -> float | None:
    try:
        quota, period = path.read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # no such file, or "max": no quota
        return None
