"""Meters: how much energy the device has used, from whichever sensors it has. Without any there is no meter: unknown.

    RAPL       x86 servers and laptops: counters per processor package and memory    energy_rapl.py
    hwmon      Jetson and other boards: INA3221 and alike, power sensors read often   energy_hwmon.py
    NVML       NVIDIA GPUs other than Jetson's: a counter per board                   energy_nvml.py

A meter counts joules of everything on its rails, whoever used them. So a measurement takes the idle power off, and is
wrong while something else works on the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Protocol


class Meter(Protocol):
    """Counts energy."""

    @property
    def name(self) -> str:
        """Which sensors: "rapl package-0, dram"."""
        ...

    @property
    def window_s(self) -> float:
        """The shortest time over which a difference of two readings means something."""
        ...

    def energy_j(self) -> float:
        """Joules since some fixed moment; never falls. Call it at least every few minutes: counters wrap.

        Raises:
            OSError: the sensor has gone.
        """
        ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class FoundMeter:
    """A meter, or why there is none."""

    meter: Meter | None
    reason: str = ""


class SumMeter:
    """Several meters of parts that do not contain one another (processor and GPU)."""

    def __init__(self, meters: Sequence[Meter]) -> None:
        self._meters = list(meters)
        self.name = " + ".join(meter.name for meter in self._meters)
        self.window_s = max(meter.window_s for meter in self._meters)

    def energy_j(self) -> float:
        return sum(meter.energy_j() for meter in self._meters)

    def close(self) -> None:
        for meter in self._meters:
            meter.close()


def find_meter(root: Path = Path("/"), *, gpu: bool = False) -> FoundMeter:
    """The sensors of this device.

    A board's own sensors come first: they see all of it. Otherwise the processor's counters, and the GPU's if one is
    used.

    Args:
        root: where /sys lies; tests make their own.
        gpu: whether the backend runs on an NVIDIA GPU.
    """
    from .energy_hwmon import find_hwmon
    from .energy_rapl import find_rapl

    board = find_hwmon(root)
    if board.meter is not None:
        return board
    parts = [find_rapl(root)]
    if gpu:
        from .energy_nvml import find_nvml

        parts.append(find_nvml())
        if parts[1].meter is None:  # the processor's energy alone would be taken for all of it
            return FoundMeter(None, parts[1].reason)
    meters = [part.meter for part in parts if part.meter is not None]
    if meters:
        return FoundMeter(meters[0] if len(meters) == 1 else SumMeter(meters))
    return FoundMeter(None, "; ".join(part.reason for part in (board, *parts)))


def mean_power_w(
    meter: Meter, seconds: float, *, work: Callable[[], object], clock: Callable[[], float] = perf_counter
) -> float:
    """Mean power in watts over at least `seconds`, and the meter's window, while `work` runs again and again."""
    seconds = max(seconds, meter.window_s)
    started, before = clock(), meter.energy_j()
    while (elapsed := clock() - started) < seconds:
        work()
    return (meter.energy_j() - before) / elapsed
