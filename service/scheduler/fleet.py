"""The runners as the desk sees them: who is busy, until when, and who no longer answers."""

from __future__ import annotations

from .choice import Batch
from .job import Ticket


class Fleet:
    """Runners by number."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._since_s: dict[int, float] = {}
        self._until_s: dict[int, float] = {}
        self._batches: dict[int, Batch] = {}
        self._hung: set[int] = set()
        self._forgiven_s: dict[int, float] = {}

    def begin(self, runner: int, batch: Batch, now_s: float) -> None:
        self._since_s[runner] = now_s
        self._until_s[runner] = now_s + batch.seconds
        self._batches[runner] = batch

    def end(self, runner: int) -> Batch | None:
        """It is free; also one that had been given up. Its batch, None if it had none."""
        self._hung.discard(runner)
        self._since_s.pop(runner, None)
        self._until_s.pop(runner, None)
        self._forgiven_s.pop(runner, None)
        return self._batches.pop(runner, None)

    def began_s(self, runner: int) -> float:
        """When its call began; it must be at work."""
        return self._since_s[runner]

    def tickets(self) -> list[Ticket]:
        """Of all calls."""
        return [ticket for batch in self._batches.values() for ticket in batch.tickets]

    def lose(self, runner: int) -> list[Ticket]:
        """It is gone for good; the tickets that it had."""
        batch = self.end(runner)
        self._hung.add(runner)
        return [] if batch is None else list(batch.tickets)

    def forgive(self, seconds: float) -> None:
        """Time in which no call could have gone on."""
        for runner in self._since_s:
            self._forgiven_s[runner] = self._forgiven_s.get(runner, 0.0) + seconds

    def overdue(self, now_s: float, limit_s: float) -> list[tuple[int, Batch]]:
        """Runners that have worked on one call for longer, each told once; from now on they are not counted on."""
        found = [
            (runner, self._batches[runner])
            for runner, since_s in self._since_s.items()
            if now_s - since_s - self._forgiven_s.get(runner, 0.0) > limit_s and runner not in self._hung
        ]
        self._hung.update(runner for runner, _ in found)
        return found

    @property
    def hung(self) -> int:
        """Runners that do not answer."""
        return len(self._hung)

    @property
    def busy(self) -> int:
        """Runners at work, without those that do not answer."""
        return len(self._batches.keys() - self._hung)

    @property
    def running(self) -> int:
        """Requests in calls."""
        return len(self.tickets())

    def free_s(self, now_s: float) -> list[float]:
        """When each runner that answers is free, in no order; a call that takes longer than expected ends at once."""
        busy = [max(now_s, until_s) for runner, until_s in self._until_s.items() if runner not in self._hung]
        return busy + [now_s] * (self.count - len(self._hung) - len(busy))
