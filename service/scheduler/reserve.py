"""How much of a deadline is needed after the engine's answer: encoding it, and writing it to the socket.

The scheduler's deadline is when the engine has to be done. Whoever promises the end of the whole answer takes the
reserve off before `submit`, and says afterwards what was needed.
"""

from __future__ import annotations

RATE = 0.1
DEVIATIONS = 2.0
MAX_KINDS = 256


class Reserve:
    """Mean plus two deviations of what was needed, by kind of answer. For one event loop."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, float]] = {}

    def seconds(self, kind: str) -> float:
        """To be kept free for an answer of this kind; 0 while nothing is known."""
        mean, deviation = self._known.get(kind, (0.0, 0.0))
        return mean + DEVIATIONS * deviation

    def observe(self, kind: str, seconds: float) -> None:
        """An answer of this kind took so long to be encoded and sent."""
        if not seconds >= 0:
            return
        if kind not in self._known:
            if len(self._known) < MAX_KINDS:  # kinds come from requests: a client may invent them
                self._known[kind] = seconds, seconds / 4
            return
        mean, deviation = self._known[kind]
        off = seconds - mean
        self._known[kind] = mean + RATE * off, deviation + RATE * (abs(off) - deviation)
