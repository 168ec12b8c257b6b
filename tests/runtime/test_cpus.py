from __future__ import annotations

import os
from pathlib import Path

import pytest

from slimpath.runtime.cpus import usable_cpus


@pytest.fixture
def eight_cpus(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def machine(root: Path, quotas: dict[str, str], group: str = "/a/b") -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(f"1:name=x:/other\n0::{group}\n")
    for folder, text in quotas.items():
        (root / "sys/fs/cgroup" / folder).mkdir(parents=True, exist_ok=True)
        (root / "sys/fs/cgroup" / folder / "cpu.max").write_text(text)
    return root


@pytest.mark.parametrize(
    ("quotas", "expected"),
    [
        ({}, 8),
        ({"a/b": "max 100000\n"}, 8),
        ({"a/b": "200000 100000\n"}, 2),
        ({"a/b": "150000 100000\n"}, 2),  # 1.5 CPUs: two threads
        ({"a/b": "10000 100000\n"}, 1),
        ({"a/b": "max 100000\n", "a": "300000 100000\n"}, 3),  # a group around ours
        ({"a/b": "400000 100000\n", ".": "300000 100000\n"}, 3),
        ({"a/b": "9900000 100000\n"}, 8),
        ({"a/b": "broken"}, 8),
        ({"a/b": "5 0"}, 8),
    ],
)
def test_threads_follow_the_quota_of_the_control_group(eight_cpus, tmp_path, quotas, expected):
    assert usable_cpus(machine(tmp_path, quotas)) == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8),
        ({"cpu/a": (-1, 100000)}, 8),
        ({"cpu/a": (250000, 100000)}, 3),
        ({"cpu": (400000, 100000), "cpu/a": (-1, 100000)}, 4),
        ({"cpu,cpuacct/a": (100000, 100000)}, 1),  # mounted by both names
        ({"cpuacct/a": (100000, 100000)}, 8),
    ],
)
def test_threads_follow_the_quota_of_a_version_1_control_group(eight_cpus, tmp_path, files, expected):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("5:memory:/m\n4:cpu,cpuacct:/a\n0::/\n")
    for folder, numbers in files.items():
        (tmp_path / "sys/fs/cgroup" / folder).mkdir(parents=True, exist_ok=True)
        for name, number in zip(("quota", "period"), numbers):
            (tmp_path / "sys/fs/cgroup" / folder / f"cpu.cfs_{name}_us").write_text(f"{number}\n")
    assert usable_cpus(tmp_path) == expected


def test_affinity_counts_without_control_groups(eight_cpus, tmp_path):
    assert usable_cpus(tmp_path) == 8


def test_system_without_affinity_counts_its_cpus(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert usable_cpus(tmp_path) == 5
