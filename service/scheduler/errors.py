"""What the scheduler answers instead of a result.

ServiceError (..errors)        the service cannot do what was asked
├── Refused                    not accepted: the queue is full, or the deadline cannot be met; retry later
├── Late                       accepted, and could then not be answered in time
└── Unavailable                the service is stopping, or its backend does not answer
"""

from __future__ import annotations

from ..errors import ServiceError


class Refused(ServiceError):
    """Not accepted.

    Args:
        retry_after_s: when a request like this one is expected to be accepted, from what is queued.
        per_client: it is this client's share that is used up; others are still accepted.
    """

    def __init__(self, message: str, *, retry_after_s: float, per_client: bool = False, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s
        self.per_client = per_client


class Late(ServiceError):
    """Accepted, and could then not be answered before its deadline."""


class Unavailable(ServiceError):
    """Nobody is answered now.

    Args:
        retry_after_s: a guess.
    """

    def __init__(self, message: str, *, retry_after_s: float = 1.0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s
