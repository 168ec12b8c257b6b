"""The surfaces of a profile: latency, activations and power of each kind of graph, over where runs lie."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

from .profile_data import GraphPoint
from .profile_model import Spot, Surface

_LEAST_MS = 1e-4  # what took less than the clock can tell
_LEAST_MB = 0.01
_LEAST_W = 1e-3


class Surfaces:
    """Latency, activations and power of one kind of graph; None where nothing was measured."""

    def __init__(self, spots: list[Spot], points: list[GraphPoint]) -> None:
        self._spots, self._points = spots, points

    # Made when first asked: an engine that finds everything measured never needs them.

    @cached_property
    def latency(self) -> Surface | None:
        return surface_of(self._spots, [point.latency_ms for point in self._points])

    @cached_property
    def activations(self) -> Surface | None:
        known = [(spot, p.activations_mb) for spot, p in self._pairs() if p.activations_mb is not None]
        return surface_of([spot for spot, _ in known], [max(mb, _LEAST_MB) for _, mb in known])

    @cached_property
    def power(self) -> Surface | None:
        known = [(spot, p.power_w) for spot, p in self._pairs() if p.power_w is not None]
        return surface_of([flat(spot) for spot, _ in known], [max(watts, _LEAST_W) for _, watts in known])

    def _pairs(self) -> Iterable[tuple[Spot, GraphPoint]]:
        return zip(self._spots, self._points)


def flat(spot: Spot) -> Spot:
    """The same place under another law: power hardly depends on how much work there is, so it is a constant."""
    return Spot((1.0,), 0, spot.numbers, spot.labels)


def surface_of(spots: Sequence[Spot], values: Sequence[float]) -> Surface | None:
    return Surface(spots, [max(value, _LEAST_MS) for value in values]) if spots else None


def at(surface: Surface | None, spot: Spot) -> float | None:
    return None if surface is None else surface.at(spot)
