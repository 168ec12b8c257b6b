"""Meters on copies of the kernel's trees: right, whatever wraps or is missing; and never 0 for unknown."""

from __future__ import annotations

import os
import sys
import time
import types
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimpath.runtime.profiling.energy import SumMeter, find_meter, mean_power_w
from slimpath.runtime.profiling.energy_hwmon import PollingMeter, find_hwmon
from slimpath.runtime.profiling.energy_nvml import find_nvml, gpu_names
from slimpath.runtime.profiling.energy_rapl import RaplMeter, find_rapl

RANGE_UJ = 262_143_328_850


def zone(root: Path, folder: str, name: str, energy_uj: int) -> Path:
    path = root / "sys/class/powercap" / folder
    path.mkdir(parents=True, exist_ok=True)
    for file, value in (("name", name), ("energy_uj", energy_uj), ("max_energy_range_uj", RANGE_UJ)):
        (path / file).write_text(f"{value}\n")
    return path


def ina3221(root: Path, folder: str, rails: dict[str, tuple[int, int]], name: str = "ina3221") -> Path:
    path = root / folder
    path.mkdir(parents=True)
    (path / "name").write_text(name + "\n")
    for number, (label, (millivolts, milliamperes)) in enumerate(rails.items(), 1):
        (path / f"in{number}_label").write_text(label + "\n")
        (path / f"in{number}_input").write_text(f"{millivolts}\n")
        (path / f"curr{number}_input").write_text(f"{milliamperes}\n")
    return path


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


# --- RAPL ------------------------------------------------------------------------------------------------------


def test_rapl_adds_packages_and_memory_but_nothing_twice(tmp_path):
    parts = [
        zone(tmp_path, "intel-rapl:0", "package-0", 1_000_000),
        zone(tmp_path, "intel-rapl:0:1", "dram", 5_000_000),
        zone(tmp_path, "intel-rapl:1", "package-1", 2_000_000),
    ]
    zone(tmp_path, "intel-rapl:0:0", "core", 0)  # inside package-0
    zone(tmp_path, "intel-rapl:2", "psys", 0)  # contains everything
    zone(tmp_path, "intel-rapl-mmio:0", "package-0", 0)  # the same package once more
    (tmp_path / "sys/class/powercap/intel-rapl").mkdir()  # the control type, without a counter
    meter = find_rapl(tmp_path).meter
    assert meter is not None and meter.name == "rapl package-0, dram, package-1"
    assert meter.energy_j() == 0.0
    for path, joules in zip(parts, (3, 4, 5)):
        (path / "energy_uj").write_text(str(int((path / "energy_uj").read_text()) + joules * 1_000_000))
    assert meter.energy_j() == pytest.approx(12.0)
    assert meter.energy_j() == pytest.approx(12.0)


@given(
    start=st.integers(0, RANGE_UJ - 1),
    steps=st.lists(st.integers(0, RANGE_UJ - 1), max_size=6),
)
def test_rapl_counts_on_when_its_counter_wraps(tmp_path_factory, start, steps):
    path = zone(tmp_path_factory.mktemp("rapl"), "intel-rapl:0", "package-0", start)
    meter, now = RaplMeter([path]), start
    for step in steps:
        now = (now + step) % RANGE_UJ
        (path / "energy_uj").write_text(str(now))
        meter.energy_j()
    assert meter.energy_j() == pytest.approx(sum(steps) / 1e6)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_rapl_that_only_root_may_read_says_so(tmp_path):
    (zone(tmp_path, "intel-rapl:0", "package-0", 1) / "energy_uj").chmod(0)
    found = find_rapl(tmp_path)
    assert found.meter is None and "only root" in found.reason


def test_rapl_that_is_refused_or_broken_says_so(tmp_path, monkeypatch):
    path = zone(tmp_path, "intel-rapl:0", "package-0", 1)
    (path / "energy_uj").write_text("none\n")
    assert "cannot be read" in find_rapl(tmp_path).reason
    (path / "name").write_text("uncore\n")
    assert "no package" in find_rapl(tmp_path).reason

    def refuse(self: Path) -> str:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_text", refuse)
    assert "only root may read them" in find_rapl(tmp_path).reason


# --- boards ----------------------------------------------------------------------------------------------------


def test_jetson_takes_the_rail_that_feeds_everything(tmp_path):
    rails = {"VDD_IN": (5000, 2000), "VDD_CPU_GPU_CV": (5000, 900), "VDD_SOC": (5000, 500)}
    ina3221(tmp_path, "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3", rails)
    meter = find_hwmon(tmp_path).meter
    assert isinstance(meter, PollingMeter) and meter.name == "hwmon VDD_IN"
    assert meter._power_w() == pytest.approx(10.0)


def test_board_without_such_a_rail_adds_its_rails(tmp_path):
    ina3221(
        tmp_path, "sys/class/hwmon/hwmon1", {"VDD_GPU_SOC": (19000, 100), "NC": (0, 0), "sum of shunt voltages": (9, 9)}
    )
    ina3221(tmp_path, "sys/class/hwmon/hwmon2", {"VIN_SYS_5V0": (5000, 300)})
    ina3221(tmp_path, "sys/class/hwmon/hwmon0", {"CPU fan": (5000, 5000)}, name="nct6775")  # no power sensor
    meter = find_hwmon(tmp_path).meter
    assert isinstance(meter, PollingMeter) and meter._power_w() == pytest.approx(1.9 + 1.5)


def test_one_sensor_under_two_paths_counts_once(tmp_path):
    real = ina3221(tmp_path, "sys/devices/i2c/hwmon3", {"VDD_GPU": (5000, 100), "VDD_CPU": (5000, 200)})
    for folder in ("sys/bus/i2c/drivers/ina3221/1-0040/hwmon", "sys/class/hwmon"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "hwmon3").symlink_to(real)
    meter = find_hwmon(tmp_path).meter
    assert isinstance(meter, PollingMeter) and meter._power_w() == pytest.approx(1.5)


def test_sensor_in_watts_is_read_in_microwatts(tmp_path):
    folder = tmp_path / "sys/class/hwmon/hwmon0"
    folder.mkdir(parents=True)
    (folder / "name").write_text("power_meter\n")
    (folder / "power1_average").write_text("84000000\n")
    meter = find_hwmon(tmp_path).meter
    assert isinstance(meter, PollingMeter) and meter._power_w() == pytest.approx(84.0)


def test_sensor_that_cannot_be_read_is_no_meter(tmp_path):
    path = ina3221(tmp_path, "sys/class/hwmon/hwmon1", {"VDD_IN": (5000, 100)})
    (path / "curr1_input").write_text("?\n")
    found = find_hwmon(tmp_path)
    assert found.meter is None and "cannot be read" in found.reason


def test_power_is_added_up_between_readings():
    clock, watts = Clock(), [10.0]
    meter = PollingMeter("made up", lambda: watts[0], interval_s=1000.0, clock=clock)
    try:
        assert meter.energy_j() == 0.0
        clock.now, watts[0] = 2.0, 20.0
        assert meter.energy_j() == pytest.approx(30.0)  # from 10 W to 20 W over 2 s
        clock.now = 3.0
        assert meter.energy_j() == pytest.approx(50.0)
    finally:
        meter.close()


def test_reading_that_fails_is_bridged():
    clock = Clock()
    answers = iter([4.0, OSError("gone"), 4.0])

    def power() -> float:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    meter = PollingMeter("made up", power, clock=clock)
    for now in (0.0, 1.0, 2.0):
        clock.now = now
        meter.read_once()
    assert meter._joules == pytest.approx(8.0)


def test_thread_reads_on_its_own_and_ends():
    meter = PollingMeter("made up", lambda: 50.0, interval_s=0.001)
    first = meter.energy_j()
    watts = mean_power_w(meter, 0.05, work=lambda: time.sleep(0.001))
    meter.close()
    meter.close()
    assert meter._thread is None and meter.energy_j() > first
    assert watts == pytest.approx(50.0, rel=0.01)


# --- NVML ------------------------------------------------------------------------------------------------------


class NvmlError(Exception):
    pass


def nvml(**replaced: object) -> types.ModuleType:
    """An imitation of pynvml with one GPU that has used 12.5 J."""
    library = types.ModuleType("pynvml")
    functions = {
        "NVMLError": NvmlError,
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda index: ("gpu", index),
        "nvmlDeviceGetName": lambda handle: b"NVIDIA H200",
        "nvmlDeviceGetTotalEnergyConsumption": lambda handle: 12_500,
        "nvmlSystemGetDriverVersion": lambda: "570.1",
    }
    library.__dict__.update({**functions, **replaced})
    return library


def fail(*_: object) -> object:
    raise NvmlError("Not Supported")


def test_gpu_counts_millijoules(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", nvml())
    meter = find_nvml().meter
    assert meter is not None and meter.name == "nvml NVIDIA H200" and meter.energy_j() == pytest.approx(12.5)
    assert gpu_names() == ("NVIDIA H200 (driver 570.1)",)
    meter.close()


@pytest.mark.parametrize(
    ("library", "reason"),
    [
        (None, "needs the package nvidia-ml-py"),
        (nvml(nvmlInit=fail), "NVML cannot be used: Not Supported"),
        (nvml(nvmlDeviceGetTotalEnergyConsumption=fail), "does not count its energy"),
        (nvml(nvmlDeviceGetHandleByIndex=fail), "does not count its energy"),
    ],
)
def test_gpu_that_cannot_be_asked_is_no_meter(monkeypatch, library, reason):
    monkeypatch.setitem(sys.modules, "pynvml", library)  # None: as if it were not installed
    found = find_nvml()
    assert found.meter is None and reason in found.reason


def test_names_of_gpus_are_empty_where_they_cannot_be_asked(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert gpu_names() == ()
    monkeypatch.setitem(sys.modules, "pynvml", nvml(nvmlDeviceGetCount=fail))
    assert gpu_names() == ()


# --- which of them ----------------------------------------------------------------------------------------------


def test_device_without_sensors_has_no_meter_and_says_why(tmp_path):
    found = find_meter(tmp_path)
    assert found.meter is None and "RAPL" in found.reason and "hwmon" in found.reason


def test_board_comes_before_the_processor(tmp_path):
    zone(tmp_path, "intel-rapl:0", "package-0", 1)
    assert find_meter(tmp_path).meter.name == "rapl package-0"  # type: ignore[union-attr]
    ina3221(tmp_path, "sys/class/hwmon/hwmon1", {"VDD_IN": (5000, 100)})
    assert find_meter(tmp_path).meter.name == "hwmon VDD_IN"  # type: ignore[union-attr]


def test_gpu_and_processor_are_added_and_a_gpu_without_counter_leaves_it_unknown(tmp_path, monkeypatch):
    path = zone(tmp_path, "intel-rapl:0", "package-0", 0)
    monkeypatch.setitem(sys.modules, "pynvml", nvml())
    meter = find_meter(tmp_path, gpu=True).meter
    assert isinstance(meter, SumMeter) and meter.name == "rapl package-0 + nvml NVIDIA H200"
    (path / "energy_uj").write_text("500000")
    assert meter.energy_j() == pytest.approx(13.0) and meter.window_s == 0.2
    meter.close()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert find_meter(tmp_path, gpu=True).meter is None
    assert find_meter(tmp_path, gpu=False).meter is not None


def test_mean_power_is_energy_over_time_over_the_meter_s_window():
    clock, runs = Clock(), []

    class Constant:
        name, window_s = "made up", 0.5

        def energy_j(self) -> float:
            return 7.0 * clock.now

        def close(self) -> None: ...

    def work() -> None:
        clock.now += 0.1
        runs.append(clock.now)

    assert mean_power_w(Constant(), 0.2, work=work, clock=clock) == pytest.approx(7.0)
    assert len(runs) == 5  # the window is longer than what was asked for
