"""What a running stream prints: one line that is rewritten, one line a second, or one JSON document a line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..runtime.health.reading import Reading
    from ..runtime.stream.pilot import Choice, Pilot
    from ..runtime.stream.pipeline import Stream

EVERY_S = 1.0
IN_PLACE_EVERY_S = 0.25


class LiveLine:
    """Prints where a stream stands, as often as it is worth reading, on stdout."""

    def __init__(
        self,
        stream: Stream,
        pilot: Pilot,
        *,
        json: bool,
        health: Callable[[], Reading | None] = lambda: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._stream, self._pilot, self._json, self._health, self._clock = stream, pilot, json, health, clock
        self._in_place = not json and sys.stdout.isatty()
        self._every_s = IN_PLACE_EVERY_S if self._in_place else EVERY_S
        self._next_s = clock() + self._every_s

    def update(self) -> None:
        """Print if it is time."""
        if self._clock() < self._next_s:
            return
        self._next_s += self._every_s
        if self._json:
            print(to_json_line(self.report()), flush=True)
        elif self._in_place:
            print(f"\r{self.text()}\x1b[K", end="", flush=True)
        else:
            print(self.text(), flush=True)

    def close(self) -> None:
        """Leave the line that was rewritten."""
        if self._in_place:
            print("\r\x1b[K", end="", flush=True)

    def text(self) -> str:
        """The line for people."""
        from ..runtime.stream.pipeline import short_plan

        stats, choice = self._stream.stats(), self._stream.choice
        parts = [f"{clock_time(stats.seconds)}  {stats.fps:.1f} of {stats.asked_fps:g} fps"]
        if choice is not None and stats.latency_ms is not None:
            parts += [short_plan(choice.plan), f"{stats.latency_ms:.1f} of {self._pilot.budget_ms:.1f} ms"]
        parts.append(f"{stats.dropped} dropped")
        if stats.reconnects:
            parts.append(f"{stats.reconnects} reconnects")
        health = self._health()
        if health is not None and health.text():
            parts.append(health.text())
        return " | ".join(parts)

    def report(self) -> dict[str, Any]:
        """The line for machines."""
        choice, controller, health = self._stream.choice, self._pilot.controller.state, self._health()
        return {
            **self._stream.stats().to_json(),
            "budget_ms": round(self._pilot.budget_ms, 3),
            "slowdown": round(controller.slowdown, 4),
            "plan": None if choice is None else plan_json(choice),
            "health": None if health is None else health.to_json(),
        }


def plan_json(choice: Choice) -> dict[str, Any]:
    """The part of a plan that changes while a stream runs."""
    plan = choice.plan
    return {
        "encoder_width": plan.encoder_width,
        "top_k": plan.top_k,
        "decoder_widths": plan.decoder_widths,
        "flops": plan.flops,
        "share": round(plan.share, 4),
        "predicted_ms": round(choice.predicted_ms, 3),
    }


def to_json_line(document: dict[str, Any]) -> str:
    """A document on one line."""
    import msgspec

    return msgspec.json.encode(document).decode()


def clock_time(seconds: float) -> str:
    """Minutes and seconds, with hours where there are any: 02:07, 1:00:09."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"
