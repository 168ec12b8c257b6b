"""Fair shares of computing among clients that wait.

Each client has an account of the seconds that were computed for it. Whoever is more than `ahead_s` beyond the least of
the clients that wait has had its share, and goes after those who have not: with several clients at once each gets an
equal part, whoever sends most; a client alone gets everything. Who comes back after a pause starts at the present
least: pauses are not saved up.
"""

from __future__ import annotations

MAX_IDLE = 4096


class Shares:
    """Accounts by client."""

    def __init__(self, ahead_s: float) -> None:
        self._ahead_s = ahead_s
        self._used_s: dict[str, float] = {}
        self._waiting: dict[str, int] = {}
        self._least_s = 0.0

    def enter(self, client: str) -> None:
        """One more of its requests waits."""
        count = self._waiting.get(client, 0)
        if count == 0:
            self._used_s[client] = max(self._used_s.get(client, 0.0), self._least())
        self._waiting[client] = count + 1
        if len(self._used_s) > MAX_IDLE + len(self._waiting):
            self._forget_idle()

    def leave(self, client: str) -> None:
        """One fewer waits."""
        count = self._waiting[client] - 1
        if count:
            self._waiting[client] = count
        else:
            self._least_s = self._least()
            del self._waiting[client]

    def charge(self, client: str, seconds: float) -> None:
        """Computing that was done for it."""
        self._used_s[client] = self._used_s.get(client, self._least()) + seconds

    def waiting(self, client: str) -> int:
        """How many of its requests wait."""
        return self._waiting.get(client, 0)

    def had_share(self) -> set[str]:
        """The waiting clients that others go before."""
        if len(self._waiting) < 2:
            return set()
        bound_s = self._least() + self._ahead_s
        return {client for client in self._waiting if self._used_s[client] > bound_s}

    def _least(self) -> float:
        """What the client that had least of those who wait has had; never less than it once was."""
        if self._waiting:
            self._least_s = max(self._least_s, min(self._used_s[client] for client in self._waiting))
        return self._least_s

    def _forget_idle(self) -> None:
        """Those behind the present least would start at it anyway."""
        for client in [c for c, used in self._used_s.items() if c not in self._waiting and used <= self._least_s]:
            del self._used_s[client]
