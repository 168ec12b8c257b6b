"""What the scheduler tells about itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class SchedulerStats:
    """A snapshot; the counts are since the start.

    Args:
        waiting: requests in the queue.
        running: requests in engine calls.
        runners: engine calls that can be made at a time; of these, `busy` are at work and `hung` do not answer.
        pool_backlog: decodes and encodes at work or waiting.
        load: seconds of computing asked for per second, of all requests, as asked for; `runners` is what can be done at
            full width.
        accepted, refused: at admission; `displaced` of the accepted gave their place to a client that had less.
        answered: in time, or without a deadline; of these, `degraded` by a narrower plan than asked for.
        late: accepted, not answered in time.
        cancelled: by the client.
        failed: the engine raised, or did not answer.
        engine_calls: that succeeded; `batched` is the requests in them.
        margin: 95th percentile over median of what calls take against what was predicted.
    """

    waiting: int
    running: int
    runners: int
    busy: int
    hung: int
    pool_backlog: int
    ready: bool
    draining: bool
    load: float
    margin: float
    accepted: int = 0
    refused: int = 0
    displaced: int = 0
    answered: int = 0
    degraded: int = 0
    late: int = 0
    cancelled: int = 0
    failed: int = 0
    engine_calls: int = 0
    batched: int = 0

    def to_json(self) -> dict[str, Any]:
        """Numbers and booleans by name."""
        return asdict(self)


class SchedulerMetrics(Protocol):
    """Is told what the outcome of a single job does not show; called from runner threads, and may not block."""

    def engine_called(self, *, batch_size: int, seconds: float, predicted_s: float) -> None:
        """An engine call that succeeded."""
        ...
