"""Power sensors of boards, through hwmon: the INA3221 of Jetson modules, and sensors that give watts themselves.

An INA3221 channel N has inN_label, inN_input (mV) and currN_input (mA). Modules of the Orin NX and Nano class have one
rail that feeds everything, VDD_IN (POM_5V_IN, VDD_5V_IN on older ones); an AGX has none: its rails are added, which
leaves the carrier board out. A Thor has an INA238 besides, at the input of the whole kit. Other sensors give
powerN_input or powerN_average in microwatts.
They show power, not energy, so a thread reads them often and adds it up.
Written against the kernel's interface and tested on copies of its trees; unverified on a Jetson.
Source: Documentation/hwmon/{ina3221,sysfs-interface}.rst of the Linux kernel; NVIDIA's Jetson Linux guide.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from ..sysfs import text
from .energy import FoundMeter

_WHOLE_BOARD = ("VDD_IN", "POM_5V_IN", "VDD_5V_IN")
_INPUT_SENSOR = "ina238"  # beside an INA3221, it is what feeds everything
_NO_RAIL = re.compile(r"NC|.*sum.*", re.IGNORECASE)  # a channel that is not connected; the chip's own sum of shunts
_WATT_SENSORS = frozenset({"ina2xx", "ina219", "ina220", "ina226", "ina230", "ina231", "power_meter"})


_Rail = tuple[str, Callable[[], float]]  # its name, and what reads its watts


class PollingMeter:
    """Adds up the power of a sensor, read in a thread of its own.

    Args:
        power_w: reads the sensor; OSError and ValueError skip a reading.
        interval_s: between readings. The INA3221 averages over some 10 ms to 1 s, as the board sets it.
    """

    window_s = 2.0  # some 40 readings, and long against what the sensor averages over

    def __init__(
        self,
        name: str,
        power_w: Callable[[], float],
        *,
        interval_s: float = 0.05,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self.name = name
        self._power_w, self._interval_s, self._clock = power_w, interval_s, clock
        self._joules = 0.0
        self._last: tuple[float, float] | None = None  # seconds, watts
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def power_w(self) -> float:
        """What the sensor shows now.

        Raises:
            OSError, ValueError: it cannot be read.
        """
        return self._power_w()

    def energy_j(self) -> float:
        """Joules since the first call, which starts the reading."""
        if self._thread is None and not self._stop.is_set():
            self._thread = threading.Thread(target=self._poll, name="slimpath-energy", daemon=True)
            self._thread.start()
        self.read_once()
        with self._lock:
            return self._joules

    def read_once(self) -> None:
        """Take a reading; between two of them power is taken to change evenly."""
        try:
            watts = self._power_w()
        except (OSError, ValueError):
            return
        with self._lock:
            now = self._clock()
            if self._last is not None:
                seconds, before = self._last
                self._joules += (now - seconds) * (before + watts) / 2
            self._last = now, watts

    def close(self) -> None:
        """End the thread. A second call does nothing."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _poll(self) -> None:
        while not self._stop.wait(self._interval_s):
            self.read_once()


def find_hwmon(root: Path = Path("/")) -> FoundMeter:
    """The board's power sensors, or why there are none."""
    module, inputs, others = _rails(root)
    rails = module + inputs + others
    if not rails:
        return FoundMeter(None, "no power sensors of the board (hwmon)")
    whole = [rail for name in _WHOLE_BOARD for rail in rails if rail[0] == name] or (inputs if module else [])
    names, reads = zip(*(whole[:1] or rails))
    try:
        sum(read() for read in reads)
    except (OSError, ValueError) as error:
        return FoundMeter(None, f"the board's power sensors cannot be read: {error}")
    return FoundMeter(PollingMeter("hwmon " + ", ".join(names), lambda: sum(read() for read in reads)))


def _rails(root: Path) -> tuple[list[_Rail], list[_Rail], list[_Rail]]:
    """Of INA3221s, of sensors that may be the input of everything, and of others."""
    module: list[_Rail] = []
    inputs: list[_Rail] = []
    others: list[_Rail] = []
    for folder in _sensors(root):
        kind = text(folder / "name")
        if kind == "ina3221" or folder.parent.parent.parent.name == "ina3221":
            module += _ina3221_rails(folder)
        elif kind == _INPUT_SENSOR:
            inputs += _watt_rails(folder, "VIN")
        elif kind in _WATT_SENSORS:
            others += _watt_rails(folder, kind)
    return module, inputs, others


def _sensors(root: Path) -> list[Path]:
    """hwmon folders: of the class, and on older Jetson kernels below the driver; each once."""
    found: dict[Path, Path] = {}
    for pattern in ("sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*", "sys/class/hwmon/hwmon*"):
        for path in sorted(root.glob(pattern)):
            found.setdefault(path.resolve(), path)
    return list(found.values())


def _ina3221_rails(folder: Path) -> list[_Rail]:
    rails: list[_Rail] = []
    for label in sorted(folder.glob("in*_label")):
        number, name = label.name[2:-6], text(label)
        volts, amperes = folder / f"in{number}_input", folder / f"curr{number}_input"
        if name and not _NO_RAIL.fullmatch(name) and volts.exists() and amperes.exists():
            read = lambda v=volts, a=amperes: int(v.read_text()) * int(a.read_text()) / 1e6  # noqa: E731  mV * mA
            rails.append((name, read))
    return rails


def _watt_rails(folder: Path, kind: str) -> list[_Rail]:
    paths = {
        path.name.split("_")[0]: path for pattern in ("average", "input") for path in folder.glob(f"power*_{pattern}")
    }
    return [
        (text(folder / f"{number}_label") or f"{kind}.{number}", lambda p=path: int(p.read_text()) / 1e6)
        for number, path in sorted(paths.items())
    ]
