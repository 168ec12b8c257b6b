"""A thread that looks at the device four times a second and tells the controller; none where nothing can be seen."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from .reading import Reading, Sensors

if TYPE_CHECKING:
    from ..profiling.energy import Meter
    from ..running.controller import Controller
    from .power_limit import PowerLimit

EVERY_S = 0.25  # heat changes in seconds, brakes at once; a look takes under a millisecond
LEAST_S = 0.1  # over less the sensors' own steps would show


class Watch:
    """Looks until it is closed.

    Args:
        sensors: where to look.
        controller: told of brakes, and pressed by the power limit; None for looking only.
        limit: of power, where there is one.
        meter: that the sensors read power from; closed here.
    """

    def __init__(
        self,
        sensors: Sensors,
        controller: Controller | None = None,
        limit: PowerLimit | None = None,
        *,
        meter: Meter | None = None,
        every_s: float = EVERY_S,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._sensors, self._controller, self._limit, self._meter = sensors, controller, limit, meter
        self._every_s, self._clock = every_s, clock
        self._latest: Reading | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def latest(self) -> Reading | None:
        """What was seen last; None before the first look."""
        return self._latest

    def start(self) -> Watch:
        """Look once, then go on in a thread that does not keep the process alive."""
        self.look()
        self._thread = threading.Thread(target=self._run, name="slimpath-health", daemon=True)
        self._thread.start()
        return self

    def look(self) -> Reading:
        """Look once and pass on what was seen."""
        reading = self._sensors.read()
        now = self._clock()
        if self._controller is not None:
            self._controller.throttled(reading.slowdown, now)
            if self._limit is not None and reading.power_w is not None:
                self._controller.press(self._limit.observe(reading.power_w, now))
        self._latest = reading
        return reading

    def close(self) -> None:
        """End the thread. A second call does nothing."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._meter is not None:
            self._meter.close()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            self.look()


def watch(
    controller: Controller | None = None,
    *,
    gpu: bool = False,
    power: bool = False,
    limit_w: float | None = None,
    root: Path = Path("/"),
) -> Watch | None:
    """Start looking; None where this device has no files to look at.

    Args:
        controller: told of brakes.
        gpu: whether answers come from the GPU.
        power: also read the power sensors, where there are any.
        limit_w: keep the device below so many watts; needs the sensors and a controller.
        root: where /sys lies; tests make their own.

    Raises:
        BudgetError: a limit in watts, and no power sensors to hold it by.
    """
    from ..profiling.energy import find_meter

    found = find_meter(root, gpu=gpu) if power or limit_w is not None else None
    meter = None if found is None else found.meter
    if limit_w is not None and meter is None:
        from ..errors import BudgetError

        reason = found.reason if found is not None else ""
        raise BudgetError(
            f"{limit_w:g} W cannot be held: {reason}", hint="leave the limit out, or ask for a lower rate or budget"
        )
    sensors = Sensors(root, gpu=gpu, power_w=_power(meter))
    if not sensors and meter is None:
        return None
    limit = None
    if limit_w is not None:
        from .power_limit import PowerLimit

        limit = PowerLimit(limit_w)
    return Watch(sensors, controller, limit, meter=meter).start()


def _power(meter: Meter | None) -> Callable[[], float | None]:
    """Sensors that show watts are read as they are, without the thread that makes energy of them."""
    from ..profiling.energy_hwmon import PollingMeter

    if meter is None:
        return lambda: None
    return meter.power_w if isinstance(meter, PollingMeter) else MeanPower(meter).read_w


class MeanPower:
    """Mean watts between two looks at a meter that counts joules.

    Args:
        clock: seconds, rising.
    """

    def __init__(self, meter: Meter, *, clock: Callable[[], float] = monotonic) -> None:
        self._meter, self._clock = meter, clock
        self._last = (meter.energy_j(), clock())
        self._mean_w: float | None = None

    def read_w(self) -> float | None:
        """Since the last look; None where that was only a moment ago, and it the first.

        Raises:
            OSError: the sensor has gone.
        """
        (then_j, then_s), now = self._last, (self._meter.energy_j(), self._clock())
        if now[1] - then_s >= LEAST_S:
            self._last = now
            self._mean_w = (now[0] - then_j) / (now[1] - then_s)
        return self._mean_w
