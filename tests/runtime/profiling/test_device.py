"""The fingerprint: equal on equal devices, and a difference is named."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from slimpath.runtime.profiling.device import busy_share, cpu_times, read_device

X86 = """processor\t: 0
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R) Processor
stepping\t: 8
flags\t\t: fpu sse2 avx2 avx512f amx_int8 fma

processor\t: 1
model name\t: Intel(R) Xeon(R) Processor
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp\nCPU implementer\t: 0x41\nCPU part\t: 0xd42\n"


def machine(root: Path, **files: str) -> Path:
    for name, text in {"proc/cpuinfo": X86, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_processor_instructions_and_governor_are_read(tmp_path):
    governor = {"sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n"}
    device = read_device(machine(tmp_path, **governor))
    assert device.cpu == "Intel(R) Xeon(R) Processor (6.143.8)"
    assert device.features == ("amx_int8", "avx2", "avx512f", "fma")
    assert device.governor == "powersave" and device.board == "" and device.cpus >= 1


def test_board_is_read_from_the_device_tree(tmp_path):
    board = {"proc/cpuinfo": ARM, "proc/device-tree/model": "NVIDIA Jetson Orin Nano\0"}
    device = read_device(machine(tmp_path, **board, **{"var/lib/nvpmodel/status": "pmode:0001"}))
    assert device.cpu == "ARM implementer 0x41 part 0xd42" and device.features == ("asimd", "asimddp")
    assert device.board == "NVIDIA Jetson Orin Nano" and device.power_mode == "pmode:0001"
    assert "Jetson Orin Nano" in str(device)


def test_key_is_the_same_for_the_same_device_and_another_for_another(tmp_path):
    root = machine(tmp_path)
    device = read_device(root)
    assert device.key == read_device(root).key and len(device.key) == 16
    keys = {device.key, read_device(root, gpus=("H200",)).key}
    keys.add(read_device(machine(root, **{"proc/cpuinfo": X86.replace("amx_int8 ", "")})).key)
    assert len(keys) == 3


def test_differences_name_what_changed(tmp_path):
    before = read_device(machine(tmp_path))
    now = msgspec.structs.replace(before, cpus=before.cpus + 2, governor="powersave", features=("avx2", "sve"))
    assert before.differences(before) == []
    assert before.differences(now) == [
        "features without amx_int8, avx512f, fma; now with sve",
        f"cpus was {before.cpus}, is {before.cpus + 2}",
        "governor was unknown, is powersave",
    ]


def test_device_survives_json(tmp_path):
    device = read_device(machine(tmp_path), gpus=("NVIDIA H200 (driver 570)",))
    assert msgspec.json.decode(msgspec.json.encode(device), type=type(device)) == device


def test_system_that_says_nothing_is_still_a_device(tmp_path):
    device = read_device(tmp_path)
    assert device.cpu and device.features == () and device.cpus >= 1


def test_share_of_others_leaves_this_process_out(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/stat").write_text("cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1 2 3\n")
    times = cpu_times(tmp_path)
    assert times is not None and times[1] == pytest.approx(times[0] * 0.2)
    assert busy_share((0, 0, 0), (10.0, 6.0, 2.0)) == pytest.approx(0.4)
    assert busy_share((0, 0, 0), (10.0, 2.0, 3.0)) == 0.0  # ticks are coarse
    assert busy_share(None, times) is None and busy_share(times, times) is None
    assert cpu_times(tmp_path / "nowhere") is None
    (tmp_path / "proc/stat").write_text("something else\n")
    assert cpu_times(tmp_path) is None
