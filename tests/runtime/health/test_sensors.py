"""Heat, brakes and power of recorded Jetsons, and of machines that say little or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from slimpath.runtime.health.reading import EVENT, UNKNOWN_BRAKE, Sensors
from slimpath.runtime.profiling.energy import find_meter
from slimpath.runtime.profiling.energy_hwmon import PollingMeter
from slimpath.tests.runtime.device_trees import JETSONS, put, unpack

CPU_LIMIT = "/sys/devices/system/cpu/cpufreq/policy4/scaling_max_freq"
COOLING = "/sys/class/thermal/cooling_device{}/cur_state"


@pytest.mark.parametrize(
    ("name", "temperature_c", "zone", "limit_c"),
    [
        ("orin-nano-jetpack6", 46.843, "gpu-thermal", 99.0),
        ("orin-nx-jetpack6", 52.312, "cpu-thermal", 99.0),
        ("agx-orin-jetpack6", 77.281, "cpu-thermal", 99.0),
        ("agx-thor-jetpack7", 38.5, "cpu-thermal", 109.0),  # its GPU sleeps: reading that zone fails
    ],
)
def test_hottest_zone_and_its_limit_are_read(
    tmp_path: Path, name: str, temperature_c: float, zone: str, limit_c: float
):
    reading = Sensors(unpack(name, tmp_path)).read()
    assert (reading.temperature_c, reading.zone, reading.limit_c) == (temperature_c, zone, limit_c)
    assert not reading.throttled and reading.brakes == () and reading.slowdown == 1.0


@pytest.mark.parametrize(
    ("name", "watts", "rails"),
    [
        ("orin-nano-jetpack6", 3.584, "hwmon VDD_IN"),
        ("orin-nx-jetpack6", 6.180, "hwmon VDD_IN"),
        ("agx-orin-jetpack6", 23.517, "hwmon VDD_GPU_SOC, VDD_CPU_CV, VIN_SYS_5V0, VDDQ_VDD2_1V8AO"),
        ("agx-thor-jetpack7", 33.6, "hwmon VIN.power1"),  # the input of the kit, not the sum with its rails
    ],
)
def test_power_of_the_whole_board_is_read(tmp_path: Path, name: str, watts: float, rails: str):
    meter = find_meter(unpack(name, tmp_path)).meter
    assert isinstance(meter, PollingMeter) and meter.name == rails
    assert meter.power_w() == pytest.approx(watts, abs=1e-3)


def test_lower_limit_of_a_clock_says_how_much_slower(tmp_path: Path):
    sensors = Sensors(unpack("orin-nano-jetpack6", tmp_path))
    sensors.read()
    put(tmp_path, CPU_LIMIT, 896000)  # of 1,344,000 that the mode allows
    put(tmp_path, COOLING.format(4), 1)  # cpu-throttle-alert
    hot = sensors.read()
    assert hot.slowdown == pytest.approx(1.5) and hot.brakes == ("cpu",) and hot.throttled
    assert hot.text() == "47 °C, cpu held back to 67 %"
    put(tmp_path, CPU_LIMIT, 1344000)
    put(tmp_path, COOLING.format(4), 0)
    assert sensors.read().slowdown == 1.0


def test_new_power_mode_is_no_brake(tmp_path: Path):
    sensors = Sensors(unpack("orin-nano-jetpack6", tmp_path))
    sensors.read()
    put(tmp_path, CPU_LIMIT, 960000)
    put(tmp_path, "/sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq", 960000)
    put(tmp_path, "/var/lib/nvpmodel/status", "pmode:0000")
    assert not sensors.read().throttled


def test_alert_without_a_limit_counts_as_a_brake_of_unknown_strength(tmp_path: Path):
    sensors = Sensors(unpack("agx-thor-jetpack7", tmp_path), gpu=True)
    put(tmp_path, COOLING.format(6), 1)  # gpu-throttle-alert
    assert sensors.read().slowdown == UNKNOWN_BRAKE and sensors.read().brakes == ("gpu",)


@pytest.mark.parametrize(("gpu", "slowdown"), [(True, 918 / 612), (False, 1.0)])
def test_only_the_part_that_answers_counts(tmp_path: Path, gpu: bool, slowdown: float):
    sensors = Sensors(unpack("orin-nano-jetpack6", tmp_path), gpu=gpu)
    sensors.read()
    put(tmp_path, "/sys/class/devfreq/17000000.gpu/max_freq", 612000000)
    put(tmp_path, COOLING.format(5), 1)  # gpu-throttle-alert
    put(tmp_path, COOLING.format(2), 4)  # devfreq-17000000.gpu
    assert sensors.read().slowdown == pytest.approx(slowdown)


@pytest.mark.parametrize("number", [3, 12])  # the fan, and the alert of a warm surface
def test_cooling_that_costs_no_speed_is_no_brake(tmp_path: Path, number: int):
    sensors = Sensors(unpack("orin-nano-jetpack6", tmp_path))
    put(tmp_path, COOLING.format(number), 1)
    assert not sensors.read().throttled


def test_over_current_is_a_brake_while_its_counter_rises(tmp_path: Path):
    put(unpack("orin-nx-jetpack6", tmp_path), "/sys/class/hwmon/hwmon2/oc3_event_cnt", 4)  # since the start: long gone
    sensors = Sensors(tmp_path)
    assert not sensors.read().throttled
    put(tmp_path, "/sys/class/hwmon/hwmon2/oc3_event_cnt", 6)
    braked = sensors.read()
    assert braked.brakes == (EVENT,) and braked.slowdown == UNKNOWN_BRAKE
    assert not sensors.read().throttled


def test_x86_throttle_counters_are_brakes_too(tmp_path: Path):
    counter = "/sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count"
    put(tmp_path, counter, 100)
    sensors = Sensors(tmp_path)
    put(tmp_path, counter, 101)
    assert sensors.read().throttled


@pytest.mark.parametrize("milli", ["", "0", "-256000", "2000000", "not a number"])
def test_sleeping_sensors_are_left_out(tmp_path: Path, milli: str):
    put(tmp_path, "/sys/class/thermal/thermal_zone0/type", "gpu-thermal")
    put(tmp_path, "/sys/class/thermal/thermal_zone0/temp", milli)
    reading = Sensors(tmp_path).read()
    assert reading.temperature_c is None and reading.zone == "" and reading.text() == ""


def test_zones_of_other_parts_count_only_where_the_chip_has_none(tmp_path: Path):
    for number, (kind, milli) in enumerate((("iwlwifi_1", 61000), ("x86_pkg_temp", 48000))):
        put(tmp_path, f"/sys/class/thermal/thermal_zone{number}/type", kind)
        put(tmp_path, f"/sys/class/thermal/thermal_zone{number}/temp", milli)
    assert Sensors(tmp_path).read().zone == "x86_pkg_temp"
    put(tmp_path, "/sys/class/thermal/thermal_zone1/type", "acpitz")
    assert Sensors(tmp_path).read().zone == "iwlwifi_1"


def test_machine_without_such_files_has_no_sensors(tmp_path: Path):
    sensors = Sensors(tmp_path)
    assert not sensors
    assert sensors.read().text() == "" and not sensors.read().throttled


def test_sensor_that_fails_leaves_power_unknown(tmp_path: Path):
    def gone() -> float:
        raise OSError("no such device")

    assert Sensors(tmp_path, power_w=gone).read().power_w is None


@pytest.mark.parametrize("name", JETSONS)
def test_every_file_may_vanish_while_it_is_watched(tmp_path: Path, name: str):
    sensors = Sensors(unpack(name, tmp_path))
    assert sensors
    for path in sorted(tmp_path.rglob("*"), reverse=True):
        if path.is_file():
            path.unlink()
            assert sensors.read().slowdown >= 1
    assert sensors.read().temperature_c is None


def test_reading_is_told_to_machines_in_short_numbers(tmp_path: Path):
    told = Sensors(unpack("orin-nano-jetpack6", tmp_path), power_w=lambda: 3.58444444).read().to_json()
    assert told == {
        "temperature_c": 46.843, "zone": "gpu-thermal", "limit_c": 99.0, "brakes": (), "slowdown": 1.0,
        "power_w": 3.584,
    }  # fmt: skip
