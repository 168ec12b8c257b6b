"""A thread that looks and tells; none where there is nothing to look at, and none that outlives its engine."""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from time import monotonic, sleep

import pytest

from slimpath.runtime.errors import BudgetError
from slimpath.runtime.health.power_limit import PowerLimit
from slimpath.runtime.health.reading import Sensors
from slimpath.runtime.health.watch import MeanPower, Watch, watch
from slimpath.runtime.running.controller import Controller
from slimpath.runtime.running.opening import watch_for
from slimpath.tests.runtime.device_trees import put, unpack

ALERT = "/sys/class/thermal/cooling_device4/cur_state"


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("slimpath-")]


def wait_for(condition) -> bool:  # type: ignore[no-untyped-def]
    end = monotonic() + 20
    while not condition() and monotonic() < end:
        sleep(0.01)
    return condition()


class Counter:
    """A meter on paper: 7 W."""

    name, window_s = "paper", 1.0

    def __init__(self) -> None:
        self.now_s, self.closed = 0.0, False

    def energy_j(self) -> float:
        return 7.0 * self.now_s

    def close(self) -> None:
        self.closed = True


def test_machine_without_sensors_gets_no_thread(tmp_path: Path):
    before = threads()
    assert watch(Controller(), power=True, root=tmp_path) is None
    assert threads() == before


def test_brake_reaches_the_controller(tmp_path: Path):
    controller = Controller(headroom=1.1)
    made = watch(controller, root=unpack("orin-nano-jetpack6", tmp_path))
    assert made is not None and made.latest is not None and made.latest.zone == "gpu-thermal"
    try:
        assert controller.slowdown == pytest.approx(1.0)
        put(tmp_path, ALERT, 1)
        assert wait_for(lambda: controller.state.throttle > 1.0)
        assert controller.slowdown > 1.2
    finally:
        made.close()
    made.close()
    assert "slimpath-health" not in threads()


def test_sensor_in_watts_is_read_without_a_thread_of_its_own(tmp_path: Path):
    made = watch(power=True, root=unpack("agx-orin-jetpack6", tmp_path))
    assert made is not None and made.latest is not None
    assert made.latest.power_w == pytest.approx(23.5, abs=0.1) and "slimpath-energy" not in threads()
    made.close()


def test_counter_of_joules_is_read_as_mean_watts(tmp_path: Path):
    zone = "/sys/class/powercap/intel-rapl:0"
    for name, value in (("name", "package-0"), ("energy_uj", 0), ("max_energy_range_uj", 262143328850)):
        put(tmp_path, f"{zone}/{name}", value)
    put(tmp_path, "/sys/class/thermal/thermal_zone0/type", "x86_pkg_temp")
    put(tmp_path, "/sys/class/thermal/thermal_zone0/temp", 48000)
    made = watch(power=True, root=tmp_path)
    assert made is not None
    put(tmp_path, f"{zone}/energy_uj", 60_000_000)
    assert wait_for(lambda: made.latest is not None and (made.latest.power_w or 0) > 0)
    made.close()


def test_power_limit_presses_the_controller(tmp_path: Path):
    now = [0.0]
    meter, controller = Counter(), Controller()
    mean = MeanPower(meter, clock=lambda: now[0])
    made = Watch(Sensors(tmp_path, power_w=mean.read_w), controller, PowerLimit(5.0), meter=meter, clock=lambda: now[0])
    for _ in range(20):
        now[0] += 0.5
        meter.now_s = now[0]
        made.look()
    assert controller.state.pressure > 1.3
    made.close()
    assert meter.closed


def test_mean_power_is_of_the_time_between_two_looks():
    now, meter = [0.0], Counter()
    mean = MeanPower(meter, clock=lambda: now[0])
    assert mean.read_w() is None  # no time has passed
    now[0], meter.now_s = 2.0, 2.0
    assert mean.read_w() == pytest.approx(7.0)


def test_limit_without_sensors_is_refused_with_the_reason(tmp_path: Path):
    with pytest.raises(BudgetError, match="10 W cannot be held: no power sensors of the board"):
        watch(Controller(), limit_w=10.0, root=tmp_path)


def test_watch_of_an_engine_that_nobody_closed_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import slimpath.runtime.health.watch as module

    root = unpack("orin-nano-jetpack6", tmp_path)
    real = module.watch
    monkeypatch.setattr(module, "watch", lambda controller, *, gpu: real(controller, gpu=gpu, root=root))

    class Engine:
        backend = type("Backend", (), {"uses_gpu": True})()

    engine = Engine()
    assert watch_for(engine, Controller()) is not None  # type: ignore[arg-type]
    assert "slimpath-health" in threads()
    del engine
    gc.collect()
    assert wait_for(lambda: "slimpath-health" not in threads())
