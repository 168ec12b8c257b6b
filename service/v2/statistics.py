"""What each model has answered so far, in the shape of Triton's statistics extension.

A time is counted in nanoseconds. `execution_count` counts engine calls: each of the b requests of a call adds 1/b.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..model import VERSION

if TYPE_CHECKING:
    from ..model import Model
    from ..scheduler.job import Job, Outcome

_MS = 1_000_000  # nanoseconds


@dataclass
class _Timer:
    count: int = 0
    ns: int = 0

    def add(self, milliseconds: float) -> None:
        self.count += 1
        self.ns += round(milliseconds * _MS)

    def json(self) -> dict[str, int]:
        return {"count": self.count, "ns": self.ns}


@dataclass
class _Batch:
    executions: float = 0.0
    infer_ms: float = 0.0


@dataclass
class _ModelStatistics:
    last_unix_ms: int = 0
    executions: float = 0.0
    success: _Timer = field(default_factory=_Timer)
    fail: _Timer = field(default_factory=_Timer)
    queue: _Timer = field(default_factory=_Timer)
    compute_input: _Timer = field(default_factory=_Timer)
    compute_infer: _Timer = field(default_factory=_Timer)
    compute_output: _Timer = field(default_factory=_Timer)
    batches: dict[int, _Batch] = field(default_factory=dict)


class Statistics:
    """Told about every job (`model.Observer`). Kept by the model's name, so that a reload does not reset them."""

    def __init__(self) -> None:
        self._models: dict[str, _ModelStatistics] = {}

    def answered(self, model: Model, job: Job, outcome: Outcome, seconds: float) -> None:
        found = self._of(model.name)
        timings_ms = outcome.result.timings_ms
        infer_ms = timings_ms.get("encoder", 0.0) + timings_ms.get("heads", 0.0)
        found.last_unix_ms = int(time.time() * 1e3)
        found.executions += 1 / outcome.batch_size
        found.success.add(seconds * 1e3)
        found.queue.add(outcome.queue_ms)
        found.compute_input.add(timings_ms.get("preprocess", 0.0))
        found.compute_infer.add(infer_ms)
        found.compute_output.add(timings_ms.get("postprocess", 0.0))
        batch = found.batches.setdefault(outcome.batch_size, _Batch())
        batch.executions += 1 / outcome.batch_size
        batch.infer_ms += infer_ms / outcome.batch_size

    def failed(self, model: Model, job: Job, error: BaseException, seconds: float) -> None:
        self._of(model.name).fail.add(seconds * 1e3)

    def to_json(self, name: str) -> dict[str, Any]:
        """One entry of `model_stats`."""
        found = self._of(name)
        timers = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
        return {
            "name": name,
            "version": VERSION,
            "last_inference": found.last_unix_ms,
            "inference_count": found.success.count,
            "execution_count": round(found.executions),
            "inference_stats": {
                **{timer: getattr(found, timer).json() for timer in timers},
                "cache_hit": {"count": 0, "ns": 0},
                "cache_miss": {"count": 0, "ns": 0},
            },
            "batch_stats": [_batch_json(size, batch) for size, batch in sorted(found.batches.items())],
        }

    def _of(self, name: str) -> _ModelStatistics:
        return self._models.setdefault(name, _ModelStatistics())


def _batch_json(size: int, batch: _Batch) -> dict[str, Any]:
    count = max(1, round(batch.executions))
    empty = {"count": 0, "ns": 0}
    infer = {"count": count, "ns": round(batch.infer_ms * _MS)}
    return {"batch_size": size, "compute_input": empty, "compute_infer": infer, "compute_output": empty}
