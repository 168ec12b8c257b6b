"""A machine is told from its files alone: Jetsons by recorded trees, this one by what Python itself knows of it."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from slimpath.runtime.doctor.jetson import read_jetson
from slimpath.runtime.doctor.machine import Machine, read_machine
from slimpath.tests.runtime.device_trees import JETSONS, put, unpack

EXPECTED = {
    "orin-nano-jetpack6": {
        "model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
        "system": "Ubuntu 22.04 LTS", "kernel": "5.15.148-tegra", "cpu": "Cortex-A78AE",
        "features": ("asimd", "asimddp", "asimdhp"), "memory_mb": 7849, "free_mb": 4861,
        "cuda": "12.6.11", "cudnn": "9.3.0.75", "tensorrt": "10.3.0.30", "driver": "", "platform": "jetpack6",
        "jetson": ("Orin, SM 8.7", "p3767-0005", "36.4.4", "6.2.1", "25W", (2, "MAXN_SUPER")),
    },
    "orin-nx-jetpack6": {
        "model": "NVIDIA Jetson Orin NX Engineering Reference Developer Kit",
        "system": "Ubuntu 22.04 LTS", "kernel": "5.15.148-tegra", "cpu": "Cortex-A78AE",
        "features": ("asimd", "asimddp", "asimdhp"), "memory_mb": 7987, "free_mb": 5242,
        "cuda": "12.6.68", "cudnn": "9.3.0.75", "tensorrt": "10.3.0.30", "driver": "", "platform": "jetpack6",
        "jetson": ("Orin, SM 8.7", "p3767-0001", "36.4.3", "6.2", "15W", (0, "MAXN")),
    },
    "agx-orin-jetpack6": {
        "model": "NVIDIA Jetson AGX Orin Developer Kit",
        "system": "Ubuntu 22.04 LTS", "kernel": "5.15.148-tegra", "cpu": "Cortex-A78AE",
        "features": ("asimd", "asimddp", "asimdhp"), "memory_mb": 65829, "free_mb": 51166,
        "cuda": "12.6.68", "cudnn": "9.3.0.75", "tensorrt": "10.3.0.30", "driver": "", "platform": "jetpack6",
        "jetson": ("Orin, SM 8.7", "p3701-0005", "36.4.0", "6.1", "MODE_30W", (0, "MAXN")),
    },
    "agx-thor-jetpack7": {
        "model": "NVIDIA Jetson AGX Thor Developer Kit",
        "system": "Ubuntu 24.04 LTS", "kernel": "6.8.12-tegra", "cpu": "Neoverse-V3AE",
        "features": ("asimd", "asimddp", "asimdhp", "bf16", "i8mm", "sve", "sve2"), "memory_mb": 131914,
        "free_mb": 121332, "cuda": "13.0.48", "cudnn": "9.12.0.46", "tensorrt": "10.13.3.9", "driver": "580.00",
        "platform": "jetpack7", "jetson": ("Thor, SM 11.0", "p3834-0008", "38.2.0", "7.0", "120W", (0, "MAXN")),
    },
}  # fmt: skip


@pytest.fixture
def jetson(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    return read_machine(unpack(request.param, tmp_path), architecture="aarch64", python="3.10.12", glibc="2.35")


@pytest.mark.parametrize(("jetson", "name"), [(name, name) for name in JETSONS], indirect=["jetson"])
def test_jetson_is_told_from_its_files(jetson: Machine, name: str):
    found = jetson.jetson
    assert found is not None
    seen = {key: getattr(jetson, key) for key in EXPECTED[name] if key != "jetson"}
    seen["jetson"] = (
        found.chip, found.module, found.l4t, found.jetpack, found.power_mode, found.unlimited_mode,
    )  # fmt: skip
    assert seen == EXPECTED[name]
    assert jetson.nvidia_gpu and (jetson.python, jetson.glibc, jetson.architecture) == ("3.10.12", "2.35", "aarch64")


def test_a_machine_that_says_nothing_is_described_all_the_same(tmp_path: Path):
    machine = read_machine(tmp_path)
    assert machine.jetson is None and not machine.nvidia_gpu
    assert (machine.model, machine.cuda, machine.tensorrt, machine.memory_mb) == ("", "", "", 0)
    assert machine.python == platform.python_version() and machine.cpus >= 1


def test_this_machine_is_what_python_says_it_is():
    machine = read_machine()
    assert machine.architecture == platform.machine() and machine.kernel == platform.release()
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6
    assert machine.memory_mb == pytest.approx(total, rel=0.05)
    assert 0 < machine.free_mb <= machine.memory_mb
    assert machine.platform == ("x86" if platform.machine() == "x86_64" else machine.platform)
    assert set(machine.features) <= set(Path("/proc/cpuinfo").read_text().split())


@pytest.mark.parametrize(
    ("release", "jetpack"),
    [
        ("# R39 (release), REVISION: 2.0, GCID: 45755727, BOARD: generic, EABI: aarch64, DATE: Mon Jun  1", "7.2"),
        ("# R36 (release), REVISION: 9.9, GCID: 1, BOARD: generic", "6.x"),  # newer than the table
        ("# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref", "5.1.2"),
        ("not a release", ""),
    ],
)
def test_jetpack_follows_from_the_release(tmp_path: Path, release: str, jetpack: str):
    put(tmp_path, "/etc/nv_tegra_release", release)
    found = read_jetson(tmp_path)
    assert found is not None and found.jetpack == jetpack


def test_container_on_a_jetson_is_still_a_jetson(tmp_path: Path):
    put(tmp_path, "/proc/device-tree/compatible", "nvidia,p3768-0000+p3767-0005 nvidia,p3767-0005 nvidia,tegra234")
    machine = read_machine(tmp_path, architecture="aarch64")
    assert machine.jetson is not None and machine.jetson.l4t == machine.jetson.jetpack == ""
    assert machine.platform == "arm"  # which JetPack is unknown: no command for one would be safe


def test_power_mode_that_the_configuration_does_not_name_is_told_by_its_number(tmp_path: Path):
    unpack("orin-nano-jetpack6", tmp_path)
    put(tmp_path, "/var/lib/nvpmodel/status", "pmode:0007")
    found = read_jetson(tmp_path)
    assert found is not None and found.power_mode == "mode 7"


def test_packages_that_dpkg_has_removed_do_not_count(tmp_path: Path):
    put(
        tmp_path, "/var/lib/dpkg/status",
        "Package: libnvinfer10\nStatus: deinstall ok config-files\nVersion: 10.3.0.30-1+cuda12.5\n\n"
        "Package: libnvinfer-plugin10\nStatus: install ok installed\nVersion: 10.9.0.1-1+cuda12.5",
    )  # fmt: skip
    assert read_machine(tmp_path).tensorrt == ""


def test_newest_toolkit_counts_where_no_link_points_to_one(tmp_path: Path):
    for version in ("12.4", "12.6"):
        put(tmp_path, f"/usr/local/cuda-{version}/version.json", f'{{"cuda": {{"version": "{version}.1"}}}}')
    put(tmp_path, "/usr/local/cuda/version.json", "damaged")
    assert read_machine(tmp_path).cuda == "12.6.1"
