"""What Prometheus is told. Each metric with its labels and what to make of it: docs/observability.md.

Labels have few values: names of models that were configured, widths and tasks of their bundles, routes as they are
declared. Nothing that a client sends becomes a label.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder

from ..runtime.errors import BackendError, SlimpathError
from .metrics_collectors import LostLines, MemoryCollector, ModelCollector
from .scheduler.errors import Late, Refused, Unavailable

if TYPE_CHECKING:
    from .model import Model
    from .registry import ModelRegistry
    from .scheduler.job import Job, Outcome

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
RATIOS = (0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 4.0)
BATCHES = (1, 2, 3, 4, 6, 8, 12, 16, 32)
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"))
OTHER = "other"
# How a job may end; the first five are misses where it had a deadline.
MISSES = ("refused", "client_limit", "late", "unavailable", "failed")


class Metrics:
    """All metrics of a server, in a registry of its own. An `Observer` of models; see `watch` for the rest.

    Methods may be called from any thread.
    """

    def __init__(self) -> None:
        disable_created_metrics()  # of the whole process: a second series per counter that nobody asks for
        self.registry = CollectorRegistry()
        counter, histogram = self._counter, self._histogram
        self.http = counter("http_requests", "HTTP requests by route.", "method", "route", "status")
        self.http_seconds = histogram("http_request_seconds", "From the headers to the end.", SECONDS, "route")
        self.http_in_progress = Gauge(
            "slimpath_http_requests_in_progress", "HTTP requests being answered.", registry=self.registry
        )
        self.inferences = counter("inferences", "Images by how they ended.", "model", "outcome")
        self.inference_seconds = histogram("inference_seconds", "Of answered images: queue and call.", SECONDS, "model")
        self.queue_seconds = histogram("queue_seconds", "Of answered images: until their call began.", SECONDS, "model")
        self.plans = counter("plans", "Answers by configuration.", "model", "width", "top_k", "size", "backend")
        self.tasks = counter("task_answers", "Answers by task.", "model", "task")
        self.slo = counter(
            "slo", "Images with a deadline: met, or missed (also by refusal at admission).", "model", "result"
        )
        self.degraded = counter("degraded", "Answers with a narrower plan than asked for.", "model")
        self.budget_unmet = counter("budget_unmet", "Answers that cost more than their budget.", "model")
        self.energy = counter("predicted_energy_joules", "Of answers whose profile knows energy.", "model")
        self.batch_size = histogram("batch_size", "Images that shared an engine call.", BATCHES, "model")
        self.engine_seconds = histogram("engine_call_seconds", "Engine calls.", SECONDS, "model")
        self.prediction = histogram("prediction_ratio", "Time of an engine call over its prediction.", RATIOS, "model")
        self.registry.register(MemoryCollector())
        self.registry.register(LostLines())
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(f"slimpath_{name}", help_text, labels, registry=self.registry)

    def _histogram(self, name: str, help_text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"slimpath_{name}", help_text, labels, buckets=buckets, registry=self.registry)

    def watch(self, models: ModelRegistry) -> None:
        """Also tell what the models and their schedulers hold, whenever somebody asks. Call it once."""
        self.registry.register(ModelCollector(models))

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The page for Prometheus, and its Content-Type: OpenMetrics if `accept` asks for it. Takes milliseconds."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    # --- Observer -------------------------------------------------------------------------------------------------

    def answered(self, model: Model, job: Job, outcome: Outcome, seconds: float) -> None:
        name, plan = model.name, outcome.result.plan
        self.inferences.labels(name, "answered").inc()
        self.inference_seconds.labels(name).observe(seconds)
        self.queue_seconds.labels(name).observe(outcome.queue_ms / 1e3)
        size = f"{plan.size_hw[0]}x{plan.size_hw[1]}"
        self.plans.labels(name, f"{plan.encoder_width:g}", str(plan.top_k), size, model.backend).inc()
        for task in plan.tasks:
            self.tasks.labels(name, task).inc()
        if job.deadline_s is not None:
            in_time = outcome.slack_ms is None or outcome.slack_ms >= 0
            self.slo.labels(name, "met" if in_time else "missed").inc()
        if outcome.degraded:
            self.degraded.labels(name).inc()
        if not plan.budget_met:
            self.budget_unmet.labels(name).inc()
        if plan.energy_mj is not None:
            self.energy.labels(name).inc(plan.energy_mj / 1e3)

    def failed(self, model: Model, job: Job, error: BaseException, seconds: float) -> None:
        kind = kind_of(error)
        self.inferences.labels(model.name, kind).inc()
        if job.deadline_s is not None and kind in MISSES:
            self.slo.labels(model.name, "missed").inc()

    # --- others ---------------------------------------------------------------------------------------------------

    def of_scheduler(self, model_name: str) -> EngineCalls:
        """What a scheduler is given as its `metrics`."""
        return EngineCalls(self, model_name)

    def http_answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request has ended. `route` is one that is declared, or `OTHER`; 499 is a client that hung up."""
        known = method if method in METHODS else OTHER
        self.http.labels(known, route, str(status)).inc()
        self.http_seconds.labels(route).observe(seconds)


class EngineCalls:
    """`SchedulerMetrics` of one model."""

    def __init__(self, metrics: Metrics, name: str) -> None:
        self._batch_size = metrics.batch_size.labels(name)
        self._seconds = metrics.engine_seconds.labels(name)
        self._prediction = metrics.prediction.labels(name)

    def engine_called(self, *, batch_size: int, seconds: float, predicted_s: float) -> None:
        self._batch_size.observe(batch_size)
        self._seconds.observe(seconds)
        if predicted_s > 0:
            self._prediction.observe(seconds / predicted_s)


def kind_of(error: BaseException) -> str:
    """How a job that was not answered ended, in one word."""
    if isinstance(error, Refused):
        return "client_limit" if error.per_client else "refused"
    kinds = ((Late, "late"), (Unavailable, "unavailable"), (asyncio.CancelledError, "cancelled"),
             (BackendError, "failed"), (SlimpathError, "bad_request"))  # fmt: skip
    return next((word for kind, word in kinds if isinstance(error, kind)), "failed")
