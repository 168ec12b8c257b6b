"""A request on its way: `Job` as it comes in, `Ticket` while it waits and runs, `Outcome` as it is answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from itertools import count

from ...runtime.request import Request
from ...runtime.result import Result
from .ladder import Ladder


@dataclass
class Job:
    """One request.

    Args:
        request: the image decoded already: uint8 HWC RGB.
        deadline_s: on the scheduler's clock (`time.monotonic`); None for none.
        priority: higher goes first among a client's own requests; within plus and minus `settings.HIGHEST_PRIORITY`.
        client: whom fairness counts it to, an API key's id or an address.
        request_id: for logs.
        number: no other job of this process has it.
    """

    request: Request
    deadline_s: float | None = None
    priority: int = 0
    client: str = ""
    request_id: str = ""
    number: int = field(default_factory=count().__next__)


@dataclass(frozen=True)
class Outcome:
    """An answer, and how it came about.

    Args:
        queue_ms: from `submit` until its engine call began.
        batch_size: requests in that call.
        degraded: a narrower plan than the one asked for, because of load or deadline.
        slack_ms: what was left until the deadline; None without one.
    """

    result: Result
    queue_ms: float
    batch_size: int
    degraded: bool
    slack_ms: float | None


class State(Enum):
    """Where a ticket is."""

    WAITING = "waiting"
    RUNNING = "running"
    SETTLED = "settled"


@dataclass(eq=False)
class Ticket:
    """An accepted job.

    Args:
        ladder: the plans that may answer it, the one asked for first.
        due_s: its deadline, or when its patience ends.
        settle: takes the outcome or the error, from any thread; further calls do nothing.
        probe: accepted against the prediction, to see whether it still holds.
    """

    job: Job
    ladder: Ladder
    arrived_s: float
    due_s: float
    settle: Callable[[Outcome | Exception], None]
    sequence: int = 0
    state: State = State.WAITING
    probe: bool = False

    @property
    def client(self) -> str:
        return self.job.client

    @property
    def has_deadline(self) -> bool:
        return self.job.deadline_s is not None
